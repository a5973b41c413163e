package api_test

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// wantAlike fails unless a thing that is hidden is answered as one that does
// not exist.
func wantAlike(t *testing.T, what string, call func(id string) error, hidden string) {
	t.Helper()
	got, absent := call(hidden), call("absent")
	wantCode(t, what, got, connect.CodeNotFound)
	if got != nil && absent != nil && got.Error() != strings.ReplaceAll(absent.Error(), "absent", hidden) {
		t.Errorf("%s: a hidden one can be told from none: %v and %v", what, got, absent)
	}
}

// An operator who is bound reaches no device outside, and sees neither the
// commands to those nor the groups of others.
func TestCommandsOfABoundOperator(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	for _, id := range []string{"a-0", "a-1", "b-0"} {
		h.device(id, id[:1])
	}
	root := h.as(h.admin)
	root.send(t, toDevice("a-0", "visible"))
	root.send(t, toDevice("b-0", "hidden"))
	c := h.as(h.token("ann", registry.RoleOperator, "site=a")).commands
	wantAlike(t, "send", func(id string) error { return fail(c.SendCommand(ctx, req(toDevice(id, "")))) }, "b-0")
	wantAlike(t, "get, show and why", func(id string) error {
		return fail(c.GetCommand(ctx, req(&operatorv1.GetCommandRequest{Id: id})))
	}, "hidden")
	wantAlike(t, "cancel", func(id string) error {
		return fail(c.CancelCommand(ctx, req(&operatorv1.CancelCommandRequest{Id: id})))
	}, "hidden")
	wantAlike(t, "list of a device", func(id string) error {
		return fail(c.ListCommands(ctx, req(&operatorv1.ListCommandsRequest{DeviceId: id})))
	}, "b-0")
	wantAlike(t, "watch of a command", func(id string) error {
		stream := must(c.WatchCommands(ctx, req(&operatorv1.WatchCommandsRequest{Id: id})))(t)
		defer stream.Close()
		stream.Receive()
		return stream.Err()
	}, "hidden")
	wantAlike(t, "watch of a device", func(id string) error {
		stream := must(c.WatchCommands(ctx, req(&operatorv1.WatchCommandsRequest{DeviceId: id})))(t)
		defer stream.Close()
		stream.Receive()
		return stream.Err()
	}, "b-0")
	for name, m := range map[string]*operatorv1.ListCommandsRequest{"all": {}, "selector": {Selector: "site"}, "device": {DeviceId: "a-0"}} {
		list := must(c.ListCommands(ctx, req(m)))(t).Msg
		if len(list.GetCommands()) != 1 || list.GetCommands()[0].GetId() != "visible" || list.GetNextPageToken() != "" {
			t.Errorf("list by %s: %v", name, list)
		}
	}
	if list := must(c.ListCommands(ctx, req(&operatorv1.ListCommandsRequest{Selector: "site=b"})))(t).Msg; len(list.GetCommands()) != 0 {
		t.Errorf("list by a selector outside: %v", list)
	}
	// Keys are its own: one that is taken out of its reach is as good as any.
	if own := must(c.SendCommand(ctx, req(toDevice("a-1", "hidden"))))(t).Msg; own.GetExisted() || own.GetCommand().GetId() != h.boundID("ann", "hidden") {
		t.Errorf("the key of a hidden command: %v", own)
	}
	if got := must(root.commands.GetCommand(ctx, req(&operatorv1.GetCommandRequest{Id: "hidden"})))(t).Msg; len(got.GetEvents()) != 1 {
		t.Errorf("the hidden command has changed: %v", got)
	}
}

