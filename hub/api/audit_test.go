package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// audited lists what the audit log has of an operator, newest first.
func (h *hub) audited(operator string) (lines []string) {
	h.t.Helper()
	answer := must(h.as(h.admin).operators.ListAudit(testContext(h.t), req(&operatorv1.ListAuditRequest{})))(h.t)
	for _, r := range answer.Msg.GetRecords() {
		if r.GetOperator() == operator {
			lines = append(lines, strings.Join([]string{r.GetSubject(), r.GetOutcome(), r.GetDetail()}, "|"))
		}
	}
	return lines
}

// storeless are commands whose store fails when all else is done.
type storeless struct{ api.Commands }

func (storeless) Send(context.Context, commands.Request) (commands.Command, bool, error) {
	return commands.Command{}, false, errors.New("the disk is gone")
}

// A command that could not be stored has a record that says so.
func TestAuditSaysWhenACommandFailed(t *testing.T) {
	h := newHub(t, func(d *api.Deps) { d.Commands = storeless{d.Commands} })
	h.device("a-0", "a")
	c := h.as(h.token("ann", registry.RoleOperator, ""))
	wantCode(t, "SendCommand", fail(c.commands.SendCommand(testContext(t), req(toDevice("a-0", "k")))), connect.CodeInternal)
	if got := h.audited("ann"); len(got) != 1 || !strings.HasPrefix(got[0], "a-0|internal|") {
		t.Errorf("records %q", got)
	}
}

// A command has one record, which is there as soon as anybody looks; sending
// it again with its key has one of its own.
func TestAuditHasACommandAtOnce(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	c := h.as(h.token("ann", registry.RoleOperator, ""))
	var want []string
	for i := range 3 {
		c.send(t, toDevice("a-0", fmt.Sprint("k", i)))
		want = slices.Insert(want, 0, fmt.Sprintf("a-0|ok|command=set-relay id=k%d existed=false", i))
		if got := h.audited("ann"); !slices.Equal(got, want) {
			t.Fatalf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	c.send(t, toDevice("a-0", "k0"))
	want = slices.Insert(want, 0, "a-0|ok|command=set-relay id=k0 existed=true")
	if got := h.audited("ann"); !slices.Equal(got, want) {
		t.Fatalf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
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
	} { // stored, and not recorded: the API does that
		if _, _, err := h.commands.Send(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := h.commands.SendGroup(ctx, commands.GroupRequest{Selector: "site=a", Key: "lost-group", Operator: "bob", Spec: spec}); err != nil {
		t.Fatal(err)
	}
	must(c.commands.SendGroupCommand(ctx, req(&operatorv1.SendGroupCommandRequest{
		Selector: "site=a", Key: "kept-group", Spec: &operatorv1.CommandSpec{Name: "set-relay"},
	})))(t)
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
		"bob|CommandService/SendGroupCommand|site=a|ok|command=set-relay group=lost-group devices=1 existed=false; written after the hub was killed",
		"bob|CommandService/SendCommand|a-0|ok|command=set-relay id=lost existed=false; written after the hub was killed",
		"ann|CommandService/SendCommand|a-0|ok|command=set-relay id=lost existed=true",
		"ann|CommandService/SendCommand|a-0|ok|command=set-relay id=after existed=false",
		"ann|CommandService/SendGroupCommand|site=a|ok|command=set-relay group=kept-group devices=1 existed=false",
		"ann|CommandService/SendCommand|a-0|ok|command=set-relay id=before existed=false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What keeps the hub from completing the audit log after a kill is tried again,
// and no new command is accepted until it is complete: one that is killed again
// must look back from the time of the first kill.
func TestAuditIsCompletedBeforeNewCommands(t *testing.T) {
	var away atomic.Bool
	var asked atomic.Int32
	var deps api.Deps
	h := newHub(t, func(d *api.Deps) {
		status := d.Status
		d.Status = func(ctx context.Context) (*operatorv1.GetStatusResponse, error) {
			asked.Add(1)
			if away.Load() {
				return nil, errors.New("away")
			}
			return status(ctx)
		}
		deps = *d
	})
	h.device("a-0", "a")
	ctx := testContext(t)
	if _, _, err := h.commands.Send(ctx, commands.Request{Device: "a-0", Key: "lost", Operator: "bob", Spec: commands.Spec{Name: "set-relay"}}); err != nil {
		t.Fatal(err)
	}
	h.server.MendedAudit()
	before := asked.Load()
	away.Store(true)
	h.server.Close()
	h.http.Client().CloseIdleConnections()
	h.http.Close()
	h.serve([]func(*api.Deps){func(d *api.Deps) { *d = deps }})
	sent := make(chan error, 1)
	go func() {
		_, err := h.as(h.admin).commands.SendCommand(ctx, req(toDevice("a-0", "new")))
		sent <- err
	}()
	eventually(t, "it is tried again", func() bool { return asked.Load() >= before+2 })
	if _, _, err := h.commands.Get(ctx, "new"); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("accepted before the audit log was complete: %v", err)
	}
	away.Store(false)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if got := h.audited("bob"); len(got) != 1 {
		t.Errorf("records of the lost command: %q", got)
	}
}
