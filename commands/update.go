package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// maxOwed bounds the ends that wait for a store that does not take them.
// Those beyond it the device reports again when it connects the next time.
const maxOwed = 10_000

// owedEnd is an end that the store did not take yet.
type owedEnd struct {
	device string
	word   word
}

// Update records what the device has said about a command. final: the
// command's end is on disk, and the device is to be told so (CommandAck).
// An id that is not one of this device's commands is answered final, without
// a trace, so that the device does not repeat it for ever.
//
// The error is a *TransitionError where the word cannot be, or wraps
// ErrInvalid, or says that the end could not be recorded yet: the dispatcher
// tries on, and sends the CommandAck itself.
func (d *Dispatcher) Update(ctx context.Context, device string, epoch uint64, u *devicev1.CommandUpdate) (final bool, err error) {
	w, err := newWord(u, d.here(epoch))
	if err != nil {
		return false, err
	}
	if err := d.wait(ctx); err != nil {
		return false, err
	}
	final, err = d.hear(ctx, device, u.GetId(), w)
	var illegal *TransitionError
	if err == nil || !w.state.Ended() || errors.As(err, &illegal) {
		return final, err
	}
	d.stats.storeErrors.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.owed) < maxOwed {
		d.owed[u.GetId()] = owedEnd{device: device, word: w}
	}
	return false, fmt.Errorf("record the end of command %s: %w", u.GetId(), err)
}

// hear takes a word in: DELIVERED and progress at once in memory and soon on
// disk, an end on disk before it returns.
func (d *Dispatcher) hear(ctx context.Context, device, id string, w word) (final bool, err error) {
	e := d.entry(id)
	if e == nil {
		return d.hearEnded(ctx, device, id, w)
	}
	if c := d.look(e); e.queue.device != device || c != nil && !d.owns(c) {
		return d.unknown(device, id, w)
	}
	e.step.Lock()
	err = d.hearWith(ctx, e, w)
	var illegal *TransitionError
	if errors.As(err, &illegal) {
		// Another node may have sent it, of which this one has not heard yet.
		if err = d.refreshNow(ctx, e); err == nil {
			err = d.hearWith(ctx, e, w)
		}
	}
	e.step.Unlock()
	if errors.Is(err, errGone) {
		return d.hearEnded(ctx, device, id, w)
	}
	return err == nil && w.state.Ended(), err
}

// hearWith takes a word in by what this node knows of the command; the caller
// holds e.step.
func (d *Dispatcher) hearWith(ctx context.Context, e *entry, w word) error {
	if !w.state.Ended() {
		return d.soften(e, w)
	}
	_, err := d.change(ctx, e, func(c *Command) (*Command, error) { return c.hear(w) })
	return err
}

// soften takes a word in that is not stored at once; the caller holds e.step.
func (d *Dispatcher) soften(e *entry, w word) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.gone {
		return errGone
	}
	before := e.view
	n, err := before.hear(w)
	if err != nil || n == before {
		return err
	}
	delay := progressDelay
	if w.state == Delivered || before.State == Sent {
		delay = wordDelay
	}
	if at := time.Now().Add(delay); e.flushAt.IsZero() || at.Before(e.flushAt) {
		e.flushAt = at
	}
	if last := len(e.words) - 1; last > 0 && e.words[last].state == Running {
		e.words = e.words[:last] // what counts of progress is the latest
	}
	e.view, e.words = n, append(e.words, w)
	if n.State != Sent {
		e.lost = time.Time{}
	}
	d.afterLocked(e, before)
	return nil
}

// hearEnded takes in a word about a command that has ended, or that this
// node has not heard of.
func (d *Dispatcher) hearEnded(ctx context.Context, device, id string, w word) (bool, error) {
	if CheckKey(id) != nil {
		return d.unknown(device, id, w)
	}
	ctx, cancel := storeContext(ctx)
	defer cancel()
	for {
		c, err := d.cfg.Store.Command(ctx, id)
		if errors.Is(err, ErrNotFound) || err == nil && (c.Device != device || !d.owns(c)) {
			return d.unknown(device, id, w)
		}
		if err != nil {
			return false, err
		}
		n, err := c.hear(w)
		var illegal *TransitionError
		if errors.As(err, &illegal) && c.Confirmed && w.state.Ended() {
			// Its end is recorded by its own first word, and stays.
			d.log.Warn("a device reports a second, different end", "device", device, "command", id, "recorded", c.State.String(), "reported", w.state.String())
			return true, nil
		}
		if err != nil || n == c {
			return err == nil && w.state.Ended(), err
		}
		err = d.cfg.Store.Update(ctx, n)
		if errors.Is(err, ErrStale) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return false, err
		}
		if c.State.Ended() && n.State.Ended() && w.state.Ended() {
			d.stats.late.Add(1)
			d.lateInGroup(c, n)
		}
		d.install(n, true)
		return w.state.Ended(), nil
	}
}

// unknown answers a word about a command that is none of the device's.
func (d *Dispatcher) unknown(device, id string, w word) (bool, error) {
	d.stats.unknown.Add(1)
	d.log.Debug("a device reports on a command it does not have", "device", device, "command", cut(id, MaxIDBytes), "state", w.state.String())
	return w.state.Ended(), nil
}

// recordOwed brings ends to the store that it did not take at first, and
// tells the devices.
func (d *Dispatcher) recordOwed(ctx context.Context) error {
	tick := time.NewTicker(retryAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		d.mu.Lock()
		ids := make([]string, 0, len(d.owed))
		for id := range d.owed {
			ids = append(ids, id)
		}
		d.mu.Unlock()
		for _, id := range ids {
			d.mu.Lock()
			o := d.owed[id]
			d.mu.Unlock()
			final, err := d.hear(ctx, o.device, id, o.word)
			if err != nil && ctx.Err() == nil {
				var illegal *TransitionError
				if !errors.As(err, &illegal) {
					break // the store is still away
				}
			}
			d.mu.Lock()
			delete(d.owed, id)
			d.mu.Unlock()
			if final {
				d.cfg.Sender.Send(o.device, &devicev1.HubFrame{
					Frame: &devicev1.HubFrame_CommandAck{CommandAck: &devicev1.CommandAck{Id: id}},
				})
			}
		}
	}
}