// A stream shows a bound operator what is inside, and follows the labels.
func TestWatchCommandsOfABoundOperator(t *testing.T) {
	h := newHub(t)
	for _, id := range []string{"a-0", "b-0"} {
		h.device(id, id[:1])
	}
	root := h.as(h.admin)
	stream := must(h.as(h.token("ann", registry.RoleViewer, "site=a")).commands.WatchCommands(testContext(t), req(&operatorv1.WatchCommandsRequest{})))(t)
	defer stream.Close()
	// The stream begins in the background: the first command tells when.
	seen := make(chan *operatorv1.Command, 64)
	go func() {
		defer close(seen)
		for stream.Receive() {
			seen <- stream.Msg().GetCommand()
		}
	}()
	eventually(t, "the stream has begun", func() bool {
		id := root.send(t, toDevice("a-0", "")).GetCommand().GetId()
		must(root.commands.CancelCommand(testContext(t), req(&operatorv1.CancelCommandRequest{Id: id})))(t)
		return len(seen) > 0
	})
	root.send(t, toDevice("b-0", "outside"))
	must(root.devices.LabelDevice(testContext(t), req(&operatorv1.LabelDeviceRequest{Id: "b-0", Set: map[string]string{"site": "a"}})))(t)
	root.send(t, toDevice("b-0", "inside"))
	for c := range seen {
		if c.GetId() == "outside" {
			t.Fatal("a command to a device outside is shown")
		}
		if c.GetId() == "inside" {
			return
		}
	}
	t.Fatal(stream.Err())
}

func TestGroupsOfABoundOperator(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	for _, id := range []string{"a-0", "a-1", "b-0"} {
		h.device(id, id[:1])
	}
	group := func(key, selector string) *connect.Request[operatorv1.SendGroupCommandRequest] {
		return req(&operatorv1.SendGroupCommandRequest{Key: key, Selector: selector, Spec: &operatorv1.CommandSpec{Name: "identify"}})
	}
	root, c := h.as(h.admin).commands, h.as(h.token("ann", registry.RoleOperator, "site=a")).commands
	if g := must(root.SendGroupCommand(ctx, group("others", "site")))(t).Msg.GetGroup(); g.GetTotal() != 3 {
		t.Errorf("the admin's group has %d devices", g.GetTotal())
	}
	if g := must(c.SendGroupCommand(ctx, group("mine", "site")))(t).Msg.GetGroup(); g.GetTotal() != 2 {
		t.Errorf("ann's group has %d devices, want the two of its own", g.GetTotal())
	}
	wantCode(t, "a group outside", fail(c.SendGroupCommand(ctx, group("", "site=b"))), connect.CodeInvalidArgument)
	wantCode(t, "no selector", fail(c.SendGroupCommand(ctx, group("", ""))), connect.CodeInvalidArgument)
	wantAlike(t, "get", func(id string) error { return fail(c.GetGroup(ctx, req(&operatorv1.GetGroupRequest{Id: id}))) }, "others")
	wantAlike(t, "cancel", func(id string) error {
		return fail(c.CancelGroup(ctx, req(&operatorv1.CancelGroupRequest{Id: id})))
	}, "others")
	must(root.SendGroupCommand(ctx, group("later", "site")))(t)
	must(c.SendGroupCommand(ctx, group("mine-too", "site")))(t)
	var ids []string
	for m := (&operatorv1.ListGroupsRequest{PageSize: 1}); ; {
		page := must(c.ListGroups(ctx, req(m)))(t).Msg
		for _, g := range page.GetGroups() {
			ids = append(ids, g.GetId())
		}
		if m.PageToken = page.GetNextPageToken(); m.PageToken == "" {
			break
		}
	}
	if got := strings.Join(ids, " "); got != h.boundID("ann", "mine-too")+" "+h.boundID("ann", "mine") {
		t.Errorf("listed %q, want its own, the newest first", got)
	}
	if again := must(c.SendGroupCommand(ctx, group("mine", "site")))(t).Msg; !again.GetExisted() {
		t.Error("the same key made another group")
	}
	if g := must(c.SendGroupCommand(ctx, group("others", "site")))(t).Msg; g.GetExisted() || g.GetGroup().GetTotal() != 2 {
		t.Errorf("the key of another's group: %v", g)
	}
	if g := must(c.GetGroup(ctx, req(&operatorv1.GetGroupRequest{Id: "mine"})))(t).Msg.GetGroup(); g.GetId() != h.boundID("ann", "mine") {
		t.Errorf("its group by its key: %v", g)
	}
	if b := must(c.ListCommands(ctx, req(&operatorv1.ListCommandsRequest{GroupId: "others"})))(t).Msg; len(b.GetCommands()) > 2 {
		t.Errorf("commands of another's group: %v", b)
	}
}

