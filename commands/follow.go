package commands

import (
	"context"
	"errors"
	"time"
)

// follow keeps the index up to date with the store, whichever node changes it.
func (d *Dispatcher) follow(ctx context.Context) error {
	for {
		seen := map[string]bool{}
		err := d.cfg.Store.Follow(ctx, func(ch Change) {
			switch {
			case ch.ID != "":
				if seen != nil {
					seen[ch.ID] = true
				}
				d.learn(ch)
				if seen == nil {
					d.followedTo(ch.Revision)
				}
			case seen != nil:
				d.followedTo(ch.Revision)
				d.caughtUp(ctx, seen)
				seen = nil
			}
		})
		if ctx.Err() != nil {
			return nil
		}
		d.log.Error("following the command store failed; trying again", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryAfter):
		}
	}
}

func (d *Dispatcher) followedTo(revision uint64) {
	d.mu.Lock()
	d.followed = max(d.followed, revision)
	d.mu.Unlock()
}

// learn takes over a change that Follow hands out.
func (d *Dispatcher) learn(ch Change) {
	d.mu.Lock()
	e := d.entries[ch.ID]
	known := e != nil && e.view.Revision >= ch.Revision || e == nil && d.ends.revision[ch.ID] >= ch.Revision
	d.mu.Unlock()
	if known {
		return
	}
	c, err := ch.Load()
	if err != nil {
		d.log.Error("a stored command cannot be read", "command", ch.ID, "device", ch.Device, "error", err)
		return
	}
	d.install(c, false)
}

// caughtUp is called when every live command of the store was learned. What
// is still in the index without being live has ended while nobody followed.
func (d *Dispatcher) caughtUp(ctx context.Context, live map[string]bool) {
	var missed []*entry
	d.mu.Lock()
	for id, e := range d.entries {
		if !live[id] {
			missed = append(missed, e)
		}
	}
	d.mu.Unlock()
	for _, e := range missed {
		switch c, err := d.cfg.Store.Command(ctx, e.id); {
		case err == nil:
			d.install(c, false)
		case errors.Is(err, ErrNotFound):
			d.drop(e)
		}
	}
	select {
	case <-d.ready:
		return
	default:
	}
	d.mu.Lock()
	for _, q := range d.queues {
		if q.epoch == 0 {
			for _, e := range q.pending {
				d.loseLocked(e) // its session, if this node had it, has died with the last process
			}
		}
		d.wakeLocked(q)
	}
	pending := len(d.entries)
	d.mu.Unlock()
	close(d.ready)
	d.log.Info("command dispatcher is ready", "node", d.cfg.Node, "pending", pending)
}
