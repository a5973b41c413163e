package api_test

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func TestIDsOfBoundKeys(t *testing.T) {
	long := strings.Repeat("x", commands.MaxIDBytes)
	seen := map[string]bool{}
	for _, operator := range []registry.Operator{
		{Name: "ann", Created: time.Unix(1, 1)}, {Name: "bob", Created: time.Unix(1, 1)}, {Name: "bob", Created: time.Unix(1, 2)},
	} {
		for _, key := range []string{"k", "k.1", "0198c1d2-7a3b-7c4d-8e5f-0123456789ab", long, long[1:] + "y", long[12:]} {
			id := api.BoundID(operator, key)
			if err := commands.CheckKey(id); err != nil || seen[id] || id != api.BoundID(operator, key) {
				t.Errorf("%s of %s: %q, %v", key, operator.Name, id, err)
			}
			if len(key) < 40 && !strings.HasPrefix(id, key+".") {
				t.Errorf("%q does not begin with %s", id, key)
			}
			seen[id] = true
		}
	}
}

// A bound operator's key is the same command again, by its key and by its id,
// and a conflict only with a command of its own; keys of others say nothing.
func TestKeysOfABoundOperator(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	h.device("a-0", "a")
	h.device("b-0", "b")
	root := h.as(h.admin)
	ann := h.as(h.token("ann", registry.RoleOperator, "site=a"))
	bob := h.as(h.token("bob", registry.RoleOperator, "site=a"))
	root.send(t, toDevice("b-0", "k"))
	free, taken := ann.send(t, toDevice("a-0", "free")), ann.send(t, toDevice("a-0", "k"))
	if free.GetExisted() || taken.GetExisted() {
		t.Errorf("a free key: %v; one that is taken out of reach: %v", free, taken)
	}
	if again := ann.send(t, toDevice("a-0", "k")); !again.GetExisted() || again.GetCommand().GetId() != taken.GetCommand().GetId() {
		t.Errorf("the same key: %v", again)
	}
	if other := bob.send(t, toDevice("a-0", "k")); other.GetExisted() {
		t.Errorf("the same key of another operator who is bound: %v", other)
	}
	different := toDevice("a-0", "k")
	different.Spec.Name = "other"
	_, err := ann.commands.SendCommand(ctx, req(different))
	wantCode(t, "its key for another command", err, connect.CodeAlreadyExists)
	if err == nil || !strings.Contains(err.Error(), `key k: `) || !strings.Contains(err.Error(), `("set-relay" to a-0, which is QUEUED)`) {
		t.Errorf("the conflict: %v", err)
	}
	for _, name := range []string{"k", taken.GetCommand().GetId()} {
		got := must(ann.commands.GetCommand(ctx, req(&operatorv1.GetCommandRequest{Id: name})))(t).Msg.GetCommand()
		if got.GetId() != taken.GetCommand().GetId() {
			t.Errorf("%s is %v", name, got)
		}
	}
	must(ann.commands.CancelCommand(ctx, req(&operatorv1.CancelCommandRequest{Id: "k"})))(t)
	if got := must(root.commands.GetCommand(ctx, req(&operatorv1.GetCommandRequest{Id: "k"})))(t).Msg.GetCommand(); got.GetState() != operatorv1.CommandState_COMMAND_STATE_QUEUED {
		t.Errorf("another's command was canceled by the same key: %v", got)
	}
	// An id that is somebody's command and its own key cancels neither.
	root.send(t, toDevice("a-0", "both"))
	ann.send(t, toDevice("a-0", "both"))
	wantCode(t, "cancel of what is two things", fail(ann.commands.CancelCommand(ctx, req(&operatorv1.CancelCommandRequest{Id: "both"}))), connect.CodeInvalidArgument)
	// Those who see all devices share their keys.
	if shared := h.as(h.token("eve", registry.RoleOperator, "")).send(t, toDevice("b-0", "k")); !shared.GetExisted() {
		t.Errorf("the key of another operator who sees all: %v", shared)
	}
	wantCode(t, "a bad key", fail(ann.commands.SendCommand(ctx, req(toDevice("a-0", "a b")))), connect.CodeInvalidArgument)
}

// A key that is a command's is a conflict for a group, and the reverse, and
// both say what has it; also within the keys of a bound operator, whom
// another's keys tell nothing.
func TestAKeyOfTheOtherKindIsAConflict(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	h.device("a-0", "a")
	root, ann := h.as(h.admin), h.as(h.token("ann", registry.RoleOperator, "site=a"))
	toGroup := func(key string) *connect.Request[operatorv1.SendGroupCommandRequest] {
		return req(&operatorv1.SendGroupCommandRequest{Selector: "site=a", Key: key, Spec: &operatorv1.CommandSpec{Name: "reboot"}})
	}
	for name, c := range map[string]clients{"one who sees all": root, "one who is bound": ann} {
		c.send(t, toDevice("a-0", "one"))
		must(c.commands.SendGroupCommand(ctx, toGroup("all")))(t)
		_, err := c.commands.SendGroupCommand(ctx, toGroup("one"))
		wantCode(t, name+", a group by the key of a command", err, connect.CodeAlreadyExists)
		if err == nil || !strings.Contains(err.Error(), `key one: the key was used for a different command ("set-relay" to a-0, which is QUEUED); nothing was sent`) {
			t.Errorf("%s: %v", name, err)
		}
		_, err = c.commands.SendCommand(ctx, req(toDevice("a-0", "all")))
		wantCode(t, name+", a command by the key of a group", err, connect.CodeAlreadyExists)
		if err == nil || !strings.Contains(err.Error(), `key all: the key was used for a different command ("reboot" to the group site=a, which is RUNNING); nothing was sent`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
