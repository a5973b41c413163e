package commands_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// endingStore lets something happen right before a group is recorded as ended,
// or right after.
type endingStore struct {
	commands.Store
	after bool
	once  sync.Once
	do    func()
}

func (s *endingStore) UpdateGroup(ctx context.Context, g *commands.Group) error {
	ends := !g.Ended.IsZero()
	if ends && !s.after {
		s.once.Do(s.do)
	}
	err := s.Store.UpdateGroup(ctx, g)
	if ends && s.after {
		s.once.Do(s.do)
	}
	return err
}

// The device's own end comes at the very moment at which its group ends: it is
// counted, once, on whichever node the device is.
func TestALateEndIsCountedWhenItsGroupEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		elsewhere, after bool
	}{
		{"before the end is recorded", false, false},
		{"after it", false, true},
		{"before, on another node", true, false},
		{"after, on another node", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nats := startNATS(t)
			fleet := &devices{selected: []string{"d1", "d2"}}
			store := &endingStore{Store: newStore(t, nats), after: c.after}
			a, b := startHub(t, "a", store, withDevices(fleet)), startHub(t, "b", newStore(t, nats), withDevices(fleet))
			home := a
			if c.elsewhere {
				home = b
			}
			v, quick := newDevice("d1"), newDevice("d2")
			v.do = only(delivered)
			var id string
			store.do = func() {
				for _, got := range v.got() {
					id = got
				}
				v.say(word(id, failed))
				home.want(id, commands.Failed)
			}
			home.connect(v)
			home.connect(quick)
			g, _, err := a.d.SendGroup(context.Background(), commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x", Timeout: 200 * time.Millisecond}})
			if err != nil {
				t.Fatal(err)
			}
			right := func(g commands.Group) bool {
				return groupEnded(g) && g.ByState[commands.TimedOut] == 0 && g.ByState[commands.Failed] == 1 && g.ByState[commands.Succeeded] == 1
			}
			a.wantGroup(g.ID, right)
			// And it stays so.
			last := home.send(commands.Request{Device: "d2"})
			home.want(last.ID, commands.Succeeded)
			if g := a.wantGroup(g.ID, right); len(g.ByState) != 2 && g.ByState[commands.TimedOut] != 0 {
				t.Errorf("%v", g.ByState)
			}
		})
	}
}

// A later end that the group has counted while it ran is not counted again,
// and one that comes when it has ended is.
func TestLateEndsAreCountedOnce(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	fleet := &devices{selected: []string{"d1", "d2", "d3", "d4"}}
	a, b := startHub(t, "a", newStore(t, nats), withDevices(fleet)), startHub(t, "b", newStore(t, nats), withDevices(fleet))
	ctx := context.Background()
	all := map[string]*device{}
	for _, id := range fleet.selected {
		v := newDevice(id)
		v.do = only(delivered)
		if id == "d4" {
			v.deafen(true) // ends later than the others
		}
		b.connect(v)
		all[id] = v
	}
	g, _, err := a.d.SendGroup(ctx, commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x", Timeout: 200 * time.Millisecond, TTL: 10 * time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	fails := func(id string) {
		v := all[id]
		v.say(word(v.got()[0], failed))
		a.want(v.got()[0], commands.Failed)
	}
	counts := func(timedOut, failed int) func(commands.Group) bool {
		return func(g commands.Group) bool {
			return g.ByState[commands.TimedOut] == timedOut && g.ByState[commands.Failed] == failed
		}
	}
	a.wantGroup(g.ID, counts(3, 0))
	fails("d1")
	a.wantGroup(g.ID, counts(2, 1))
	all["d4"].deafen(false)
	b.disconnect("d4")
	b.connect(all["d4"]) // it is sent again, and times out
	g = a.wantGroup(g.ID, groupEnded)
	if !counts(3, 1)(g) {
		t.Errorf("%v", g.ByState)
	}
	fails("d2")
	a.wantGroup(g.ID, func(g commands.Group) bool { return g.ByState[commands.Failed] >= 2 })
	if g := a.wantGroup(g.ID, groupEnded); !counts(2, 2)(g) {
		t.Errorf("%v", g.ByState)
	}
}

// groupsAway fails what touches the records of groups while it is away.
type groupsAway struct {
	commands.Store
	away  atomic.Bool
	tried atomic.Int32 // while it was away
}

func (s *groupsAway) Group(ctx context.Context, id string) (*commands.Group, error) {
	if s.away.Load() {
		s.tried.Add(1)
		return nil, errors.New("no answer")
	}
	return s.Store.Group(ctx, id)
}

func (s *groupsAway) UpdateGroup(ctx context.Context, g *commands.Group) error {
	if s.away.Load() {
		s.tried.Add(1)
		return errors.New("no answer")
	}
	return s.Store.UpdateGroup(ctx, g)
}

// A later end whose group cannot be corrected for a while, since its records
// are away, is counted when they are back: once.
func TestALateEndIsCountedWhenTheStoreIsBack(t *testing.T) {
	t.Parallel()
	fleet := &devices{selected: []string{"d1", "d2"}}
	store := &groupsAway{Store: newStore(t, startNATS(t))}
	h := startHub(t, "a", store, withDevices(fleet))
	late := newDevice("d1")
	late.do = only(delivered)
	h.connect(late)
	h.connect(newDevice("d2"))
	g, _, err := h.d.SendGroup(t.Context(), commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x", Timeout: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	h.wantGroup(g.ID, groupEnded)
	store.away.Store(true)
	id := late.got()[0]
	late.say(word(id, failed))
	h.want(id, commands.Failed)
	eventually(t, "the correction is tried more than once", func() bool { return store.tried.Load() >= 2 })
	store.away.Store(false)
	right := func(g commands.Group) bool {
		return g.ByState[commands.TimedOut] == 0 && g.ByState[commands.Failed] == 1 && g.ByState[commands.Succeeded] == 1
	}
	h.wantGroup(g.ID, right)
	last := h.send(commands.Request{Device: "d2"})
	h.want(last.ID, commands.Succeeded)
	h.wantGroup(g.ID, right)
}