// A viewer sees all of it and changes nothing.
func TestViewerSendsNoCommand(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	h.device("a-0", "a")
	h.as(h.admin).send(t, toDevice("a-0", "k"))
	c := h.as(h.token("eve", registry.RoleViewer, "")).commands
	for name, call := range map[string]func() error{
		"send": func() error { return fail(c.SendCommand(ctx, req(toDevice("a-0", "")))) },
		"send to a group": func() error {
			return fail(c.SendGroupCommand(ctx, req(&operatorv1.SendGroupCommandRequest{Selector: "site", Spec: &operatorv1.CommandSpec{Name: "x"}})))
		},
		"cancel":         func() error { return fail(c.CancelCommand(ctx, req(&operatorv1.CancelCommandRequest{Id: "k"}))) },
		"cancel a group": func() error { return fail(c.CancelGroup(ctx, req(&operatorv1.CancelGroupRequest{Id: "g"}))) },
	} {
		wantCode(t, name, call(), connect.CodePermissionDenied)
	}
	if got := must(c.GetCommand(ctx, req(&operatorv1.GetCommandRequest{Id: "k"})))(t).Msg.GetCommand(); got.GetState() != operatorv1.CommandState_COMMAND_STATE_QUEUED {
		t.Errorf("%v", got)
	}
	if h.commands.Pending() != 1 {
		t.Errorf("%d pending", h.commands.Pending())
	}
}

// Each change is in the audit log with its outcome, and no payload is.
func TestCommandsAreAudited(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	h.device("a-0", "a")
	c := h.as(h.token("ann", registry.RoleOperator, ""))
	secret := toDevice("a-0", "k")
	secret.Spec.Payload = &operatorv1.CommandSpec_Json{Json: `{"pin":"sesame"}`}
	c.send(t, secret)
	c.send(t, secret)
	_ = fail(c.commands.SendCommand(ctx, req(toDevice("none", ""))))
	must(c.commands.CancelCommand(ctx, req(&operatorv1.CancelCommandRequest{Id: "k"})))(t)
	_ = fail(c.commands.CancelCommand(ctx, req(&operatorv1.CancelCommandRequest{Id: "k"})))
	must(c.commands.SendGroupCommand(ctx, req(&operatorv1.SendGroupCommandRequest{Selector: "site=a", Key: "g", Spec: &operatorv1.CommandSpec{Name: "identify"}})))(t)
	must(c.commands.CancelGroup(ctx, req(&operatorv1.CancelGroupRequest{Id: "g"})))(t)
	records := must(h.as(h.admin).operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{})))(t).Msg.GetRecords()
	var got []string
	for _, r := range records {
		if r.GetOperator() == "ann" {
			got = append(got, strings.Join([]string{r.GetMethod(), r.GetSubject(), r.GetOutcome(), r.GetDetail()}, "|"))
		}
	}
	want := []string{
		"CommandService/CancelGroup|g|ok|",
		"CommandService/SendGroupCommand|site=a|ok|command=identify group=g devices=1 existed=false",
		"CommandService/CancelCommand|k|failed_precondition|",
		"CommandService/CancelCommand|k|ok|device=a-0 command=set-relay",
		"CommandService/SendCommand|none|not_found|command=set-relay",
		"CommandService/SendCommand|a-0|ok|command=set-relay id=k existed=true",
		"CommandService/SendCommand|a-0|ok|command=set-relay id=k existed=false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, r := range records {
		if strings.Contains(r.String(), "sesame") {
			t.Error("the audit log has a payload")
		}
	}
}

// A revoked token ends the streams of commands too.
func TestRevocationEndsTheWatchOfCommands(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	h.as(h.admin).send(t, toDevice("a-0", "k"))
	stream := must(h.as(h.token("ann", registry.RoleViewer, "")).commands.WatchCommands(context.Background(), req(&operatorv1.WatchCommandsRequest{Id: "k"})))(t)
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if err := h.registry.DeleteOperator(testContext(t), "ann"); err != nil {
		t.Fatal(err)
	}
	if stream.Receive() {
		t.Error("a message after the revocation")
	}
	wantCode(t, "the stream", stream.Err(), connect.CodeUnauthenticated)
}
