package commands

import (
	"context"
	"errors"
	"time"
)

// maxLateEnds bounds the corrections that wait for their group to end.
const maxLateEnds = 100_000

// lateEnd is another end of a group's command, which this node has recorded.
type lateEnd struct {
	group         string
	before, after State  // before 0: the group has ended without this command
	revision      uint64 // of the record with the later end
}

// lateInGroup has the counts of the group corrected, when the command was
// counted with its earlier end.
func (d *Dispatcher) lateInGroup(before, now *Command) {
	if now.Group == "" || before.State == now.State {
		return
	}
	d.late(lateEnd{group: now.Group, before: before.State, after: now.State, revision: now.Revision})
}

// lateChild has a command counted that its group has ended without.
func (d *Dispatcher) lateChild(c *Command) {
	d.late(lateEnd{group: c.Group, after: c.State, revision: c.Revision})
}

func (d *Dispatcher) late(end lateEnd) {
	d.mu.Lock()
	if len(d.lateEnds) < maxLateEnds {
		d.lateEnds = append(d.lateEnds, end)
	}
	d.mu.Unlock()
	select {
	case d.newLate <- struct{}{}:
	default:
	}
}

// followUp does what is left to do with commands that have ended: it tells
// devices to stop them, and corrects the counts of groups. A group that has
// not ended is left until it has: whoever runs it may hear of the later end
// by itself.
func (d *Dispatcher) followUp(ctx context.Context) error {
	tick := time.NewTicker(retryAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-d.lateCancels:
			d.pushLateCancel(c)
			continue
		case <-d.newLate:
		case <-tick.C:
		}
		d.mu.Lock()
		list := d.lateEnds
		d.lateEnds = nil
		d.mu.Unlock()
		var open []lateEnd
		waiting := map[string]bool{} // groups that are known not to have ended
		for _, late := range list {
			if waiting[late.group] || ctx.Err() != nil {
				open = append(open, late)
				continue
			}
			if !d.correctGroup(ctx, late) {
				open, waiting[late.group] = append(open, late), true
			}
		}
		d.mu.Lock()
		d.lateEnds = append(open, d.lateEnds...)
		d.mu.Unlock()
	}
}

// correctGroup reports whether there is nothing more to do.
func (d *Dispatcher) correctGroup(ctx context.Context, late lateEnd) bool {
	ctx, cancel := storeContext(ctx)
	defer cancel()
	for {
		g, err := d.cfg.Store.Group(ctx, late.group)
		switch {
		case errors.Is(err, ErrNotFound):
			return true
		case err != nil || g.Ended.IsZero():
			return false
		case late.revision <= g.Seen || late.before != 0 && g.ByState[late.before] == 0:
			return true // counted by whoever ran it
		}
		g = g.clone()
		if late.before == 0 {
			g.Issued++
		} else if g.ByState[late.before]--; g.ByState[late.before] == 0 {
			delete(g.ByState, late.before)
		}
		if g.ByState == nil {
			g.ByState = map[State]int{}
		}
		g.ByState[late.after]++
		if err := d.cfg.Store.UpdateGroup(ctx, g); !errors.Is(err, ErrStale) {
			return err == nil
		}
	}
}
