package commands

import (
	"context"
	"errors"
	"time"
)

// leaseMargin is how long before its lease ends a run no longer relies on it:
// more than the clocks of hubs may be apart.
const leaseMargin = groupLease / 4

// leased reports whether nobody else can have taken the group up or, as far
// as this node knows, canceled it. Asked after a command was recorded, it
// says that whoever takes the group up finds that command. The time of day
// counts, not that since the process was last awake.
func (r *groupRun) leased() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.g.State != GroupCanceled && r.g.Ended.IsZero() &&
		time.Now().Round(0).Before(r.lease.Round(0).Add(-leaseMargin))
}

// leased reports whether this node runs the group, as groupRun.leased does.
func (d *Dispatcher) leased(group string) bool {
	d.mu.Lock()
	run := d.groups[group]
	d.mu.Unlock()
	return run != nil && run.leased()
}

// withGroup says why the commands of a canceled group are canceled.
func withGroup(g *Group) string { return " with its group, which was " + g.Reason + "," }

// overtaken says why a command of a group must not go out (any more): its
// group is canceled, or has ended, and this one came too late to be seen by
// whoever has ended it, from a node that had lost the group without noticing.
// "": it may go out.
func (d *Dispatcher) overtaken(ctx context.Context, c *Command) (by string, err error) {
	if c.Group == "" {
		return "", nil
	}
	g, err := d.cfg.Store.Group(ctx, c.Group)
	switch {
	case errors.Is(err, ErrNotFound):
		return " because its group is no longer known,", nil
	case err != nil:
		return "", err
	case g.State == GroupCanceled:
		return withGroup(g), nil
	case !g.Ended.IsZero():
		return " because its group had ended without it,", nil
	}
	return "", nil
}

// endOvertaken ends a command of a group that must not go out, before any
// byte of it has; one that may have reached the device is to be stopped there.
// The caller holds e.step. It returns false for one that may go out.
func (d *Dispatcher) endOvertaken(ctx context.Context, e *entry, c *Command) (bool, error) {
	by, err := d.overtaken(ctx, c)
	if err != nil || by == "" {
		return false, err
	}
	return true, d.cancelOvertaken(ctx, e, by)
}

func (d *Dispatcher) cancelOvertaken(ctx context.Context, e *entry, by string) error {
	n, err := d.change(ctx, e, func(c *Command) (*Command, error) {
		d.mu.Lock()
		owed := e.owed
		d.mu.Unlock()
		if c.State == Sent && c.Attempts == 1 && owed {
			return c.neverSent(d.here(0), by)
		}
		return c.cancel(d.here(0), by)
	})
	if errors.Is(err, errGone) || errors.Is(err, ErrEnded) {
		return nil
	}
	if err == nil && n.State.Ended() {
		d.lateChild(n)
	}
	return err
}

// neverSent cancels a command that is recorded as SENT, and of which no byte
// has left.
func (c *Command) neverSent(a at, by string) (*Command, error) {
	n, err := c.step(Canceled, a, "canceled"+by+" before it was sent")
	if err != nil {
		return nil, err
	}
	n.Attempts--
	n.SentNode, n.SentEpoch, n.SentAt = "", 0, time.Time{}
	return n, nil
}

// sweepGroups ends the commands, among those in views, whose group has ended
// without them.
func (d *Dispatcher) sweepGroups(ctx context.Context, views map[*entry]*Command) {
	children := map[string][]*entry{}
	d.mu.Lock()
	for e, c := range views {
		if c.Group != "" && d.groups[c.Group] == nil && !c.CancelRequested {
			children[c.Group] = append(children[c.Group], e)
		}
	}
	d.mu.Unlock()
	for id, entries := range children {
		g, err := d.cfg.Store.Group(ctx, id)
		if ctx.Err() != nil || err == nil && g.Ended.IsZero() || err != nil && !errors.Is(err, ErrNotFound) {
			continue // its runner looks after them
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return
			}
			e.step.Lock()
			c, err := d.look(e), error(nil)
			if c != nil {
				_, err = d.endOvertaken(ctx, e, c)
			}
			e.step.Unlock()
			if err != nil && ctx.Err() == nil {
				d.log.Warn("a command whose group has ended without it was not canceled; trying again", "command", e.id, "group", id, "error", err)
			}
		}
	}
}
