package commands_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tetherline/tetherline/commands"
)

// fullStore has no room for new commands while it is full.
type fullStore struct {
	commands.Store
	full atomic.Bool
}

func (s *fullStore) Create(ctx context.Context, c *commands.Command) error {
	if s.full.Load() {
		return fmt.Errorf("no room: %w", commands.ErrFull)
	}
	return s.Store.Create(ctx, c)
}

// A group that meets a full store says why it waits, goes on when there is
// room, and can be canceled meanwhile.
func TestAGroupWaitsForRoom(t *testing.T) {
	t.Parallel()
	for _, cancel := range []bool{false, true} {
		t.Run(fmt.Sprintf("canceled %v", cancel), func(t *testing.T) {
			t.Parallel()
			store := &fullStore{Store: newStore(t, startNATS(t))}
			h := startHub(t, "a", store, withDevices(&devices{selected: []string{"d1", "d2"}}))
			h.connect(newDevice("d1"))
			h.connect(newDevice("d2"))
			ctx := context.Background()
			store.full.Store(true)
			_, _, err := h.d.Send(ctx, commands.Request{Device: "d1", Spec: commands.Spec{Name: "x"}})
			wantError(t, err, commands.ErrFull)
			if s := h.d.Stats(); s.RefusedFull != 1 || s.Refused != 0 || s.StoreErrors != 0 {
				t.Errorf("%+v", s)
			}
			g, _, err := h.d.SendGroup(ctx, commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x"}})
			if err != nil {
				t.Fatal(err)
			}
			h.wantGroup(g.ID, func(g commands.Group) bool {
				return g.State == commands.GroupRunning && strings.HasPrefix(g.Reason, "waiting to be issued to 2 devices: the command store is full")
			})
			if cancel {
				if _, err := h.d.CancelGroup(ctx, g.ID, "ann"); err != nil {
					t.Fatal(err)
				}
				h.wantGroup(g.ID, func(g commands.Group) bool {
					return groupEnded(g) && g.State == commands.GroupCanceled && g.Reason == "canceled by ann" && g.Issued == 0
				})
				return
			}
			store.full.Store(false)
			h.wantGroup(g.ID, func(g commands.Group) bool {
				return groupEnded(g) && g.State == commands.GroupDone && g.Issued == 2 && g.ByState[commands.Succeeded] == 2
			})
		})
	}
}
