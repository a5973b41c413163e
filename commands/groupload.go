package commands

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// groupReserve is how many members a group reserves at once, which is what
	// a run that takes it up looks at beyond Next, at most.
	groupReserve = 1024
	// groupFarewell bounds the last record of a run that ends early.
	groupFarewell = 2 * time.Second
)

// take makes the group this node's, from how it stands in the store: what it
// was listed as may be old.
func (r *groupRun) take(ctx context.Context) error {
	g, err := r.d.cfg.Store.Group(ctx, r.g.ID)
	if err != nil {
		return err
	}
	if r.othersOwn(g) {
		return errNotOurs
	}
	r.replace(g)
	if r.members, err = r.d.cfg.Store.Members(ctx, g.ID); err != nil {
		return err
	}
	return r.record(ctx, true)
}

// othersOwn reports whether the stored group is not for this run: it has
// ended, or another node has it, or has had it since this run took it.
func (r *groupRun) othersOwn(stored *Group) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !stored.Ended.IsZero() ||
		stored.Runner != r.d.cfg.Node && (!r.recorded.IsZero() || time.Now().Before(stored.Lease))
}

func (r *groupRun) replace(stored *Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stored.Revision >= r.g.Revision {
		r.g = stored.clone()
	}
}

// reserve has it on disk that the first upTo members may have a command, so
// that whoever takes the group up, after whatever happens to this node, looks
// at each that may. open: the group goes on, also for all other nodes.
func (r *groupRun) reserve(ctx context.Context, upTo int) (open bool, err error) {
	r.mu.Lock()
	id, due := r.g.ID, upTo > r.g.Reserved
	if due {
		r.g.Reserved = min(upTo+groupReserve, len(r.members))
	}
	r.mu.Unlock()
	if due {
		err = r.record(ctx, true)
	} else {
		var stored *Group
		if stored, err = r.d.cfg.Store.Group(ctx, id); err == nil {
			if r.othersOwn(stored) {
				return false, errNotOurs
			}
			r.adopt(stored)
		}
	}
	return r.running(), err
}

// load the states of the commands that were issued before: each that may have
// been.
func (r *groupRun) load(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(parallel)
	r.mu.Lock()
	if r.g.Reserved == 0 {
		r.g.Reserved = len(r.members)
	}
	id, found := r.g.ID, make([]bool, min(max(r.g.Reserved, r.g.Next), len(r.members)))
	r.mu.Unlock()
	for i, member := range r.members[:len(found)] {
		g.Go(func() error {
			c, err := r.d.command(ctx, childID(id, member))
			if err == nil {
				found[i] = true
				r.tell(c)
			} else if errors.Is(err, ErrNotFound) {
				return nil
			}
			return err
		})
	}
	err := g.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loaded = err == nil
	if err != nil {
		return err
	}
	missing := -r.g.Refused
	for i, ok := range found {
		if !ok && (i < r.g.Next || slices.Contains(r.g.Ahead, i)) {
			missing++
		}
	}
	now := map[State]int{}
	for _, child := range r.states {
		now[child.state]++
	}
	r.gone = max(0, missing)
	r.lost = addDropped(now, r.g.ByState, r.gone)
	r.g.ByState, r.g.Issued, r.dirty = now, len(r.states)+r.gone, true
	return nil
}

// addDropped adds to counts, by state, of the commands that are in the store,
// those whose records the history has dropped: it drops what has ended, the
// oldest first, and how many had ended how was stored before. It returns how
// many remain: of those the end is not known.
func addDropped(now, stored map[State]int, dropped int) (rest int) {
	var most [len(stateNames)]int // that can be among the dropped ones
	add := func(s State, n int) {
		if n = min(n, dropped, most[s]); n > 0 {
			now[s] += n
			most[s], dropped = most[s]-n, dropped-n
		}
	}
	missed := map[State]int{}
	for s, n := range stored {
		if s.Ended() {
			most[s], missed[s] = n, n-now[s]
		}
	}
	for s := range State(len(stateNames)) {
		add(s, missed[s]) // no longer there at all
	}
	for s := range State(len(stateNames)) {
		add(s, most[s]) // others have ended like that since
	}
	return dropped
}

// issued reports whether the member has its command.
func (r *groupRun) issued(member int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.states[childID(r.g.ID, r.members[member])]
	return known || slices.Contains(r.g.Ahead, member)
}

// noteAhead takes down which of the next members have their command, when not
// all of them could get one.
func (r *groupRun) noteAhead(next, n int) {
	var ahead []int
	for i := next; i < next+n; i++ {
		if r.issued(i) {
			ahead = append(ahead, i)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(ahead, r.g.Ahead) {
		r.g.Ahead, r.dirty = ahead, true
	}
}

// leave records how far the group has come when its run ends early, where
// that can be done.
func (r *groupRun) leave(err error) {
	r.mu.Lock()
	g := r.g.clone()
	due := err != nil && !errors.Is(err, errNotOurs) && r.loaded && r.dirty
	r.mu.Unlock()
	if !due {
		return
	}
	g.Runner, g.Lease = r.d.cfg.Node, time.Now().UTC().Add(groupLease)
	ctx, cancel := context.WithTimeout(context.Background(), groupFarewell)
	defer cancel()
	if err := r.d.cfg.Store.UpdateGroup(ctx, g); err != nil {
		r.d.log.Info("the last progress of a group command was not recorded; it will be counted again", "group", g.ID, "error", err)
	}
}
