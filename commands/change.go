package commands

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errGone says that a command has ended and must be looked up in the store.
var errGone = errors.New("command is no longer pending")

// change makes one durable step with a command; the caller holds e.step. fn
// is called with the command as it stands, again when another node was
// faster; it returns the command itself to leave it. errGone: it has ended.
func (d *Dispatcher) change(ctx context.Context, e *entry, fn func(*Command) (*Command, error)) (*Command, error) {
	ctx, cancel := storeContext(ctx)
	defer cancel()
	for {
		c := d.look(e)
		if c == nil {
			return nil, errGone
		}
		n, err := fn(c)
		if err != nil || n == c {
			return n, err
		}
		err = d.cfg.Store.Update(ctx, n)
		if err == nil {
			d.install(n, true)
			return n, nil
		}
		if !errors.Is(err, ErrStale) {
			return nil, err
		}
		if err := d.refresh(ctx, e); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// refreshNow is refresh for a caller without a deadline of its own.
func (d *Dispatcher) refreshNow(ctx context.Context, e *entry) error {
	ctx, cancel := storeContext(ctx)
	defer cancel()
	return d.refresh(ctx, e)
}

// missedFor is for how long the store must have had no record of a command
// that it had: a leader of a cluster that was just elected may not know all
// that was stored.
const missedFor = 30 * time.Second

// refresh reads a command's record; errGone: there is none any more.
func (d *Dispatcher) refresh(ctx context.Context, e *entry) error {
	fresh, err := d.cfg.Store.Command(ctx, e.id)
	if errors.Is(err, ErrNotFound) {
		d.mu.Lock()
		if e.missed.IsZero() {
			e.missed = time.Now()
		}
		missed := time.Since(e.missed)
		d.mu.Unlock()
		if missed > missedFor {
			d.drop(e)
			return errGone
		}
		return fmt.Errorf("command %s is not found in the store, which had it: %w", e.id, ErrUnsettled)
	}
	if err != nil {
		return err
	}
	d.install(fresh, false)
	return nil
}

// recentEnds remembers the revisions of the last commands that ended, so that
// hearing of them again from the store is nothing new.
type recentEnds struct {
	revision map[string]uint64
	ring     [4096]string
	next     int
}

// note reports whether that revision is new.
func (r *recentEnds) note(c *Command) bool {
	known, ok := r.revision[c.ID]
	if ok && known >= c.Revision {
		return false
	}
	if !ok {
		delete(r.revision, r.ring[r.next])
		r.ring[r.next] = c.ID
		r.next = (r.next + 1) % len(r.ring)
	}
	r.revision[c.ID] = c.Revision
	return true
}
