package live

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tetherline/tetherline/hub/registry"
)

// saving is a table that saves, and in which that many devices have changed.
// They are at another node by now, so that each is dropped where it would be
// written: what waits tells what was saved.
func saving(t *testing.T, devices int) *Table {
	table := &Table{
		cfg: Config{Node: "here"}, logger: slog.New(slog.DiscardHandler), changes: 1,
		entries: make(map[string]*entry), unsaved: make(map[string]struct{}), saveNow: make(chan struct{}, 1),
	}
	for i := range devices {
		id := fmt.Sprint("d", i)
		table.entries[id] = &entry{state: registry.Presence{Node: "there"}}
		table.toSave(id)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); table.saveLoop(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return table
}

func (t *Table) changeOnce() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
}

// What a crowd changes is saved up: not while it goes on, once it is calm, and
// all the same when it does not calm down. A few are saved at once. The clock
// is the test's.
func TestCrowdIsSavedUpUntilItIsCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const step = calmTime - time.Millisecond // so that each calm time has a change
		want := func(table *Table, waiting int, when string) {
			t.Helper()
			synctest.Wait()
			table.mu.RLock()
			defer table.mu.RUnlock()
			if got := len(table.unsaved); got != waiting {
				t.Errorf("%s: %d devices wait to be saved; want %d", when, got, waiting)
			}
		}
		want(saving(t, saveBatch), 0, "as many as fit into one batch")

		table := saving(t, 2*saveBatch+1)
		for range 10 {
			table.changeOnce()
			time.Sleep(step)
			want(table, 2*saveBatch+1, "while devices come and go")
		}
		time.Sleep(2 * calmTime)
		want(table, 0, "when nothing changes any more")

		table = saving(t, 2*saveBatch)
		for range crowdTime/step - 2 {
			table.changeOnce()
			time.Sleep(step)
		}
		want(table, 2*saveBatch, "before the longest time")
		for range 4 {
			table.changeOnce()
			time.Sleep(step)
		}
		want(table, 0, "after the longest time")
	})
}
