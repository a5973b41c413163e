package commands_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func fleet(n int) []string {
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("d%03d", i))
	}
	return ids
}

func withDevices(r *devices) hubOption { return func(c *commands.Config) { c.Devices = r } }

func (h *hub) wantGroup(id string, ok func(commands.Group) bool) commands.Group {
	h.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		g, err := h.d.GetGroup(context.Background(), id)
		if err == nil && ok(g) {
			return g
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("group %+v, %v", g, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func groupEnded(g commands.Group) bool { return !g.Ended.IsZero() }

func TestGroupRunsOnEveryDeviceThatMatches(t *testing.T) {
	ids := fleet(100)
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(&devices{selected: ids, disabled: []string{"d007"}}))
	all := map[string]*device{}
	for i, id := range ids {
		v := newDevice(id)
		if i%10 == 1 {
			v.do = only(delivered, failed)
		}
		all[id] = v
		h.connect(v)
	}
	ctx := context.Background()
	r := commands.GroupRequest{Selector: "site=north", Spec: commands.Spec{Name: "identify"}, Key: "g.1", Operator: "ann"}
	g, existed, err := h.d.SendGroup(ctx, r)
	if err != nil || existed || g.Total != 100 {
		t.Fatalf("%+v %v %v", g, existed, err)
	}
	g = h.wantGroup("g.1", groupEnded)
	if g.State != commands.GroupDone || g.Issued != 99 || g.Refused != 1 ||
		g.ByState[commands.Succeeded] != 89 || g.ByState[commands.Failed] != 10 ||
		len(g.Refusals) != 1 || g.Refusals[0] != (commands.Refusal{Device: "d007", Reason: "is disabled"}) {
		t.Errorf("%+v", g)
	}
	children, _, err := h.d.List(ctx, commands.Filter{Group: "g.1"}, commands.Page{Size: 1000})
	if err != nil || len(children) != 99 {
		t.Fatalf("%d children, %v", len(children), err)
	}
	for _, c := range children {
		if all[c.Device].runs(c.ID) != 1 || c.Operator != "ann" {
			t.Errorf("%s ran %d times", c.Device, all[c.Device].runs(c.ID))
		}
	}
	if _, existed, err := h.d.SendGroup(ctx, r); err != nil || !existed {
		t.Errorf("same key: %v %v", existed, err)
	}
	r.Rate = 3
	_, _, err = h.d.SendGroup(ctx, r)
	wantError(t, err, commands.ErrConflict)
	_, err = h.d.CancelGroup(ctx, "g.1", "ann")
	wantError(t, err, commands.ErrEnded)
	_, err = h.d.GetGroup(ctx, "none")
	wantError(t, err, commands.ErrNotFound)
	list, next, err := h.d.ListGroups(ctx, nil, commands.Page{})
	if err != nil || next != "" || len(list) != 1 || list[0].ID != "g.1" {
		t.Errorf("%v %q %v", list, next, err)
	}
}

func TestGroupRequestsAreChecked(t *testing.T) {
	registry := &devices{selected: fleet(10)}
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(registry))
	good := commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x"}}
	for name, c := range map[string]struct {
		change func(*commands.GroupRequest)
		want   error
	}{
		"no selector":  {func(r *commands.GroupRequest) { r.Selector = "" }, commands.ErrInvalid},
		"bad selector": {func(r *commands.GroupRequest) { r.Selector = "!" }, commands.ErrInvalid},
		"rate":         {func(r *commands.GroupRequest) { r.Rate = -1 }, commands.ErrInvalid},
		"no number":    {func(r *commands.GroupRequest) { r.Rate = math.NaN() }, commands.ErrInvalid},
		"no end":       {func(r *commands.GroupRequest) { r.Rate = math.Inf(1) }, commands.ErrInvalid},
		"slow":         {func(r *commands.GroupRequest) { r.Rate = 1e-5 }, commands.ErrInvalid},
		"share":        {func(r *commands.GroupRequest) { r.StopAfterFailureShare = 1.1 }, commands.ErrInvalid},
		"spec":         {func(r *commands.GroupRequest) { r.Spec.Name = "" }, commands.ErrInvalid},
		"key":          {func(r *commands.GroupRequest) { r.Key = "a b" }, commands.ErrInvalid},
		"too many":     {func(r *commands.GroupRequest) { r.MaxDevices = 9 }, commands.ErrTooMany},
		"none allowed": {func(r *commands.GroupRequest) { r.Allow = func(string) bool { return false } }, commands.ErrInvalid},
	} {
		r := good
		c.change(&r)
		_, _, err := h.d.SendGroup(context.Background(), r)
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
		wantError(t, err, c.want)
		if odd := math.IsNaN(r.Rate) || math.IsInf(r.Rate, 0); odd && !strings.Contains(err.Error(), "is no rate") {
			t.Errorf("%s: %v", name, err)
		}
	}
	good.Allow = func(device string) bool { return device == "d003" }
	if g, _, err := h.d.SendGroup(context.Background(), good); err != nil || g.Total != 1 {
		t.Errorf("narrowed: %+v %v", g, err)
	}
}

func TestGroupStopsAfterItsFailureShare(t *testing.T) {
	ids := fleet(200)
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(&devices{selected: ids}))
	for _, id := range ids {
		v := newDevice(id)
		v.do = only(delivered, failed)
		h.connect(v)
	}
	g, _, err := h.d.SendGroup(context.Background(), commands.GroupRequest{
		Selector: "a=b", Spec: commands.Spec{Name: "x"}, Rate: 20, StopAfterFailureShare: 0.5,
	})
	if err != nil {
		t.Fatal(err)
	}
	g = h.wantGroup(g.ID, groupEnded)
	if g.State != commands.GroupStopped || g.Issued == 200 || !strings.Contains(g.Reason, "50 %") {
		t.Errorf("%s after %d: %q", g.State, g.Issued, g.Reason)
	}
}

