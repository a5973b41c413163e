package session

import (
	"errors"
	"math/rand/v2"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// flow is where a session stands in the device's sequence. The reader's.
//
// Frames come in the order of seq (go-back-N): only the next one is taken.
// One that cannot be taken now is discarded with a Throttle that names it,
// and so are all behind it, until it comes again.
type flow struct {
	next      uint64 // the seq that is expected; 0: any
	resume    uint64 // not 0: discard all until this one comes
	resumeAt  int64  // it should not come before; by the wheel's clock
	softUntil int64  // no further slow-down is asked for before
}

// telemetry takes one Telemetry message, the body of a frame of size bytes.
// wait is how long, in ns, the device's rate asks for; 0: it keeps to it.
func (s *Session) telemetry(msg []byte, size int, now, wait int64) error {
	seq := telemetrySeq(msg)
	if seq == 0 {
		return forbidden("a Telemetry frame without a seq")
	}
	f := &s.flow
	if f.next == 0 {
		s.startAt(seq)
	}
	switch {
	case seq < f.next:
		return s.duplicate(seq, wait)
	case f.resume != 0 && seq != f.resume:
		s.deps.Metrics.Discarded.Add(1)
		return s.overrun()
	case seq > f.next:
		return forbidden("a gap in seq")
	}
	if f.resume != 0 {
		if now < f.resumeAt {
			s.deps.Metrics.Discarded.Add(1)
			if err := s.overrun(); err != nil {
				return err
			}
			s.sendThrottle(time.Duration(2*(f.resumeAt-now)), seq)
			return nil
		}
		f.resume, s.limit.over = 0, 0
	}
	if wait > 0 {
		s.sendBack(seq, now, time.Duration(wait))
		return s.overrun()
	}
	return s.accept(msg, seq, size, now)
}

// startAt begins the sequence of this session with its first frame. What an
// earlier session has made durable is not taken again. Where the hub
// remembers less than the device (it was restarted, or the device was on
// another node) the device is right.
func (s *Session) startAt(seq uint64) {
	last := s.memory.lastDurable(s.boot)
	if seq > last {
		last = seq - 1
	}
	s.flow.next = last + 1
	s.mu.Lock()
	s.flight.acked = last
	s.mu.Unlock()
}

// duplicate acknowledges again what is settled, and says nothing of what is
// still in flight.
func (s *Session) duplicate(seq uint64, wait int64) error {
	s.deps.Metrics.Duplicates.Add(1)
	s.mu.Lock()
	if seq <= s.flight.acked {
		s.out.ack = true
		s.kick()
	}
	s.mu.Unlock()
	if wait > 0 {
		return s.overrun()
	}
	return nil
}

// accept checks the frame that is expected and appends it, or rejects it.
func (s *Session) accept(msg []byte, seq uint64, size int, now int64) error {
	clock := time.Now()
	s.memory.fieldsMu.Lock()
	info, err := wire.Check(msg, clock, &s.memory.fields)
	s.memory.fieldsMu.Unlock()
	if err != nil {
		return s.reject(err, seq, size, clock)
	}
	if err := s.launch(size, false); err != nil {
		return err
	}
	err = s.deps.Buffer.Append(telemetry.Entry{
		Device: s.id, Labels: *s.labels.Load(), Received: clock.UnixNano(), Rows: info.Rows, Telemetry: msg,
	}, seq, (*acker)(s))
	if err != nil {
		s.recall()
		return s.refused(err, seq, now)
	}
	s.flow.next = seq + 1
	s.memory.SetDroppedRows(info.DroppedRows)
	s.deps.Metrics.Appended.Add(1)
	s.deps.Metrics.Rows.Add(uint64(info.Rows))
	s.slowDown(now)
	return nil
}

// reject uses up the seq of a frame that will never be accepted.
func (s *Session) reject(why error, seq uint64, size int, clock time.Time) error {
	var r *wire.Rejection
	if !errors.As(why, &r) {
		return &Violation{Code: CloseInternal}
	}
	if err := s.launch(size, true); err != nil {
		return err
	}
	s.flow.next = seq + 1
	if i := int(r.Code); i >= 0 && i < numRejects {
		s.deps.Metrics.Rejects[i].Add(1)
	}
	s.queue(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Reject{Reject: &devicev1.Reject{
		Seq: seq, Code: r.Code, Detail: cut(r.Detail, 256), ServerTimeUnixNs: uint64(clock.UnixNano()),
	}}})
	s.mu.Lock()
	s.land() // behind the Reject in the outbox
	s.mu.Unlock()
	return nil
}

// refused handles a frame that the buffer does not take.
func (s *Session) refused(err error, seq uint64, now int64) error {
	if errors.Is(err, telemetry.ErrClosed) {
		return &Violation{Code: CloseShutdown}
	}
	if !errors.Is(err, telemetry.ErrFull) {
		s.deps.Logger.Warn("telemetry buffer refuses", "device", s.id, "error", err)
	}
	pause := s.deps.Buffer.Pressure().Throttle
	if pause <= 0 {
		pause = fullPause
	}
	// Some more for each, so that they do not all come back at once.
	s.sendBack(seq, now, pause+rand.N(pause/2+1))
	return nil
}

// sendBack discards the frame seq and what is behind it.
func (s *Session) sendBack(seq uint64, now int64, pause time.Duration) {
	pause = min(max(pause, minPause), maxPause)
	s.deps.Metrics.Discarded.Add(1)
	s.flow.resume = seq
	// A device with a coarse clock is not blamed.
	s.flow.resumeAt = now + int64(pause/2)
	s.sendThrottle(pause, seq)
}

func (s *Session) sendThrottle(pause time.Duration, resume uint64) {
	if resume != 0 {
		s.deps.Metrics.Throttles.Add(1)
	} else {
		s.deps.Metrics.SlowDowns.Add(1)
	}
	s.queue(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Throttle{Throttle: &devicev1.Throttle{
		PauseMs: uint32(max(pause, minPause).Milliseconds()), ResumeSeq: resume,
	}}})
}

// slowDown asks for a pause, seldom, while the buffer is filling.
func (s *Session) slowDown(now int64) {
	if now < s.flow.softUntil {
		return
	}
	pause := s.deps.Buffer.Pressure().Throttle
	if pause <= 0 {
		return
	}
	pause = min(max(pause, minPause), maxPause)
	s.flow.softUntil = now + int64(max(pause, time.Second))
	s.sendThrottle(pause, 0)
}
