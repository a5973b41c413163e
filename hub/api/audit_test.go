package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// storeless are commands whose store fails when all else is done.
type storeless struct{ api.Commands }

func (storeless) Send(_ context.Context, r commands.Request) (commands.Command, bool, error) {
	r.Witness(commands.Command{ID: "k", Device: r.Device, Spec: r.Spec})()
	return commands.Command{}, false, errors.New("the disk is gone")
}

// A command that was granted in the audit log, and then could not be stored,
// has a second record, which says so.
func TestAuditSaysWhenAGrantedCommandFailed(t *testing.T) {
	h := newHub(t, func(d *api.Deps) { d.Commands = storeless{d.Commands} })
	h.device("a-0", "a")
	ctx := testContext(t)
	c := h.as(h.token("ann", registry.RoleOperator, ""))
	wantCode(t, "SendCommand", fail(c.commands.SendCommand(ctx, req(toDevice("a-0", "k")))), connect.CodeInternal)
	records := must(h.as(h.admin).operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{})))(t).Msg.GetRecords()
	var got []string
	for _, r := range records {
		if r.GetOperator() == "ann" {
			got = append(got, strings.Join([]string{r.GetSubject(), r.GetOutcome(), r.GetDetail()}, "|"))
		}
	}
	want := []string{
		"a-0|internal|command=set-relay id=k existed=false",
		"a-0|ok|command=set-relay id=k existed=false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A command that is stored, and whose record is not when the hub is killed,
// has its record after the next start, once.
func TestAuditIsCompleteAfterAKill(t *testing.T) {
	var deps api.Deps
	h := newHub(t, func(d *api.Deps) { deps = *d })
	h.device("a-0", "a")
	ctx := testContext(t)
	c := h.as(h.token("ann", registry.RoleOperator, ""))
	must(c.commands.SendCommand(ctx, req(toDevice("a-0", "before"))))(t)
	spec := commands.Spec{Name: "set-relay", Payload: commands.Payload{JSON: `{"on":true}`}}
	for _, r := range []commands.Request{
		{Device: "a-0", Key: "lost", Operator: "bob", Spec: spec},
		{Device: "a-0", Key: "of-nobody", Spec: spec},
	} { // stored, and not recorded: nobody is its witness
		if _, _, err := h.commands.Send(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	must(c.commands.SendCommand(ctx, req(toDevice("a-0", "after"))))(t)
	// Repeated, as a caller does who has got no answer: that is another call.
	must(c.commands.SendCommand(ctx, req(toDevice("a-0", "lost"))))(t)
	for range 2 {
		server := must(api.New(deps))(t)
		server.MendedAudit()
		server.Close()
	}
	var got []string
	for _, r := range must(h.as(h.admin).operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{})))(t).Msg.GetRecords() {
		got = append(got, strings.Join([]string{r.GetOperator(), r.GetMethod(), r.GetSubject(), r.GetOutcome(), r.GetDetail()}, "|"))
	}
	want := []string{
		"bob|CommandService/SendCommand|a-0|ok|command=set-relay id=lost existed=false; written after the hub was killed",
		"ann|CommandService/SendCommand|a-0|ok|command=set-relay id=lost existed=true",
		"ann|CommandService/SendCommand|a-0|ok|command=set-relay id=after existed=false",
		"ann|CommandService/SendCommand|a-0|ok|command=set-relay id=before existed=false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
