package commands

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// groupAgain is the pause of a group that cannot issue at the moment.
const groupAgain = 2 * time.Second

// permitted checks that who has sent a group command may still send one to
// the device. Memory may only be behind: the registry is asked before a
// refusal.
func (d *Dispatcher) permitted(ctx context.Context, operator, id, device string) error {
	if d.cfg.Operators == nil || operator == "" {
		return nil
	}
	err := d.cfg.Operators.CheckOperator(operator, id, device)
	if err == nil {
		return nil
	}
	if err := d.cfg.Operators.RefreshOperators(ctx); err != nil {
		return err
	}
	if err := d.cfg.Devices.Refresh(ctx, device); err != nil {
		return err
	}
	return d.cfg.Operators.CheckOperator(operator, id, device)
}

// heldUp decides what becomes of a group whose next commands were not issued
// because of err: the rest is left out when its operator is gone, and it waits
// while the store is full, for as long as issuing may take. It returns false
// for no error, and else whether to go on with issuing.
func (r *groupRun) heldUp(ctx context.Context, err error) (again bool, _ error) {
	r.mu.Lock()
	waiting := ""
	switch left := r.g.left(); {
	case err == nil:
		if r.held {
			r.held, r.g.Reason, r.dirty = false, "accepted", true
		}
	case errors.Is(err, ErrNoOperator):
		r.stop(fmt.Sprintf("stopped: %s, who sent it, %s; %d devices were left out", r.g.Operator, ErrNoOperator, left))
	case errors.Is(err, ErrFull) && time.Since(r.g.Created) > MaxGroupIssue:
		r.stop(fmt.Sprintf("stopped: the command store was full, and issuing has taken longer than %s; %d devices were left out", MaxGroupIssue, left))
	case errors.Is(err, ErrFull):
		waiting = fmt.Sprintf("waiting to be issued to %d devices: the command store is full of commands that have not ended", left)
		if r.g.State == GroupRunning && r.g.Reason != waiting {
			r.g.Reason, r.dirty = waiting, true
		}
		r.held = true
	default:
		r.mu.Unlock()
		return false, err
	}
	r.mu.Unlock()
	if waiting != "" {
		return true, r.pause(ctx, groupAgain, true)
	}
	return err != nil, nil
}

// stop issues no more; the caller holds r.mu.
func (r *groupRun) stop(reason string) {
	if r.g.State == GroupRunning {
		r.g.State, r.g.Reason, r.dirty = GroupStopped, reason, true
	}
}
