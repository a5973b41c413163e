package commands

import (
	"context"
	"errors"
	"time"
)

// await the ends of what was issued.
func (r *groupRun) await(ctx context.Context) error {
	for {
		if err := r.cancelChildren(ctx); err != nil {
			return err
		}
		done := r.close()
		if err := r.record(ctx, done); err != nil || done {
			return err
		}
		wait := time.NewTimer(r.patience())
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-r.changed:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// maxUnseen is how long a group whose commands have all ended waits until the
// node has followed the store up to the last of these ends.
const maxUnseen = 10 * time.Second

// close ends the group when every issued command has ended. From then on its
// counts stay as they are, for this node: they have every end up to Seen, and
// no later one.
func (r *groupRun) close() bool {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.g.Ended.IsZero() {
		return true
	}
	// Of the last ones, not all were issued where it has stopped meanwhile.
	r.g.Issued = max(r.g.Issued, len(r.states)+r.aged)
	if ended, _ := r.g.ended(); ended+r.aged < r.g.Issued {
		r.over = time.Time{}
		return false
	}
	seen := r.d.followed
	if seen < r.newest {
		if r.over.IsZero() {
			r.over = time.Now()
		}
		if time.Since(r.over) < maxUnseen {
			return false
		}
		seen = r.newest
	}
	if r.g.State == GroupRunning {
		r.g.State, r.g.Reason = GroupDone, "every command has ended"
	}
	r.g.Ended, r.g.Seen, r.dirty = r.d.here(0).time, seen, true
	return true
}

// cancelChildren cancels what has not ended, when the group is canceled.
func (r *groupRun) cancelChildren(ctx context.Context) error {
	r.mu.Lock()
	var open []string
	if r.g.State == GroupCanceled {
		for id, child := range r.states {
			if !child.state.Ended() {
				open = append(open, id)
			}
		}
	}
	by := " with its group, which was " + r.g.Reason + ","
	r.mu.Unlock()
	for _, id := range open {
		e := r.d.entry(id)
		if e == nil {
			continue // its end is about to be told
		}
		if c := r.d.look(e); c == nil || c.CancelRequested {
			continue
		}
		_, err := r.d.cancelEntry(ctx, e, by)
		if err != nil && !errors.Is(err, errGone) && !errors.Is(err, ErrEnded) {
			return err
		}
	}
	return nil
}

// patience is how long await waits for a change.
func (r *groupRun) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over.IsZero() {
		return groupPersist / 20
	}
	return groupPersist
}

// tell takes the state of one of the group's commands in. It may be called
// with Dispatcher.mu held.
func (r *groupRun) tell(c *Command) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.states[c.ID]
	if known && (c.Revision < old.revision || c.Revision == old.revision && c.State < old.state) {
		return
	}
	if !r.g.Ended.IsZero() {
		return // what comes now is counted by who has recorded it
	}
	r.newest = max(r.newest, c.Revision)
	r.states[c.ID] = childState{state: c.State, revision: c.Revision}
	if old.state == c.State {
		return
	}
	if r.loaded {
		if known {
			r.g.ByState[old.state]--
		}
		r.g.ByState[c.State]++
	}
	r.dirty = true
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// snapshot is the group as it stands; nil before that is known.
func (r *groupRun) snapshot() *Group {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return nil
	}
	return r.g.clone()
}

// adopt takes over that the stored group was canceled.
func (r *groupRun) adopt(stored *Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stored.Revision <= r.g.Revision {
		return
	}
	r.g.Revision = stored.Revision
	if stored.State == GroupCanceled {
		r.g.State, r.g.Reason = stored.State, stored.Reason
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// record stores the group's progress when that is due, or now.
func (r *groupRun) record(ctx context.Context, now bool) error {
	for {
		r.mu.Lock()
		age := time.Since(r.recorded)
		if !now && (age < groupPersist || !r.dirty && age < groupRenew) {
			r.mu.Unlock()
			return nil
		}
		g := r.g.clone()
		r.dirty = false
		r.mu.Unlock()
		g.Runner, g.Lease = r.d.cfg.Node, time.Now().UTC().Add(groupLease)
		wctx, cancel := storeContext(ctx)
		err := r.d.cfg.Store.UpdateGroup(wctx, g)
		cancel()
		if err == nil {
			r.mu.Lock()
			r.g.Revision, r.recorded = max(r.g.Revision, g.Revision), time.Now()
			r.mu.Unlock()
			return nil
		}
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		if !errors.Is(err, ErrStale) {
			return err
		}
		stored, err := r.d.cfg.Store.Group(ctx, g.ID)
		if err != nil {
			return err
		}
		if !stored.Ended.IsZero() || stored.Runner != r.d.cfg.Node && time.Now().Before(stored.Lease) {
			return errNotOurs
		}
		r.adopt(stored)
	}
}
