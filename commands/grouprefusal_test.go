package commands_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// A group names the first hundred members that got no command, with the
// reason of each, and counts the others; what it names outlives the hub.
func TestGroupNamesWhomItCouldNotReach(t *testing.T) {
	nats := startNATS(t)
	ids := fleet(250)
	h := startHub(t, "a", newStore(t, nats), withDevices(&devices{selected: ids, unknown: ids[:2], disabled: ids[2:220]}), func(c *commands.Config) { c.MaxPending = 1 })
	h.send(commands.Request{Device: "d249"})
	g, _, err := h.d.SendGroup(context.Background(), commands.GroupRequest{Selector: "a=b", Key: "g", Spec: commands.Spec{Name: "x", TTL: time.Second}})
	if err != nil || g.Total != 250 {
		t.Fatalf("%+v %v", g, err)
	}
	check := func(h *hub) {
		t.Helper()
		g := h.wantGroup("g", groupEnded)
		if g.Issued != 29 || g.Refused != 221 || len(g.Refusals) != commands.MaxGroupRefusals {
			t.Fatalf("%d issued, %d refused, %d named", g.Issued, g.Refused, len(g.Refusals))
		}
		for i, r := range g.Refusals {
			want := "is disabled"
			if i < 2 {
				want = "was removed before its turn came"
			}
			if r.Device != ids[i] || r.Reason != want {
				t.Errorf("refusal %d: %+v", i, r)
			}
		}
	}
	check(h)
	h.stop()
	h = startHub(t, "a", newStore(t, nats))
	check(h)
}

// A device that has as many commands as it may have is named with that.
func TestGroupNamesAFullDevice(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(&devices{selected: []string{"d1"}}), func(c *commands.Config) { c.MaxPending = 1 })
	h.send(commands.Request{Device: "d1"})
	if _, _, err := h.d.SendGroup(context.Background(), commands.GroupRequest{Selector: "a=b", Key: "g", Spec: commands.Spec{Name: "x"}}); err != nil {
		t.Fatal(err)
	}
	g := h.wantGroup("g", groupEnded)
	if len(g.Refusals) != 1 || g.Refusals[0].Reason != "has 1 commands without an end, the most that it may have" {
		t.Errorf("%+v", g.Refusals)
	}
}

// A share of failures that is to stop a group has time to: where no rate is
// asked for there is one, and the reason says how it was counted.
func TestStopShareHasARate(t *testing.T) {
	t.Parallel()
	ids := fleet(300)
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(&devices{selected: ids}))
	for _, id := range ids {
		v := newDevice(id)
		v.do = only(delivered, failed)
		h.connect(v)
	}
	r := commands.GroupRequest{Selector: "a=b", Key: "g", Spec: commands.Spec{Name: "x"}, StopAfterFailureShare: 0.2}
	g, _, err := h.d.SendGroup(context.Background(), r)
	if err != nil || g.Rate != commands.GroupStopRate {
		t.Fatalf("rate %g, %v", g.Rate, err)
	}
	g = h.wantGroup("g", groupEnded)
	if g.State != commands.GroupStopped || g.Issued == 300 || !strings.Contains(g.Reason, "the limit is 20 %; ") || !strings.Contains(g.Reason, " devices were left out") {
		t.Errorf("%s after %d: %q", g.State, g.Issued, g.Reason)
	}
	if _, existed, err := h.d.SendGroup(context.Background(), r); err != nil || !existed {
		t.Errorf("the same key: %v %v", existed, err)
	}
	if g, _, err := h.d.SendGroup(context.Background(), commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "y"}}); err != nil || g.Rate != 0 {
		t.Errorf("without a share: rate %g, %v", g.Rate, err)
	}
}
