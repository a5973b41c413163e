package commands

import (
	"context"
	"errors"
)

// NoAnswer ends a command as TIMED_OUT before its time is over: whoever holds
// the session, as a bridge to gear that cannot confirm anything, knows that no
// answer will come. reason is for people and says what is known. epoch is that
// of the session; it does nothing where the command was sent on a newer one,
// is none of the device's, or has ended. As after every TIMED_OUT, a later
// word of the device is recorded and wins.
//
// An error says that the end could not be recorded: the command then ends by
// its TTL, unless NoAnswer is called again.
func (d *Dispatcher) NoAnswer(ctx context.Context, device string, epoch uint64, id, reason string) error {
	if err := d.wait(ctx); err != nil {
		return err
	}
	e := d.entry(id)
	if e == nil || e.queue.device != device {
		return nil
	}
	e.step.Lock()
	defer e.step.Unlock()
	_, err := d.change(ctx, e, func(c *Command) (*Command, error) {
		if c.State == Queued || c.State.Ended() || c.SentEpoch > epoch {
			return c, nil
		}
		why := reason
		if c.CancelRequested {
			why += "; its cancellation could not be confirmed either"
		}
		return c.step(TimedOut, d.here(epoch), cut(why, MaxMessageBytes))
	})
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}
