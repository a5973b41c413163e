package commands

import (
	"context"
	"errors"
	"fmt"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Cancel stops a command. What is QUEUED is CANCELED at once. What may have
// reached the device keeps its state, with CancelRequested set: it is not
// sent again, the device is told to stop it (on its next connection, where it
// is away), and its word decides; without one the command ends by its TTL or
// its response timeout. Asking again does no harm.
//
// What the hub has ended without the device's word, the device may be at: it
// is told to stop it, if it is connected, and the end gives way to its word.
//
// Errors wrap ErrNotFound or ErrEnded.
func (d *Dispatcher) Cancel(ctx context.Context, id, operator string) (Command, error) {
	if err := CheckKey(id); err != nil {
		return Command{}, fmt.Errorf("command %.80q: %w", id, ErrNotFound)
	}
	if err := d.wait(ctx); err != nil {
		return Command{}, err
	}
	for range 3 {
		e := d.entry(id)
		if e == nil {
			c, err := d.cfg.Store.Command(ctx, id)
			if err != nil {
				return Command{}, fmt.Errorf("command %s: %w", id, err)
			}
			if c.State.Ended() {
				return d.cancelEnded(ctx, c, operator)
			}
			d.install(c, false) // another node's, just accepted
			continue
		}
		c, err := d.cancelEntry(ctx, e, byOperator(operator))
		if errors.Is(err, errGone) {
			continue // it has just ended: the store says how
		}
		return deref(c), err
	}
	return Command{}, fmt.Errorf("cancel command %s: it is changing; try again", id)
}

// cancelEnded records that a command that has ended is to be canceled, and
// tells the device, wherever it is connected: the other nodes hear of the
// record.
func (d *Dispatcher) cancelEnded(ctx context.Context, c *Command, operator string) (Command, error) {
	ctx, cancel := storeContext(ctx)
	defer cancel()
	for {
		n, err := c.cancelLate(d.here(0), byOperator(operator))
		if err != nil {
			return *c, err
		}
		if n != c {
			err = d.cfg.Store.Update(ctx, n)
		}
		switch {
		case err == nil:
			d.install(n, true)
			d.pushLateCancel(n)
			return *n, nil
		case !errors.Is(err, ErrStale):
			return *c, fmt.Errorf("cancel command %s: %w", c.ID, err)
		}
		fresh, err := d.cfg.Store.Command(ctx, c.ID)
		if err != nil {
			return *c, fmt.Errorf("command %s: %w", c.ID, err)
		}
		c = fresh
	}
}

// pushLateCancel tells the device, if it has a session on this node, to stop
// a command that the hub has ended.
func (d *Dispatcher) pushLateCancel(c *Command) {
	if c == nil || !c.LateCancel || !c.mayBeOnDevice() || !d.owns(c) {
		return
	}
	d.cfg.Sender.Send(c.Device, &devicev1.HubFrame{
		Frame: &devicev1.HubFrame_CommandCancel{CommandCancel: &devicev1.CommandCancel{Id: c.ID}},
	})
}

// cancelEntry makes the step, and leaves the rest to the lane: after makes
// it tell the device.
func (d *Dispatcher) cancelEntry(ctx context.Context, e *entry, by string) (*Command, error) {
	e.step.Lock()
	defer e.step.Unlock()
	d.mu.Lock()
	e.canceled = 0 // asked for again: tell the device again
	d.mu.Unlock()
	return d.change(ctx, e, func(c *Command) (*Command, error) {
		n, err := c.cancel(d.here(0), by)
		if err == nil && n == c {
			d.mu.Lock()
			d.wakeLocked(e.queue)
			d.mu.Unlock()
		}
		return n, err
	})
}

func byOperator(name string) string {
	if name == "" {
		return ""
	}
	return " by " + name
}
