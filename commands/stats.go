package commands

import "sync/atomic"

// Stats are counts of this node since it started, for metrics.
type Stats struct {
	Pending     int              // commands without an end, of all nodes, now
	Devices     int              // devices connected to this node, now
	Accepted    uint64           // commands that this node has accepted
	Refused     uint64           // for too many pending
	RefusedFull uint64           // for want of room in the store
	Sent        uint64           // handed to a session, repetitions included
	Resent      uint64           // repetitions
	Ended       map[State]uint64 // ends that this node has seen, by whichever node
	Late        uint64           // ends that a device reported after the hub had decided
	Unknown     uint64           // reports on commands that the device does not have
	StoreErrors uint64           // steps that the store did not take at first
	OwedEnds    int              // ends that wait for the store, now
}

type counters struct {
	accepted, refused, full, sent, resent, late, unknown, storeErrors atomic.Uint64

	ended [len(stateNames)]atomic.Uint64
}

// Stats may be called at any time.
func (d *Dispatcher) Stats() Stats {
	s := Stats{
		Accepted: d.stats.accepted.Load(), Refused: d.stats.refused.Load(), RefusedFull: d.stats.full.Load(),
		Sent: d.stats.sent.Load(), Resent: d.stats.resent.Load(),
		Late: d.stats.late.Load(), Unknown: d.stats.unknown.Load(),
		StoreErrors: d.stats.storeErrors.Load(), Ended: map[State]uint64{},
	}
	for _, state := range States() {
		if state.Ended() {
			s.Ended[state] = d.stats.ended[state].Load()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Pending, s.OwedEnds = len(d.entries), len(d.owed)
	for _, q := range d.queues {
		if q.epoch != 0 {
			s.Devices++
		}
	}
	return s
}

// Pending is the commands without an end, of all nodes.
func (d *Dispatcher) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.entries)
}