func TestGroupIsCanceled(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	ids := fleet(200)
	a := startHub(t, "a", newStore(t, nats), withDevices(&devices{selected: ids}))
	b := startHub(t, "b", newStore(t, nats))
	for i, by := range []*hub{a, b} {
		key := fmt.Sprint("g", i)
		_, _, err := a.d.SendGroup(context.Background(), commands.GroupRequest{
			Selector: "a=b", Spec: commands.Spec{Name: "x"}, Rate: 20, Key: key,
		})
		if err != nil {
			t.Fatal(err)
		}
		a.wantGroup(key, func(g commands.Group) bool { return g.Issued > 3 })
		if _, err := by.d.CancelGroup(context.Background(), key, "ann"); err != nil {
			t.Fatal(err)
		}
		g := a.wantGroup(key, groupEnded)
		if g.State != commands.GroupCanceled || g.Issued == 200 || g.ByState[commands.Canceled] != g.Issued || !strings.Contains(g.Reason, "ann") {
			t.Errorf("by %d: %+v", i, g)
		}
	}
}

// A hub is killed at every step of a group in turn; the next one resumes it.
// No device gets two commands, and none is left out.
func TestAGroupSurvivesHubsThatAreKilled(t *testing.T) {
	t.Parallel()
	store := newStore(t, startNATS(t))
	ids := fleet(60)
	all := map[string]*device{}
	for _, id := range ids {
		all[id] = newDevice(id)
	}
	start := func(s commands.Store) *hub {
		h := startHub(t, "a", s, withDevices(&devices{selected: ids}))
		for _, id := range ids {
			h.connect(all[id])
		}
		return h
	}
	r := commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x", Replay: commands.Once, Timeout: 300 * time.Millisecond}, Key: "g", Rate: 400}
	for n := 1; n <= 81; n += 16 {
		cut := newCutStore(store, n, n%32 == 1)
		h := start(cut)
		_, _, _ = h.d.SendGroup(context.Background(), r)
		eventually(t, "killed, or done", func() bool {
			select {
			case <-cut.cut:
				return true
			default:
			}
			g, err := h.d.GetGroup(context.Background(), "g")
			return err == nil && groupEnded(g)
		})
		h.stop()
	}
	h := start(store)
	if _, _, err := h.d.SendGroup(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	g := h.wantGroup("g", groupEnded)
	if g.State != commands.GroupDone || g.Issued != 60 || g.Next != 60 {
		t.Errorf("%+v", g)
	}
	children, _, err := h.d.List(context.Background(), commands.Filter{Group: "g"}, commands.Page{Size: 1000})
	if err != nil || len(children) != 60 {
		t.Fatalf("%d children, %v", len(children), err)
	}
	for _, c := range children {
		if n := len(all[c.Device].got()); n > 1 {
			t.Errorf("%s got %d commands", c.Device, n)
		}
		if all[c.Device].runs(c.ID) == 1 && c.State != commands.Succeeded {
			t.Errorf("%s ran it and it is %s", c.Device, c.State)
		}
	}
}

func TestAGroupIsTakenOverFromANodeThatIsGone(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	store := newStore(t, nats)
	ids := fleet(30)
	a := startHub(t, "a", store, withDevices(&devices{selected: ids}))
	if _, _, err := a.d.SendGroup(context.Background(), commands.GroupRequest{
		Selector: "a=b", Spec: commands.Spec{Name: "x"}, Rate: 5, Key: "g",
	}); err != nil {
		t.Fatal(err)
	}
	a.wantGroup("g", func(g commands.Group) bool { return g.Issued > 1 })
	a.stop()
	g, err := store.Group(context.Background(), "g")
	if err != nil {
		t.Fatal(err)
	}
	g.Lease = time.Now().Add(-time.Second) // twenty seconds later
	if err := store.UpdateGroup(context.Background(), g); err != nil {
		t.Fatal(err)
	}
	b := startHub(t, "b", newStore(t, nats))
	for _, id := range ids {
		b.connect(newDevice(id))
	}
	if g := b.wantGroup("g", groupEnded); g.Issued != 30 || g.ByState[commands.Succeeded] != 30 || g.Runner != "b" && g.Runner != "a" {
		t.Errorf("%+v", g)
	}
}

func TestALateEndIsCountedInItsGroup(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(&devices{selected: []string{"d1"}}))
	v := newDevice("d1")
	var id string
	got := make(chan string, 1)
	v.do = func(c *devicev1.Command) []*devicev1.CommandUpdate {
		got <- c.GetId()
		return only(delivered)(c)
	}
	h.connect(v)
	g, _, err := h.d.SendGroup(context.Background(), commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x", Timeout: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	id = <-got
	h.wantGroup(g.ID, func(g commands.Group) bool { return groupEnded(g) && g.ByState[commands.TimedOut] == 1 })
	v.say(word(id, succeeded))
	h.wantGroup(g.ID, func(g commands.Group) bool {
		return g.ByState[commands.TimedOut] == 0 && g.ByState[commands.Succeeded] == 1
	})
}
