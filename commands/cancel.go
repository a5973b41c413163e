package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Cancel stops a command. What is QUEUED is CANCELED at once. What may have
// reached the device keeps its state, with CancelRequested set: it is not
// sent again, the device is told to stop it (on its next connection, where it
// is away), and its word decides; without one the command ends by its TTL or
// its response timeout. Asking again does no harm.
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
				return *c, fmt.Errorf("command %s is %s: %w", id, c.State, ErrEnded)
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

// CancelDevice cancels every command of the device that has not ended, as
// Cancel does: for a device that the operator has removed, which is what the
// story of each tells. It returns how many.
func (d *Dispatcher) CancelDevice(ctx context.Context, device, operator string) (int, error) {
	by := ", because the device was removed" + byOperator(operator) + ","
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
		_, err := d.cancelEntry(ctx, e, by)
		if errors.Is(err, errGone) || errors.Is(err, ErrEnded) {
			continue
		}
		if err != nil {
			return n, fmt.Errorf("cancel command %s: %w", e.id, err)
		}
		n++
	}
	return n, nil
}
