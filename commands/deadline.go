package commands

import (
	"container/heap"
	"context"
	"errors"
	"hash/fnv"
	"time"

	"golang.org/x/sync/errgroup"
)

// deadline is when the hub has to end the command by itself.
func (e *entry) deadline() time.Time {
	c := e.view
	switch c.State {
	case Delivered, Running:
		return c.DeliveredAt.Add(c.Spec.Timeout)
	case Sent:
		if c.Spec.Replay == Once && !e.lost.IsZero() {
			if t := e.lost.Add(c.Spec.Timeout); t.Before(c.Expires) {
				return t
			}
		}
	}
	return c.Expires
}

// owner is the node that a deadline is left to first.
func (c *Command) owner() string {
	if c.SentNode != "" {
		return c.SentNode
	}
	return c.Events[0].Node
}

// scheduleLocked puts the next thing to do for e into the heap.
func (d *Dispatcher) scheduleLocked(e *entry) {
	due := e.deadline()
	if e.view.owner() != d.cfg.Node {
		// Spread, so that not all other nodes try at once.
		h := fnv.New32a()
		_, _ = h.Write([]byte(e.id + d.cfg.Node))
		due = due.Add(takeoverGrace + time.Duration(h.Sum32()%2000)*time.Millisecond)
	}
	if due.Before(e.backoff) {
		due = e.backoff
	}
	if !e.flushAt.IsZero() && e.flushAt.Before(due) {
		due = e.flushAt
	}
	e.due = due
	if e.place < 0 {
		heap.Push(&d.due, e)
	} else {
		heap.Fix(&d.due, e.place)
	}
	if e.place == 0 && due.Before(d.rest) {
		d.rest = due
		d.signal()
	}
}

func (d *Dispatcher) unscheduleLocked(e *entry) {
	if e.place >= 0 {
		heap.Remove(&d.due, e.place)
	}
}

// loop acts on deadlines and serves devices, parallel of each at once, so
// that a slow write for one never holds up another.
func (d *Dispatcher) loop(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.ready:
	}
	var acts, lanes errgroup.Group
	acts.SetLimit(parallel)
	lanes.SetLimit(parallel)
	defer func() { _, _ = acts.Wait(), lanes.Wait() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, queues, next := d.takeWork(time.Now())
		for _, e := range due {
			acts.Go(func() error { d.act(ctx, e); return nil })
		}
		for _, q := range queues {
			lanes.Go(func() error { d.deliver(ctx, q); return nil })
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-d.wakeup:
		}
	}
}

// takeWork takes what is to be done now, and tells how long there is nothing
// else. A taken entry is due again later, should its step not succeed.
func (d *Dispatcher) takeWork(now time.Time) (due []*entry, queues []*queue, next time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.due) > 0 && !d.due[0].due.After(now) && len(due) < 4*parallel {
		e := d.due[0]
		e.due = now.Add(storeTimeout + retryAfter)
		heap.Fix(&d.due, 0)
		due = append(due, e)
	}
	queues, d.lanes = d.lanes, nil
	for _, q := range queues {
		q.woken = false
		q.users++ // until delivered
	}
	next = time.Hour
	if len(d.due) > 0 {
		next = max(0, d.due[0].due.Sub(now))
	}
	d.rest = now.Add(next)
	return due, queues, next
}

// act stores what the device has said, and ends the command if its time is
// over.
func (d *Dispatcher) act(ctx context.Context, e *entry) {
	e.step.Lock()
	defer e.step.Unlock()
	var deadline time.Time
	d.mu.Lock()
	gone := e.gone
	if !gone {
		deadline = e.deadline()
		if e.view.owner() != d.cfg.Node {
			deadline = deadline.Add(takeoverGrace)
		}
		if deadline.Before(e.backoff) {
			deadline = e.backoff
		}
	}
	d.mu.Unlock()
	if gone {
		return
	}
	err := d.takeBack(ctx, e)
	if err != nil {
		// It stays owed; trying again.
	} else if now := time.Now(); now.Before(deadline) {
		err = d.flush(ctx, e)
	} else {
		err = d.end(ctx, e)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.gone {
		return
	}
	if err != nil && !errors.Is(err, errGone) {
		d.log.Warn("a step of a command was not recorded; trying again", "command", e.id, "device", e.queue.device, "error", err)
		d.stats.storeErrors.Add(1)
		e.backoff = time.Now().Add(retryAfter)
		if !e.flushAt.IsZero() {
			e.flushAt = e.backoff
		}
	}
	d.scheduleLocked(e)
}

// takeBack makes a command QUEUED again that is recorded as SENT without
// having been; the caller holds e.step.
func (d *Dispatcher) takeBack(ctx context.Context, e *entry) error {
	d.mu.Lock()
	due := e.takeBack && e.owed
	if !due {
		e.takeBack = false
	}
	d.mu.Unlock()
	if !due {
		return nil
	}
	return d.unsend(ctx, e, noAnswerCame)
}

// end makes the step that the command's deadline asks for.
func (d *Dispatcher) end(ctx context.Context, e *entry) error {
	barred := barring(d.cfg.Devices.CheckDevice(ctx, e.queue.device))
	if c := d.look(e); c != nil && c.State == Sent && !time.Now().Before(c.Expires) && e.unsent == "" {
		if h, ok := d.cfg.Sender.(Holder); ok {
			e.unsent = d.recall(ctx, h, e)
		}
	}
	_, err := d.change(ctx, e, func(c *Command) (*Command, error) {
		d.mu.Lock()
		over := !time.Now().Before(e.deadline())
		lost := !e.lost.IsZero()
		d.mu.Unlock()
		switch {
		case !over:
			return c, nil // another node, or the device, was faster
		case c.State == Delivered || c.State == Running:
			return c.timeOut(d.here(0), barred)
		case c.State == Sent && c.Spec.Replay == Once && lost && time.Now().Before(c.Expires):
			return c.timeOut(d.here(0), barred)
		}
		return c.expire(d.here(0), e.unsent, barred)
	})
	return err
}

// recall says why nothing of a command has left, nor will; "": that is not
// known.
func (d *Dispatcher) recall(ctx context.Context, h Holder, e *entry) string {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	why, _ := h.Recall(ctx, e.queue.device, e.id)
	return why
}

// flush stores the words that are not stored yet; the caller holds e.step.
func (d *Dispatcher) flush(ctx context.Context, e *entry) error {
	_, err := d.change(ctx, e, func(c *Command) (*Command, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(e.words) == 0 {
			e.flushAt = time.Time{}
			return c, nil
		}
		return c.clone(), nil
	})
	return err
}

// flushWords stores all words that are not stored yet, at the end of Run.
func (d *Dispatcher) flushWords() {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	var dirty []*entry
	d.mu.Lock()
	for _, e := range d.entries {
		if len(e.words) > 0 {
			dirty = append(dirty, e)
		}
	}
	d.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, e := range dirty {
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			e.step.Lock()
			defer e.step.Unlock()
			if err := d.flush(ctx, e); err != nil && !errors.Is(err, errGone) {
				d.log.Warn("what a device has said was not recorded; it will say it again", "command", e.id, "error", err)
			}
			return nil
		})
	}
	_ = g.Wait()
}

// dueHeap orders entries by due; the soonest is the first.
type dueHeap []*entry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is for container/heap.
func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.place = len(*h)
	*h = append(*h, e)
}

// Pop is for container/heap.
func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.place = -1
	return e
}
