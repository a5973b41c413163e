package commands

import (
	"slices"
	"time"
)

// maxUnsure bounds the commands that unsure remembers.
const maxUnsure = 10_000

// unsure is a command that this process has tried to record as SENT without
// hearing whether it was: the answer of the store was lost. It was not put on
// the wire.
type unsure struct {
	epochs []uint64 // of the sessions that it was to go out on
	until  time.Time
}

// doubt takes note that it is not known whether c, which is SENT, was
// recorded. Should the record turn up, it is taken back: what is certain not
// to have left this process may be sent.
func (d *Dispatcher) doubt(c *Command) {
	if c.State != Sent || c.Attempts != 1 {
		return // QUEUED waits for its turn by itself; a repetition is repeated
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.unsure[c.ID]; !known && len(d.unsure) >= maxUnsure {
		d.forgetUnsureLocked()
	}
	u := d.unsure[c.ID]
	u.epochs, u.until = append(u.epochs, c.SentEpoch), c.Expires
	d.unsure[c.ID] = u
	if e := d.entries[c.ID]; e != nil {
		if d.adoptLocked(e); e.takeBack {
			d.scheduleLocked(e)
		}
	}
}

// forgetUnsureLocked makes room for at least one more.
func (d *Dispatcher) forgetUnsureLocked() {
	now := time.Now()
	for id, u := range d.unsure {
		if u.until.Before(now) {
			delete(d.unsure, id)
		}
	}
	for id := range d.unsure {
		if len(d.unsure) < maxUnsure {
			return
		}
		delete(d.unsure, id)
	}
}

// adoptLocked has a record taken back soon that this process has made without
// knowing it.
func (d *Dispatcher) adoptLocked(e *entry) {
	u, ok := d.unsure[e.id]
	if !ok {
		return
	}
	c := e.view
	if c.State != Sent || c.Attempts != 1 || c.SentNode != d.cfg.Node || e.pushed != 0 || !slices.Contains(u.epochs, c.SentEpoch) {
		return
	}
	delete(d.unsure, e.id)
	e.owed, e.takeBack, e.flushAt = true, true, time.Now()
}

// knownLocked forgets that there was a doubt.
func (d *Dispatcher) knownLocked(id string) { delete(d.unsure, id) }
