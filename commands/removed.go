package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// sweepEvery is how often a node looks for commands whose device has been
// removed: those that were accepted while that happened, on whichever node.
const sweepEvery = 5 * time.Second

// owns reports whether the device that has the command's name now may be told
// of it, and may answer for it: it is the registration that the command was
// for, or there is none any more, and what is heard comes from that one.
func (d *Dispatcher) owns(c *Command) bool {
	if c.Registration == "" {
		return true // of a hub that did not record it
	}
	now := d.cfg.Devices.Registration(c.Device)
	return now == "" || now == c.Registration
}

// orphaned reports whether the device that the command was for is no longer
// registered, for all that this node's memory knows.
func (d *Dispatcher) orphaned(c *Command) bool {
	if c.Registration == "" {
		return errors.Is(d.cfg.Devices.CheckDevice(context.Background(), c.Device), ErrUnknownDevice)
	}
	return d.cfg.Devices.Registration(c.Device) != c.Registration
}

// CancelDevice ends every command of a device that the operator has removed,
// which is what the story of each tells, and returns how many. Whether one
// that may have reached the device was done is not known: should the device
// have said so on its last connection, that is recorded and wins.
func (d *Dispatcher) CancelDevice(ctx context.Context, device, operator string) (int, error) {
	if err := d.wait(ctx); err != nil {
		return 0, err
	}
	q := d.acquire(device)
	defer d.release(q)
	d.mu.Lock()
	pending := slices.Clone(q.pending)
	d.mu.Unlock()
	n := 0
	for _, e := range pending {
		ended, err := d.endRemoved(ctx, e, byOperator(operator))
		if err != nil {
			return n, fmt.Errorf("cancel command %s: %w", e.id, err)
		}
		if ended {
			n++
		}
	}
	return n, nil
}

// endRemoved ends a command whose device has been removed, by whom, unless it
// is for a later device of that name.
func (d *Dispatcher) endRemoved(ctx context.Context, e *entry, by string) (bool, error) {
	e.step.Lock()
	defer e.step.Unlock()
	ended := false
	_, err := d.change(ctx, e, func(c *Command) (*Command, error) {
		ended = c.Registration == "" || d.orphaned(c)
		if !ended {
			return c, nil
		}
		return c.removed(d.here(0), by)
	})
	if errors.Is(err, errGone) {
		return false, nil
	}
	return ended && err == nil, err
}

// endOrphan ends a command whose device is found to be removed. Memory may
// only be behind: the registry is asked first.
func (d *Dispatcher) endOrphan(ctx context.Context, e *entry) error {
	if err := d.cfg.Devices.Refresh(ctx, e.queue.device); err != nil {
		return err
	}
	c := d.look(e)
	if c == nil || !d.orphaned(c) {
		return nil
	}
	_, err := d.endRemoved(ctx, e, "")
	return err
}

// sweep ends, now and then, the commands that a group has ended without, and
// those whose device was removed and that CancelDevice has not met. One is left alone until it is found a second time,
// so that a registry that is a moment behind ends nothing.
func (d *Dispatcher) sweep(ctx context.Context) error {
	tick := time.NewTicker(d.sweepEvery)
	defer tick.Stop()
	suspects := map[*entry]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		d.mu.Lock()
		views := make(map[*entry]*Command, len(d.entries))
		for _, e := range d.entries {
			views[e] = e.view
		}
		d.mu.Unlock()
		d.sweepGroups(ctx, views)
		found := map[*entry]bool{}
		for e, c := range views {
			if !d.orphaned(c) {
				continue
			}
			found[e] = true
			if !suspects[e] {
				continue
			}
			if err := d.endOrphan(ctx, e); err != nil && ctx.Err() == nil {
				d.log.Warn("a command of a device that was removed was not ended; trying again", "command", e.id, "device", e.queue.device, "error", err)
			}
		}
		suspects = found
	}
}
