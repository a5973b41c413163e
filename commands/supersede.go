package commands

import (
	"context"
	"errors"
	"slices"
)

// supersede cancels what a newer latest-wins command of the same name takes
// the place of: what is QUEUED, and what was SENT on a session that is gone.
// pending is in the order of acceptance; the caller holds no step.
func (d *Dispatcher) supersede(ctx context.Context, pending []*entry) error {
	newer := map[string]string{}
	for _, e := range slices.Backward(pending) {
		d.mu.Lock()
		c, inFlight := e.view, e.view.State == Sent && d.inFlightLocked(e)
		gone := e.gone
		d.mu.Unlock()
		if gone || c.Spec.Replay != LatestWins {
			continue
		}
		by, ok := newer[c.Spec.Name]
		if !ok {
			newer[c.Spec.Name] = e.id
			continue
		}
		if !c.State.Undelivered() || inFlight {
			continue
		}
		e.step.Lock()
		_, err := d.change(ctx, e, func(c *Command) (*Command, error) {
			if !c.State.Undelivered() {
				return c, nil
			}
			return c.supersede(d.here(0), by)
		})
		e.step.Unlock()
		if err != nil && !errors.Is(err, errGone) {
			return err
		}
	}
	return nil
}

// inFlightLocked reports whether the command was sent on a session that, for
// all this node knows, is still there: the device's word may come any moment.
func (d *Dispatcher) inFlightLocked(e *entry) bool {
	if epoch := e.queue.epoch; epoch != 0 {
		return e.pushed == epoch || epoch < e.view.SentEpoch
	}
	return e.view.SentNode != d.cfg.Node
}
