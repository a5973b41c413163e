package commands

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
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
	if ended, _ := r.g.ended(); ended+r.lost < r.g.Issued {
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
	by := withGroup(r.g)
	r.mu.Unlock()
	for part := range slices.Chunk(open, groupBurst) {
		var g errgroup.Group
		g.SetLimit(parallel)
		for _, id := range part {
			g.Go(func() error { return r.cancelChild(ctx, id, by) })
		}
		if err := cmp.Or(g.Wait(), ctx.Err(), r.record(ctx, false)); err != nil {
			return err
		}
	}
	return nil
}

func (r *groupRun) cancelChild(ctx context.Context, id, by string) error {
	e := r.d.entry(id)
	if e == nil {
		return nil // its end is about to be told
	}
	if c := r.d.look(e); c == nil || c.CancelRequested {
		return nil
	}
	_, err := r.d.cancelEntry(ctx, e, by)
	if errors.Is(err, errGone) || errors.Is(err, ErrEnded) {
		return nil
	}
	return err
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
		r.g.Issued = len(r.states) + r.gone
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
			r.g.Revision, r.recorded, r.lease = max(r.g.Revision, g.Revision), time.Now(), g.Lease
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
		if r.othersOwn(stored) {
			return errNotOurs
		}
		if stored.Runner != r.d.cfg.Node {
			r.replace(stored) // still being taken
		}
		r.adopt(stored)
	}
}
