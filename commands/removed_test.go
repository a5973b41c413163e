package commands_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Whatever a device was at ends when it is removed, with a reason that claims
// no more than is known; and a device that is given its name is neither asked
// about that nor can it answer for it.
func TestCommandsOfARemovedDeviceAreItsOwn(t *testing.T) {
	t.Parallel()
	r := &devices{}
	r.register("door", "first")
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(r))
	ctx := context.Background()
	v := newDevice("door")
	v.do = func(c *devicev1.Command) []*devicev1.CommandUpdate {
		switch c.GetName() {
		case "delivered":
			return only(delivered)(c)
		case "running":
			return only(delivered, running)(c)
		}
		return nil
	}
	h.connect(v)
	ids := map[string]string{}
	for name, state := range map[string]commands.State{"sent": commands.Sent, "delivered": commands.Delivered, "running": commands.Running} {
		ids[name] = h.send(commands.Request{Device: "door", Spec: commands.Spec{Name: name}}).ID
		h.want(ids[name], state)
	}
	h.disconnect("door")
	ids["queued"] = h.send(commands.Request{Device: "door"}).ID
	if _, err := h.d.Cancel(ctx, ids["running"], "bob"); err != nil {
		t.Fatal(err)
	}

	r.register("door", "")
	if n, err := h.d.CancelDevice(ctx, "door", "ann"); n != 4 || err != nil {
		t.Errorf("%d ended, %v", n, err)
	}
	for name, want := range map[string]string{
		"queued":    "before it was sent",
		"sent":      "whether the device got it and has acted on it is not known",
		"delivered": "the device had it, and whether it has acted on it is not known",
		"running":   "the device was at it (0 %), and how far it has come since is not known",
	} {
		if c := h.want(ids[name], commands.Canceled); !strings.Contains(c.Reason, "the device was removed by ann") || !strings.HasSuffix(c.Reason, want) {
			t.Errorf("%s: %q", name, c.Reason)
		}
	}

	r.register("door", "second")
	next := newDevice("door")
	epoch := h.connect(next)
	if c := h.send(commands.Request{Device: "door"}); h.want(c.ID, commands.Succeeded).Registration != "second" {
		t.Errorf("registration %q", c.Registration)
	}
	for name, id := range ids {
		final, err := h.d.Update(ctx, "door", epoch, word(id, succeeded))
		if !final || err != nil {
			t.Errorf("%s: %v, %v", name, final, err)
		}
		h.want(id, commands.Canceled)
	}
	if len(next.got()) != 1 || len(next.asked()) != 0 {
		t.Errorf("the new device was sent %v and asked about %v", next.got(), next.asked())
	}
}

// What the removed device has still said is recorded, and wins.
func TestTheLastWordOfARemovedDeviceCounts(t *testing.T) {
	r := &devices{}
	r.register("door", "first")
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(r))
	v := newDevice("door")
	v.do = only(delivered)
	h.connect(v)
	id := h.send(commands.Request{Device: "door"}).ID
	h.want(id, commands.Delivered)
	r.register("door", "")
	if _, err := h.d.CancelDevice(context.Background(), "door", "ann"); err != nil {
		t.Fatal(err)
	}
	v.say(word(id, succeeded))
	if c := h.want(id, commands.Succeeded); !strings.Contains(c.Reason, "CANCELED") {
		t.Errorf("reason %q", c.Reason)
	}
}

// leaving is a device that is removed right after it was looked at.
type leaving struct{ devices }

func (r *leaving) CheckDevice(ctx context.Context, id string) error {
	if r.Registration(id) == "" {
		return commands.ErrUnknownDevice
	}
	r.register(id, "")
	return nil
}

// A command that is accepted while its device is removed ends at once.
func TestACommandThatMeetsARemovalEnds(t *testing.T) {
	r := &leaving{}
	h := startHub(t, "a", newStore(t, startNATS(t)), func(c *commands.Config) { c.Devices = r })
	r.register("door", "first")
	if c := h.send(commands.Request{Device: "door"}); c.State != commands.Canceled || !strings.Contains(c.Reason, "removed") {
		t.Errorf("%s: %s", c.State, c.Reason)
	}
	r.register("door", "first")
	h.connect(newDevice("door"))
	// One that has gone out by then is the device's, which is still here.
	h.want(h.send(commands.Request{Device: "door"}).ID, commands.Succeeded)
	if n := h.d.Pending(); n != 0 {
		t.Errorf("%d pending", n)
	}
}

// A node that heard too late of the command ends it nevertheless; one whose
// registry is only behind for a moment does not.
func TestCommandsOfRemovedDevicesAreFound(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	here, there := &devices{}, &devices{}
	there.onRefresh = func(id string) { there.register(id, here.Registration(id)) }
	for _, r := range []*devices{here, there} {
		r.register("door", "first")
		r.register("gate", "first")
	}
	a := startHub(t, "a", newStore(t, nats), withDevices(here))
	startHub(t, "b", newStore(t, nats), withDevices(there))
	there.register("gate", "an older one")
	door := a.send(commands.Request{Device: "door", Spec: commands.Spec{TTL: 10 * time.Minute}}).ID
	gate := a.send(commands.Request{Device: "gate"}).ID
	here.register("door", "second")
	a.want(door, commands.Canceled)
	eventually(t, "the registry was asked", func() bool { return there.Registration("gate") == "first" })
	a.want(gate, commands.Queued)
}
