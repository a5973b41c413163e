package commands_test

import (
	"context"
	"sync"
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
