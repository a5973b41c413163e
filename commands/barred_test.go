package commands_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// barring are devices to which one command may be sent, and then none.
type barring struct {
	devices
	err   error
	asked atomic.Bool
}

func (b *barring) CheckDevice(context.Context, string) error {
	if b.asked.Swap(true) {
		return b.err
	}
	return nil
}

// A command that ends for want of a device says that the device could not
// come: that it was disabled, by whom and when, or removed.
func TestEndsNameABarredDevice(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	disabled := error(&commands.DisabledError{Device: "d1", By: "ann", Since: since})
	if got := disabled.Error(); got != "device d1: device is disabled by ann on 2026-03-01 12:00:00 UTC; enable it first" {
		t.Error(got)
	}
	wantError(t, disabled, commands.ErrDeviceDisabled)
	gone := fmt.Errorf("device d1: %w", commands.ErrUnknownDevice)
	for _, c := range []struct {
		name string
		err  error
		spec commands.Spec
		do   func(v *device) // nil: it is away
		end  commands.State
		want string
	}{
		{"disabled", disabled, commands.Spec{TTL: time.Second}, nil, commands.Expired, "it was never sent; the device is disabled by ann on 2026-03-01 12:00:00 UTC"},
		{"removed", gone, commands.Spec{TTL: time.Second}, nil, commands.Canceled, "because the device was removed, before it was sent"},
		{"sent", disabled, commands.Spec{TTL: soon}, func(v *device) { v.deafen(true) }, commands.Expired, "not sent again; the device is disabled by ann on 2026-03-01 12:00:00 UTC"},
		{"delivered", disabled, commands.Spec{Timeout: 500 * time.Millisecond}, func(v *device) { v.do = only(delivered) }, commands.TimedOut, "no end within 500ms; the device is disabled by ann on 2026-03-01 12:00:00 UTC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := &barring{err: c.err}
			h := startHub(t, "a", newStore(t, startNATS(t)), func(cfg *commands.Config) { cfg.Devices = b })
			if c.do != nil {
				v := newDevice("d1")
				c.do(v)
				h.connect(v)
			}
			id := h.send(commands.Request{Device: "d1", Spec: c.spec}).ID
			if got := h.want(id, c.end); !strings.HasSuffix(got.Reason, c.want) {
				t.Errorf("%q does not end with %q", got.Reason, c.want)
			}
		})
	}
}

// The commands of a device that is removed say so, also one that may have
// reached it; those of a group that is canceled say who did that.
func TestRemovalAndGroupAreNamedInTheStory(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(&devices{selected: []string{"d2"}}))
	ctx := context.Background()
	unsent := h.send(commands.Request{Device: "d0"}).ID
	v := newDevice("d1")
	v.deafen(true)
	h.connect(v)
	sent := h.send(commands.Request{Device: "d1"}).ID
	for _, id := range []string{"d0", "d1"} {
		if n, err := h.d.CancelDevice(ctx, id, "ann"); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if c := h.want(unsent, commands.Canceled); c.Reason != "canceled, because the device was removed by ann, before it was sent" {
		t.Error(c.Reason)
	}
	if c := h.want(sent, commands.Canceled); c.Reason != "canceled, because the device was removed by ann; it had been sent, and whether the device got it and has acted on it is not known" {
		t.Error(c.Reason)
	}
	if _, _, err := h.d.SendGroup(ctx, commands.GroupRequest{Selector: "a=b", Key: "g", Spec: commands.Spec{Name: "x"}, Operator: "ann"}); err != nil {
		t.Fatal(err)
	}
	h.wantGroup("g", func(g commands.Group) bool { return g.ByState[commands.Queued] == 1 })
	if _, err := h.d.CancelGroup(ctx, "g", "bob"); err != nil {
		t.Fatal(err)
	}
	h.wantGroup("g", groupEnded)
	list, _, err := h.d.List(ctx, commands.Filter{Group: "g"}, commands.Page{})
	if err != nil || len(list) != 1 || list[0].Reason != "canceled with its group, which was canceled by bob, before it was sent" {
		t.Errorf("%+v %v", list, err)
	}
}
