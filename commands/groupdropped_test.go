package commands_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/natsd"
)

// drop removes the stored records of commands, as the store does to make room.
func drop(t *testing.T, n *natsd.Node, all map[string]*commands.Command, which func(*commands.Command) bool) {
	t.Helper()
	js, err := jetstream.New(n.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), jsstore.StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if which(c) {
			if err := stream.DeleteMsg(t.Context(), c.Revision); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A group keeps its counts when its run is interrupted after the history has
// dropped the ends that they are of.
func TestAGroupRemembersEndsThatTheHistoryHasDropped(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	store := newStore(t, nats)
	ids := fleet(20)
	registry := withDevices(&devices{selected: ids, disabled: []string{"d019"}})
	h := startHub(t, "a", store, registry)
	for i, id := range ids[:5] {
		v := newDevice(id)
		if i == 4 {
			v.do = only(delivered, failed)
		}
		h.connect(v)
	}
	if _, _, err := h.d.SendGroup(t.Context(), commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x"}, Key: "g"}); err != nil {
		t.Fatal(err)
	}
	h.wantGroup("g", func(g commands.Group) bool {
		return g.Issued == 19 && g.ByState[commands.Succeeded] == 4 && g.ByState[commands.Failed] == 1
	})
	h.stop()
	drop(t, nats, children(t, store, "g"), func(c *commands.Command) bool {
		return c.State.Ended() && c.Device != "d000"
	})
	for range 2 { // what was carried over is carried over again
		h = startHub(t, "a", store, registry)
		h.wantGroup("g", func(g commands.Group) bool {
			return g.Issued == 19 && g.Refused == 1 && g.ByState[commands.Queued] == 14 &&
				g.ByState[commands.Succeeded] == 4 && g.ByState[commands.Failed] == 1
		})
		h.stop()
	}
	h = startHub(t, "a", store, registry)
	if _, err := h.d.CancelGroup(t.Context(), "g", "ann"); err != nil {
		t.Fatal(err)
	}
	g := h.wantGroup("g", groupEnded)
	if g.Issued != 19 || g.ByState[commands.Succeeded] != 4 || g.ByState[commands.Failed] != 1 || g.ByState[commands.Canceled] != 14 {
		t.Errorf("%+v", g)
	}
}

// pickyStore has no room for some devices' new commands.
type pickyStore struct {
	commands.Store
	mu   sync.Mutex
	full []string
}

func (s *pickyStore) refuse(devices ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = devices
}

func (s *pickyStore) Create(ctx context.Context, c *commands.Command) error {
	s.mu.Lock()
	full := slices.Contains(s.full, c.Device)
	s.mu.Unlock()
	if full {
		return fmt.Errorf("no room: %w", commands.ErrFull)
	}
	return s.Store.Create(ctx, c)
}

// While a group waits for room it counts what was issued, and no device gets
// its command a second time when the history drops it meanwhile.
func TestAGroupThatWaitsForRoomIssuesNothingTwice(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{true, false} {
		t.Run(fmt.Sprintf("restarted %v", restart), func(t *testing.T) {
			t.Parallel()
			nats := startNATS(t)
			store := &pickyStore{Store: newStore(t, nats)}
			store.refuse("d001", "d003")
			ids := fleet(5)
			registry := withDevices(&devices{selected: ids})
			h := startHub(t, "a", store, registry)
			all := map[string]*device{}
			connect := func() {
				for _, id := range ids {
					if all[id] == nil {
						all[id] = newDevice(id)
					}
					h.connect(all[id])
				}
			}
			connect()
			if _, _, err := h.d.SendGroup(t.Context(), commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x"}, Key: "g"}); err != nil {
				t.Fatal(err)
			}
			waiting := func(g commands.Group) bool {
				return g.Issued == 3 && g.ByState[commands.Succeeded] == 3 && strings.HasPrefix(g.Reason, "waiting to be issued to 2 devices:")
			}
			h.wantGroup("g", waiting)
			if restart {
				h.stop()
			}
			ran := children(t, store, "g")
			drop(t, nats, ran, func(*commands.Command) bool { return true })
			if restart {
				for _, v := range all { // a device that has forgotten what it ran
					v.mu.Lock()
					clear(v.said)
					v.mu.Unlock()
				}
				h = startHub(t, "a", store, registry)
				connect()
				h.wantGroup("g", waiting)
			}
			store.refuse()
			g := h.wantGroup("g", groupEnded)
			if g.State != commands.GroupDone || g.Issued != 5 || g.ByState[commands.Succeeded] != 5 {
				t.Errorf("%+v", g)
			}
			for _, c := range ran {
				if n := len(all[c.Device].got()); n != 1 {
					t.Errorf("%s got %d commands", c.Device, n)
				}
			}
		})
	}
}
