package api_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// What is refused under a key can be asked for, in the words of the answer;
// a bound operator is told of its own calls only.
func TestRefusedCommandsAreTold(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	h.device("a-0", "a")
	h.device("b-0", "b")
	root, ann := h.as(h.admin), h.as(h.token("ann", registry.RoleOperator, "site=a"))
	refused := func(c clients, key string) (lines []string) {
		t.Helper()
		res := must(c.commands.ListRefusedCommands(ctx, req(&operatorv1.ListRefusedCommandsRequest{Key: key})))(t).Msg
		if res.GetSearchedSince() != nil {
			t.Errorf("a small log was not searched whole: %v", res)
		}
		for _, r := range res.GetRefused() {
			if r.GetTime() == nil {
				t.Errorf("no time: %v", r)
			}
			lines = append(lines, strings.Join([]string{r.GetOperator(), r.GetDeviceId() + r.GetSelector(), r.GetName(), r.GetCode(), r.GetReason()}, "|"))
		}
		return lines
	}
	words := func(err error) string { return strings.SplitN(err.Error(), ": ", 2)[1] }

	large := toDevice("a-0", "k")
	large.Spec.Payload = &operatorv1.CommandSpec_Json{Json: `{"pin":"` + strings.Repeat("sesame", commands.MaxPayloadBytes/6+1) + `"}`}
	tooLarge := fail(ann.commands.SendCommand(ctx, req(large)))
	wantCode(t, "a large payload", tooLarge, connect.CodeInvalidArgument)
	unknown := fail(root.commands.SendCommand(ctx, req(toDevice("none", "k"))))
	wantCode(t, "an unknown device", unknown, connect.CodeNotFound)
	nobody := fail(root.commands.SendGroupCommand(ctx, req(&operatorv1.SendGroupCommandRequest{Selector: "site=x", Key: "k", Spec: &operatorv1.CommandSpec{Name: "x"}})))
	wantCode(t, "a group of none", nobody, connect.CodeInvalidArgument)
	other := toDevice("a-0", "kk")
	other.Spec.Name = `x key=k`
	_ = fail(root.commands.SendCommand(ctx, req(other)))
	other.Key = ""
	_ = fail(root.commands.SendCommand(ctx, req(other)))
	root.send(t, toDevice("b-0", "k")) // accepted after all: no refusal

	of := map[string]string{
		"root group":   "root|site=x|x|invalid_argument|" + words(nobody),
		"root unknown": "root|none|set-relay|not_found|" + words(unknown),
		"ann":          "ann|a-0|set-relay|invalid_argument|" + words(tooLarge),
	}
	if got, want := strings.Join(refused(root, "k"), "\n"), of["root group"]+"\n"+of["root unknown"]+"\n"+of["ann"]; got != want {
		t.Errorf("root is told\n%s\nwant\n%s", got, want)
	}
	if got := strings.Join(refused(ann, "k"), "\n"); got != of["ann"] {
		t.Errorf("ann is told\n%s\nwant\n%s", got, of["ann"])
	}
	if got := refused(root, "never"); len(got) != 0 {
		t.Errorf("of an unused key: %q", got)
	}
	// A later operator of that name is another one: it is told nothing of the
	// first one's, and has keys of its own.
	annsKey := ann.send(t, toDevice("a-0", "hers")).GetCommand().GetId()
	if err := h.registry.DeleteOperator(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	ann = h.as(h.token("ann", registry.RoleOperator, "site=b"))
	if got := refused(ann, "k"); len(got) != 0 {
		t.Errorf("a later ann is told %q", got)
	}
	if sent := ann.send(t, toDevice("b-0", "hers")); sent.GetExisted() || sent.GetCommand().GetId() == annsKey {
		t.Errorf("a later ann's key is the first one's: %v", sent)
	}
	wantCode(t, "no key", fail(root.commands.ListRefusedCommands(ctx, req(&operatorv1.ListRefusedCommandsRequest{}))), connect.CodeInvalidArgument)
	records := must(root.operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{})))(t).Msg.GetRecords()
	for _, r := range records {
		if strings.Contains(r.String(), "sesame") {
			t.Error("the audit log has a payload")
		}
		if (r.GetOutcome() == "ok") != (r.GetReason() == "") {
			t.Errorf("outcome %s, reason %q", r.GetOutcome(), r.GetReason())
		}
	}
}

