package session

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// The wheel turns one slot a tick. What is due later than one turn stays in
// its slot for another.
const (
	wheelTick  = 250 * time.Millisecond
	wheelSlots = 512
)

// Wheel sends the heartbeats of all sessions of a node from one goroutine and
// finds the dead ones: a timing wheel (Varghese and Lauck, 1987) whose lists
// run through the sessions, so that a session costs neither timer nor
// allocation. It is also the sessions' clock.
type Wheel struct {
	base time.Time // of the clock

	mu    sync.Mutex
	slots [wheelSlots]*Session
	turn  int64 // the last tick that was worked off
	last  int64 // when
	woke  int64 // when the process last went on after a halt
}

// haltTime without a tick is a halt of the process: pongs may have come that
// no reader had time to take.
const haltTime = 2 * time.Second

// beat is a session's place in the wheel. Times are in ns of its clock.
type beat struct {
	prev, next *Session
	slot       int32 // from 1; 0: not in the wheel
	due        int64 // tick
	nextPing   int64
	pinged     int64 // when the unanswered ping was asked for
	pongBy     int64 // 0: none is unanswered
}

// NewWheel makes a wheel that Run turns.
func NewWheel() *Wheel { return &Wheel{base: time.Now()} }

// Run turns the wheel until ctx ends. Without it no session is pinged.
func (w *Wheel) Run(ctx context.Context) {
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.advance(w.now())
		}
	}
}

// now is the wheel's clock: monotonic ns, from 1.
func (w *Wheel) now() int64 { return int64(time.Since(w.base)) + 1 }

// wall is the time of day of a time of the clock; the zero time for 0.
func (w *Wheel) wall(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return w.base.Add(time.Duration(ns))
}

// add puts a session in. Its first ping comes after a random half to full
// interval, so that devices that come together do not beat together.
func (w *Wheel) add(s *Session) {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	s.beat.nextPing = now + int64(s.interval)/2 + rand.Int64N(int64(s.interval)/2)
	w.insert(s, s.beat.nextPing)
}

// remove takes a session out; it does nothing where it is not in. When it
// returns, the wheel does not use the session any more.
func (w *Wheel) remove(s *Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(s)
}

func (w *Wheel) insert(s *Session, at int64) {
	b := &s.beat
	b.due = max(at/int64(wheelTick)+1, w.turn+1) // a tick that ends after at
	i := b.due % wheelSlots
	b.slot, b.prev, b.next = int32(i)+1, nil, w.slots[i]
	if b.next != nil {
		b.next.beat.prev = s
	}
	w.slots[i] = s
}

func (w *Wheel) unlink(s *Session) {
	b := &s.beat
	if b.slot == 0 {
		return
	}
	if b.prev != nil {
		b.prev.beat.next = b.next
	} else {
		w.slots[b.slot-1] = b.next
	}
	if b.next != nil {
		b.next.beat.prev = b.prev
	}
	b.slot, b.prev, b.next = 0, nil, nil
}

// advance works off every tick up to now.
func (w *Wheel) advance(now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now-w.last > int64(haltTime) {
		w.woke = now
	}
	w.last = now
	tick := now / int64(wheelTick)
	// After a long halt of the process each slot is still looked at once.
	w.turn = max(w.turn, tick-wheelSlots)
	for w.turn < tick {
		w.turn++
		for s := w.slots[w.turn%wheelSlots]; s != nil; {
			next := s.beat.next
			if s.beat.due <= w.turn {
				w.unlink(s)
				w.strike(s, now)
			}
			s = next
		}
	}
}

// strike does what is due for a session: it judges the last ping, sends the
// next one, and puts the session back.
func (w *Wheel) strike(s *Session, now int64) {
	b := &s.beat
	if b.pongBy != 0 {
		if b.pinged < w.woke {
			b.pongBy = max(b.pongBy, w.woke+int64(PongTimeout))
		}
		if s.heard.Load() >= b.pinged {
			b.pongBy = 0
		} else if now >= b.pongBy {
			s.Stop(CloseHeartbeat, "")
			return
		}
	}
	if now >= b.nextPing {
		if b.pongBy == 0 {
			b.pinged, b.pongBy = now, now+int64(PongTimeout)
		}
		b.nextPing += int64(s.interval)
		if b.nextPing <= now { // the process was halted
			b.nextPing = now + int64(s.interval)
		}
		s.ping()
	}
	next := b.nextPing
	if b.pongBy != 0 {
		next = min(next, b.pongBy)
	}
	w.insert(s, next)
}
