package commands_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// A key is one command's or one group's, whichever came first, also when it
// has ended, on another node, and after a restart.
func TestAKeyIsOfACommandOrOfAGroup(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	fleet := &devices{selected: []string{"d1"}}
	a, b := startHub(t, "a", newStore(t, nats), withDevices(fleet)), startHub(t, "b", newStore(t, nats), withDevices(fleet))
	a.connect(newDevice("d1"))
	ctx := context.Background()
	single := func(key string) commands.Request {
		return commands.Request{Device: "d1", Key: key, Spec: commands.Spec{Name: "x"}}
	}
	group := func(key string) commands.GroupRequest {
		return commands.GroupRequest{Selector: "a=b", Key: key, Spec: commands.Spec{Name: "x"}}
	}
	if _, _, err := a.d.Send(ctx, single("one")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.d.SendGroup(ctx, group("all")); err != nil {
		t.Fatal(err)
	}
	conflicts := func(h *hub) {
		t.Helper()
		_, _, err := h.d.SendGroup(ctx, group("one"))
		wantError(t, err, commands.ErrConflict)
		_, _, err = h.d.Send(ctx, single("all"))
		wantError(t, err, commands.ErrConflict)
	}
	conflicts(a)
	conflicts(b)
	a.want("one", commands.Succeeded)
	a.wantGroup("all", groupEnded)
	b.stop()
	b = startHub(t, "b", newStore(t, nats), withDevices(fleet))
	conflicts(a)
	conflicts(b)
	for _, h := range []*hub{a, b} { // and each is still the key of its own
		if _, existed, err := h.d.Send(ctx, single("one")); err != nil || !existed {
			t.Errorf("the command again: %v, %v", existed, err)
		}
		if _, existed, err := h.d.SendGroup(ctx, group("all")); err != nil || !existed {
			t.Errorf("the group again: %v, %v", existed, err)
		}
	}
}

// Asked for as both at the same moment, a key becomes one of the two at most.
func TestAKeyForBothKindsAtTheSameMoment(t *testing.T) {
	t.Parallel()
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(&devices{selected: []string{"d1"}}))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for i := range 50 {
		key := fmt.Sprint("k", i)
		made := make(chan error, 2)
		go func() {
			_, _, err := h.d.Send(ctx, commands.Request{Device: fmt.Sprint("d", i), Key: key, Spec: commands.Spec{Name: "x"}})
			made <- err
		}()
		go func() {
			_, _, err := h.d.SendGroup(ctx, commands.GroupRequest{Selector: "a=b", Key: key, Spec: commands.Spec{Name: "x", TTL: time.Second}})
			made <- err
		}()
		if first, second := <-made, <-made; first == nil && second == nil {
			t.Fatalf("%s is both a command and a group", key)
		} else if first != nil {
			wantError(t, first, commands.ErrConflict)
		} else {
			wantError(t, second, commands.ErrConflict)
		}
	}
}