// A group names the members that got no command, and why; who is bound to a
// selector is named none that has left it.
func TestGroupNamesItsRefusals(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	for _, id := range []string{"a-0", "a-1", "a-2"} {
		h.device(id, "a")
	}
	root, ann := h.as(h.admin), h.as(h.token("ann", registry.RoleOperator, "site=a"))
	must(root.devices.SetDeviceEnabled(ctx, req(&operatorv1.SetDeviceEnabledRequest{Id: "a-1"})))(t)
	for range commands.DefaultMaxPending {
		root.send(t, toDevice("a-2", ""))
	}
	g := must(ann.commands.SendGroupCommand(ctx, req(&operatorv1.SendGroupCommandRequest{Selector: "site", Key: "g", Spec: &operatorv1.CommandSpec{Name: "x"}})))(t).Msg.GetGroup()
	if g.GetTotal() != 3 {
		t.Errorf("%d devices match", g.GetTotal())
	}
	names := func(c clients, id string) string {
		var got []string
		for _, r := range must(c.commands.GetGroup(ctx, req(&operatorv1.GetGroupRequest{Id: id})))(t).Msg.GetGroup().GetRefusals() {
			got = append(got, r.GetDeviceId()+" "+r.GetReason())
		}
		return strings.Join(got, "\n")
	}
	eventually(t, "both are refused", func() bool { return strings.Count(names(ann, "g"), "\n") == 1 })
	if got := names(ann, "g"); !strings.HasPrefix(got, "a-1 is disabled by root on 20") || !strings.HasSuffix(got, "\na-2 has 50 commands without an end, the most that it may have") {
		t.Errorf("refused:\n%s", got)
	}
	must(root.devices.LabelDevice(ctx, req(&operatorv1.LabelDeviceRequest{Id: "a-1", Set: map[string]string{"site": "b"}})))(t)
	if got := names(ann, "g"); strings.Contains(got, "a-1") {
		t.Errorf("a device out of reach is named:\n%s", got)
	}
	if got := names(root, g.GetId()); !strings.Contains(got, "a-1") {
		t.Errorf("the admin is named:\n%s", got)
	}
}

// Who has disabled a device, and when, is kept: whoever was first.
func TestDisabledDeviceNamesWhoDidIt(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	h.device("a-0", "a")
	ann := h.as(h.token("ann", registry.RoleOperator, ""))
	set := func(c clients, enabled bool) *operatorv1.Device {
		return must(c.devices.SetDeviceEnabled(ctx, req(&operatorv1.SetDeviceEnabledRequest{Id: "a-0", Enabled: enabled})))(t).Msg.GetDevice()
	}
	first := set(ann, false)
	if again := set(h.as(h.admin), false); first.GetDisabledBy() != "ann" || first.GetDisabledSince() == nil ||
		again.GetDisabledBy() != "ann" || !again.GetDisabledSince().AsTime().Equal(first.GetDisabledSince().AsTime()) {
		t.Errorf("%v, then %v", first, again)
	}
	_, err := ann.commands.SendCommand(ctx, req(toDevice("a-0", "")))
	if err == nil || !strings.Contains(err.Error(), "device a-0: device is disabled by ann on "+first.GetDisabledSince().AsTime().Format("2006-01-02 15:04:05")) {
		t.Errorf("a command to it: %v", err)
	}
	if d := set(ann, true); d.GetDisabledBy() != "" || d.GetDisabledSince() != nil {
		t.Errorf("enabled: %v", d)
	}
}
