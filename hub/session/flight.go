package session

import "time"

// flight is what is taken and not acknowledged. The session's mu guards it:
// the reader adds, the buffer's goroutine settles.
type flight struct {
	acked   uint64 // everything up to here is durable or was rejected
	durable uint64 // what the buffer has said last
	bytes   int    // of the frames in ring
	ring    *ring  // one for each seq from acked+1; nil: nothing is in flight
}

// ring holds the frames in flight, oldest first: their bytes, and whether
// they were rejected. It is pooled: only a session with frames in flight has
// one.
type ring struct {
	head, n int
	frames  []uint32
}

const rejected = 1 << 31

func newRing(frames int) *ring { return &ring{frames: make([]uint32, frames)} }

func (r *ring) push(v uint32) {
	r.frames[(r.head+r.n)%len(r.frames)] = v
	r.n++
}

func (r *ring) pop() {
	r.head = (r.head + 1) % len(r.frames)
	r.n--
}

func (r *ring) drop() { r.n-- }

// launch puts the next frame in flight. It must come before the Append: the
// buffer may call Durable at once. The error says that the device keeps to no
// window.
func (s *Session) launch(size int, isRejected bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.flight
	if f.ring == nil {
		f.ring = s.deps.rings.Get().(*ring)
	}
	if f.ring.n == s.deps.Limits.WindowFrames || f.bytes+size > s.deps.Limits.WindowBytes {
		return &Violation{Code: CloseRateLimit, Reason: "more in flight than the window"}
	}
	v := uint32(size)
	if isRejected {
		v |= rejected
	}
	f.ring.push(v)
	f.bytes += size
	return nil
}

// recall takes the frame back that was launched last: it was not appended.
func (s *Session) recall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.flight
	last := f.ring.frames[(f.ring.head+f.ring.n-1)%len(f.ring.frames)]
	f.bytes -= int(last &^ rejected)
	f.ring.drop()
	s.land()
}

// land moves acked over everything that is settled at the front, and has it
// acknowledged. It never passes a frame that is not durable. mu is held.
func (s *Session) land() {
	f := &s.flight
	if f.ring == nil {
		return
	}
	before := f.acked
	for f.ring.n > 0 {
		v := f.ring.frames[f.ring.head]
		if v&rejected == 0 && f.acked+1 > f.durable {
			break
		}
		f.acked++
		f.bytes -= int(v &^ rejected)
		f.ring.pop()
	}
	if f.ring.n == 0 {
		f.ring.head = 0
		s.deps.rings.Put(f.ring)
		f.ring = nil
		s.endSettling()
	}
	if f.acked != before {
		s.out.ack = true
		s.kick()
	}
}

// acker is the session as the buffer knows it. It may outlive the session:
// what becomes durable after the end is still remembered for the next one.
type acker Session

// Durable implements telemetry.Acker.
func (a *acker) Durable(seq uint64) {
	s := (*Session)(a)
	s.mu.Lock()
	s.flight.durable = max(s.flight.durable, seq)
	s.land()
	s.mu.Unlock()
	s.memory.durable(s.boot, seq)
}

// settle waits until nothing is in flight, for settleTimeout at most.
func (s *Session) settle() {
	s.mu.Lock()
	if s.flight.ring == nil || !s.code.graceful() {
		s.mu.Unlock()
		return
	}
	settled := make(chan struct{})
	s.settled = settled
	s.mu.Unlock()
	timer := time.NewTimer(settleTimeout)
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
	}
	s.mu.Lock()
	s.settled = nil
	s.mu.Unlock()
}

// endSettling ends the waiting of settle. mu is held.
func (s *Session) endSettling() {
	if s.settled != nil {
		close(s.settled)
		s.settled = nil
	}
}
