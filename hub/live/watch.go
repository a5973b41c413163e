package live

import (
	"context"

	"github.com/tetherline/tetherline/hub/registry"
)

// Event is what a watcher is told.
type Event struct {
	Device   string // "" with Synced
	Presence registry.Presence
	// Synced: everything that was so when the watch began, or began anew,
	// has been told.
	Synced bool
	// Restarted, with Synced: the watcher was so slow that it has been told
	// the present state of all devices once more.
	Restarted bool
}

// maxChanged bounds what a slow watcher has still to be told, in devices.
const maxChanged = 10_000

// watcher holds the ids of devices that have changed since they were told.
// A slow watcher misses states in between, never the last one. The table's mu
// guards it.
type watcher struct {
	changed map[string]struct{}
	missed  bool // more changed than is kept: tell all
	wake    chan struct{}
}

// changed marks a device as to be saved and told. mu is held.
func (t *Table) changed(id string) {
	t.changes++
	t.toSave(id)
	t.notify(id)
}

// notify wakes the watchers. mu is held.
func (t *Table) notify(id string) {
	for w := range t.watchers {
		if len(w.changed) >= maxChanged {
			w.missed = true
		}
		if !w.missed {
			w.changed[id] = struct{}{}
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// Watch calls f with the present state of every device that was ever seen,
// then with an Event that is Synced, then with changes as they happen; not in
// the order of time between devices. It returns when ctx ends, or with the
// error of f. f may be slow: then it misses states in between, and when very
// many devices have changed meanwhile all are told again.
func (t *Table) Watch(ctx context.Context, f func(Event) error) error {
	w := &watcher{changed: make(map[string]struct{}), wake: make(chan struct{}, 1)}
	t.mu.Lock()
	t.watchers[w] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.watchers, w)
		t.mu.Unlock()
	}()
	if err := t.tellAll(ctx, f, false); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
		}
		ids, missed := t.takeChanged(w)
		if missed {
			if err := t.tellAll(ctx, f, true); err != nil {
				return err
			}
			continue
		}
		for id := range ids {
			if err := f(Event{Device: id, Presence: t.Presence(id)}); err != nil {
				return err
			}
		}
	}
}

func (t *Table) takeChanged(w *watcher) (ids map[string]struct{}, missed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids, missed = w.changed, w.missed
	w.changed, w.missed = make(map[string]struct{}), false
	return ids, missed
}

func (t *Table) tellAll(ctx context.Context, f func(Event) error, again bool) error {
	t.mu.RLock()
	ids := make([]string, 0, len(t.entries))
	for id := range t.entries {
		ids = append(ids, id)
	}
	t.mu.RUnlock()
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(Event{Device: id, Presence: t.Presence(id)}); err != nil {
			return err
		}
	}
	return f(Event{Synced: true, Restarted: again})
}
