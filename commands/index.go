package commands

import (
	"slices"
	"sync"
	"time"
)

// entry is a command that has not ended, in memory.
type entry struct {
	id    string
	queue *queue

	// step serializes the steps that this node makes with the command. It is
	// held across a durable write, and taken before Dispatcher.mu.
	step sync.Mutex

	unsent string // guarded by step: why nothing of it has left when its TTL was over; "": unknown

	// Guarded by Dispatcher.mu.
	view     *Command  // as stored, and words on top; never changed, only replaced
	words    []word    // in view, not stored yet
	gone     bool      // it has ended and is no longer in the index
	pushed   uint64    // session of this process that it was last handed to; 0: none
	owed     bool      // this process has recorded SENT and not yet handed it over
	takeBack bool      // while owed: it turned out later that SENT was recorded, so it becomes QUEUED again
	canceled uint64    // session that the CommandCancel was last handed to; 0: none
	lost     time.Time // class once: since when its session is known to be gone
	flushAt  time.Time // when words are to be stored; zero: none
	backoff  time.Time // no deadline before this: the store did not take the last one
	missed   time.Time // since when the store has no record of it; zero: it has

	due   time.Time // in the heap
	place int       // in the heap; -1: not in it
}

// queue is a device with commands or with a session on this node.
type queue struct {
	device string

	// lane is held while commands are handed to the session, so that they go
	// out in the order of acceptance. Taken before entry.step.
	lane sync.Mutex

	// Guarded by Dispatcher.mu.
	epoch     uint64   // of the session on this node; 0: none
	pending   []*entry // in the order of acceptance
	admitting []string // ids that have a place, and are perhaps not in pending yet
	users     int      // holders that need this very queue, because of its lane
	woken     bool     // in Dispatcher.lanes
	hold      bool     // the session or the store has just refused: a pause until retried
}

// acquire the device's queue; release it.
func (d *Dispatcher) acquire(device string) *queue {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queueLocked(device)
	q.users++
	return q
}

func (d *Dispatcher) release(q *queue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q.users--
	d.forgetLocked(q)
}

func (d *Dispatcher) queueLocked(device string) *queue {
	q := d.queues[device]
	if q == nil {
		q = &queue{device: device}
		d.queues[device] = q
	}
	return q
}

func (d *Dispatcher) forgetLocked(q *queue) {
	if q.epoch == 0 && len(q.pending) == 0 && q.users == 0 && !q.woken {
		delete(d.queues, q.device)
	}
}

// entry of a command that has not ended; nil: none.
func (d *Dispatcher) entry(id string) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.entries[id]
}

// look at an entry; nil when it has gone.
func (d *Dispatcher) look(e *entry) *Command {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.gone {
		return nil
	}
	return e.view
}

// install makes a stored record the view of its command. own: this node has
// just stored it with all its words, and holds the entry's step if there is
// one.
func (d *Dispatcher) install(c *Command, own bool) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[c.ID]
	if e == nil {
		if c.State.Ended() {
			if d.ends.note(c) {
				d.tellLocked(nil, c)
				if c.LateCancel && !own {
					select {
					case d.lateCancels <- c: // another node was asked; the device may be here
					default:
					}
				}
			}
			return nil
		}
		if d.ends.revision[c.ID] >= c.Revision {
			return nil // it has ended since it was read
		}
		e = &entry{id: c.ID, queue: d.queueLocked(c.Device), place: -1, view: c}
		d.entries[c.ID] = e
		e.queue.insert(e)
		d.afterLocked(e, nil)
		return e
	}
	before := e.view
	e.missed = time.Time{}
	switch {
	case own && c.Revision >= before.Revision:
		e.words, e.flushAt = nil, time.Time{}
		e.view = c
	case c.Revision > before.Revision:
		e.view, e.words = rehear(c, e.words)
	default:
		return e
	}
	if e.view.State != Sent {
		e.lost = time.Time{}
	}
	e.backoff = time.Time{}
	d.afterLocked(e, before)
	return e
}

// rehear puts words that are not stored yet on top of a record that another
// node has changed.
func rehear(c *Command, words []word) (*Command, []word) {
	var kept []word
	for _, w := range words {
		if n, err := c.hear(w); err == nil && n != c {
			c, kept = n, append(kept, w)
		}
	}
	return c, kept
}

// afterLocked does what follows from a new view.
func (d *Dispatcher) afterLocked(e *entry, before *Command) {
	if e.view.State.Ended() {
		d.removeLocked(e)
	} else {
		d.adoptLocked(e)
		d.scheduleLocked(e)
		if e.unservedLocked() {
			d.wakeLocked(e.queue)
		}
	}
	d.tellLocked(before, e.view)
}

// unservedLocked reports whether the session on this node has still to get
// the command, or the cancellation: also a command that another node has sent
// on an older session, which the device had left.
func (e *entry) unservedLocked() bool {
	c, epoch := e.view, e.queue.epoch
	switch {
	case epoch == 0:
		return false
	case c.CancelRequested:
		return e.canceled != epoch
	case c.State == Sent:
		return c.SentEpoch < epoch && e.pushed != epoch && !e.owed
	}
	return c.State == Queued
}

func (d *Dispatcher) removeLocked(e *entry) {
	e.gone = true
	if e.view.State.Ended() {
		d.ends.note(e.view)
	}
	delete(d.entries, e.id)
	d.knownLocked(e.id)
	d.unscheduleLocked(e)
	q := e.queue
	if i := slices.Index(q.pending, e); i >= 0 {
		q.pending = slices.Delete(q.pending, i, i+1)
	}
	d.forgetLocked(q)
}

// drop forgets a command that the store has lost: an operator has removed its
// stream, or put an older one back.
func (d *Dispatcher) drop(e *entry) {
	d.log.Error("a command has vanished from the store", "command", e.id, "device", e.queue.device)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !e.gone {
		d.removeLocked(e)
	}
}

func (q *queue) insert(e *entry) {
	i := len(q.pending)
	for i > 0 && q.pending[i-1].view.order() > e.view.order() {
		i--
	}
	q.pending = slices.Insert(q.pending, i, e)
}
