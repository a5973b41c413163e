package commands

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// Connected tells that the device's session of that epoch, on this node, has
// been established. Its pending commands go out in the order of acceptance;
// Connected does not wait for them.
func (d *Dispatcher) Connected(device string, epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queueLocked(device)
	if epoch <= q.epoch {
		return
	}
	q.epoch, q.hold = epoch, false
	if len(q.pending) > 0 {
		d.wakeLocked(q)
	}
}

// Disconnected tells that the session of that epoch is gone. A late goodbye
// of an older session changes nothing for the newer one.
func (d *Dispatcher) Disconnected(device string, epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[device]
	if q == nil {
		return
	}
	for _, e := range q.pending {
		if e.pushed != 0 && e.pushed <= epoch {
			d.loseLocked(e)
		}
	}
	if q.epoch != epoch {
		return
	}
	q.epoch = 0
	d.forgetLocked(q)
}

// loseLocked starts the clock of a command of the class once whose delivery
// will perhaps never be known: the session it was sent on is gone.
func (d *Dispatcher) loseLocked(e *entry) {
	c := e.view
	if c.State != Sent || c.Spec.Replay != Once || !e.lost.IsZero() || e.owed {
		return
	}
	if e.pushed == 0 && c.SentNode != d.cfg.Node && e.queue.epoch <= c.SentEpoch {
		return // another node's session, which may be well
	}
	e.lost = time.Now()
	d.scheduleLocked(e)
}

// wakeLocked has the queue's commands delivered soon.
func (d *Dispatcher) wakeLocked(q *queue) {
	if q.woken || q.hold || q.epoch == 0 {
		return
	}
	q.woken = true
	d.lanes = append(d.lanes, q)
	d.signal()
}

// deliver hands the device's commands to its session, in order.
func (d *Dispatcher) deliver(ctx context.Context, q *queue) {
	defer d.release(q)
	q.lane.Lock()
	defer q.lane.Unlock()
	d.mu.Lock()
	pending := slices.Clone(q.pending)
	d.mu.Unlock()
	if err := d.supersede(ctx, pending); err != nil {
		d.retryLater(q, pending[0], err)
		return
	}
	for _, e := range pending {
		if ctx.Err() != nil {
			return
		}
		if err := d.deliverOne(ctx, e); err != nil {
			d.retryLater(q, e, err)
			return
		}
	}
}

// errNoSession says that the session has taken nothing.
var errNoSession = errors.New("the session did not take the frame")

// retryLater has the queue delivered again after a pause.
func (d *Dispatcher) retryLater(q *queue, e *entry, err error) {
	if !errors.Is(err, errNoSession) {
		d.stats.storeErrors.Add(1)
		d.log.Warn("a command was not sent; trying again", "command", e.id, "device", q.device, "error", err)
	}
	d.mu.Lock()
	q.hold = true
	d.mu.Unlock()
	time.AfterFunc(retryAfter, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		q.hold = false
		if d.queues[q.device] == q {
			d.wakeLocked(q)
		}
	})
}

// deliverOne brings one command as far as it can be; the caller holds the
// lane.
func (d *Dispatcher) deliverOne(ctx context.Context, e *entry) error {
	e.step.Lock()
	defer e.step.Unlock()
	d.mu.Lock()
	c, epoch, pushed, owed := e.view, e.queue.epoch, e.pushed, e.owed
	gone := e.gone
	d.mu.Unlock()
	if gone || epoch == 0 || epoch < c.SentEpoch {
		return nil
	}
	if c.Registration != "" && d.orphaned(c) {
		e.step.Unlock()
		err := d.endOrphan(ctx, e)
		e.step.Lock()
		if err != nil || d.look(e) != nil {
			return cmp.Or(err, errNoSession)
		}
		return nil
	}
	if c.CancelRequested {
		return d.pushCancel(e, epoch)
	}
	switch sent := c.State == Sent && !owed; {
	case !c.State.Undelivered() || !time.Now().Before(c.Expires):
		return nil
	case sent && pushed == epoch:
		return nil
	case sent && c.Spec.Replay == Once:
		d.mu.Lock()
		d.loseLocked(e)
		d.mu.Unlock()
		return nil
	}
	if ended, err := d.endOvertaken(ctx, e, c); err != nil || ended {
		return err
	}
	switch {
	case c.State == Sent && owed:
		return d.push(ctx, e, c)
	case c.State == Sent:
		return d.resend(ctx, e, epoch)
	}
	if d.holds(e.queue.device) {
		return errNoSession
	}
	return d.send(ctx, e, epoch)
}

// holds reports whether the device's session would keep a command for want of
// a connection.
func (d *Dispatcher) holds(device string) bool {
	h, ok := d.cfg.Sender.(Holder)
	return ok && h.Holds(device)
}

// handing is here, on the session that the device's command is handed to.
func (d *Dispatcher) handing(device string, epoch uint64) at {
	a := d.here(epoch)
	h, ok := d.cfg.Sender.(Holder)
	a.keeps = ok && h.Keeps(device)
	return a
}

// resend hands over once more what is recorded as SENT, when it is recorded
// that it was sent again, or the record was looked at where it says so: it may
// have changed since this node has read it, and the command may have its end.
// It also tells another node, which may be about to find that its session took
// nothing, and must not take back what the device then has from this one.
func (d *Dispatcher) resend(ctx context.Context, e *entry, epoch uint64) error {
	w := word{at: d.handing(e.queue.device, epoch), state: Sent}
	recorded := false
	_, err := d.change(ctx, e, func(c *Command) (*Command, error) {
		n, err := c.hear(w)
		recorded = err == nil && n != c
		return n, err
	})
	if err == nil && !recorded {
		err = d.refreshNow(ctx, e)
	}
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	c := d.look(e)
	if c == nil || c.State != Sent || c.SentEpoch != epoch {
		return nil
	}
	return d.push(ctx, e, c)
}

// send records that a QUEUED command goes out on the session, then hands it
// over.
func (d *Dispatcher) send(ctx context.Context, e *entry, epoch uint64) error {
	made := false
	var tried *Command
	n, err := d.change(ctx, e, func(c *Command) (*Command, error) {
		made = false
		if c.State != Queued {
			return c, nil // another node was faster
		}
		made = true
		var err error
		tried, err = c.sent(d.handing(e.queue.device, epoch))
		return tried, err
	})
	if errors.Is(err, errGone) || err == nil && !made {
		return nil
	}
	if err != nil {
		if tried != nil {
			d.doubt(tried)
		}
		return err
	}
	d.mu.Lock()
	d.knownLocked(e.id)
	e.owed, e.takeBack = true, false
	d.mu.Unlock()
	return d.push(ctx, e, n)
}
