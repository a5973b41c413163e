package commands_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// movingStore has something happen whenever a listing looks through it.
type movingStore struct {
	commands.Store
	before func()
}

func (s *movingStore) Scan(ctx context.Context, scan commands.Scan, fn func(*commands.Command, time.Time) bool) error {
	s.before()
	return s.Store.Scan(ctx, scan, fn)
}

// listed are the ids in all pages of a listing.
func listed(t *testing.T, h *hub, f commands.Filter, size int) (ids []string) {
	t.Helper()
	for token, first := "", true; first || token != ""; first = false {
		page, next, err := h.d.List(context.Background(), f, commands.Page{Size: size, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page {
			ids = append(ids, c.ID)
		}
		token = next
	}
	return ids
}

// Commands whose records are written anew while a listing is made are in it,
// once and in their order.
func TestAListHasWhatChangesWhileItIsMade(t *testing.T) {
	t.Parallel()
	for _, size := range []int{7, 1000} {
		t.Run(fmt.Sprintf("pages of %d", size), func(t *testing.T) {
			t.Parallel()
			store := &movingStore{Store: newStore(t, startNATS(t)), before: func() {}}
			h := startHub(t, "a", store)
			var all, open []string
			for i := range 40 {
				id := h.send(commands.Request{Device: fmt.Sprint("d", i%2), Key: fmt.Sprintf("c.%03d", i)}).ID
				all, open = append(all, id), append(open, id)
			}
			slices.Reverse(all)
			store.before = func() { // the newest ones and the oldest ones end
				for range 3 {
					for _, newest := range []bool{false, true} {
						if len(open) == 0 {
							return
						}
						k := 0
						if newest {
							k = len(open) - 1
						}
						if _, err := h.d.Cancel(t.Context(), open[k], ""); err != nil {
							t.Error(err)
						}
						open = slices.Delete(open, k, k+1)
					}
				}
			}
			if got := listed(t, h, commands.Filter{}, size); !slices.Equal(got, all) {
				t.Errorf("%d of %d commands\n%v", len(got), len(all), got)
			}
			if got := listed(t, h, commands.Filter{Device: "d1"}, size); len(got) != len(all)/2 {
				t.Errorf("%d of %d commands of one device\n%v", len(got), len(all)/2, got)
			}
		})
	}
}

// A command that was accepted before a list is asked for is in that list,
// whatever becomes of it meanwhile.
func TestAListHasEachCommandThatWasAcceptedBefore(t *testing.T) {
	t.Parallel()
	h := startHub(t, "a", newStore(t, startNATS(t)))
	h.connect(newDevice("d1"))
	var mu sync.Mutex
	var sent []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 150 {
			c, _, err := h.d.Send(context.Background(), commands.Request{Device: "d1", Key: fmt.Sprint("k", i), Spec: commands.Spec{Name: "ok"}})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			sent = append(sent, c.ID)
			mu.Unlock()
		}
	}()
	var listers sync.WaitGroup
	for range 3 {
		listers.Go(func() {
			for over := false; !over; {
				select {
				case <-done:
					over = true
				default:
				}
				mu.Lock()
				want := slices.Clone(sent)
				mu.Unlock()
				page, _, err := h.d.List(context.Background(), commands.Filter{Device: "d1"}, commands.Page{Size: commands.MaxPageSize})
				if err != nil {
					t.Error(err)
					return
				}
				got := map[string]bool{}
				for _, c := range page {
					got[c.ID] = true
				}
				for _, id := range want {
					if !got[id] {
						t.Errorf("%s is not in a list of %d", id, len(page))
					}
				}
			}
		})
	}
	listers.Wait()
	<-done
}
