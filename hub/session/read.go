package session

import (
	"context"
	"time"
)

// read is the reader of a session that has been welcomed. Every error ends
// it.
func (s *Session) read(ctx context.Context) error {
	for {
		buf, err := s.conn.ReadFrame()
		if err != nil {
			return err
		}
		err = s.take(ctx, buf.B)
		buf.Free()
		if err != nil {
			return err
		}
		if s.isStopped() {
			return errStopped
		}
	}
}

func (s *Session) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// take handles one frame. It does not keep b.
func (s *Session) take(ctx context.Context, b []byte) error {
	m := s.deps.Metrics
	m.Frames.Add(1)
	m.Bytes.Add(uint64(len(b)))
	kind, body, err := splitFrame(b)
	if err != nil {
		return err
	}
	now := s.deps.Wheel.now()
	s.heard.Store(now)
	wait := s.limit.admit(s.deps, now, len(b))
	if kind == frameTelemetry {
		return s.telemetry(body, len(b), now, wait)
	}
	if wait > 0 {
		if err := s.overrun(); err != nil {
			return err
		}
	}
	switch kind {
	case frameUnknown:
		m.Unknown.Add(1)
		return nil
	case frameDescribe:
		s.describe(ctx, body)
		return nil
	case frameUpdate:
		return s.update(ctx, body)
	}
	return forbidden("a second Hello")
}

// Pauses that a Throttle asks for.
const (
	minPause  = 100 * time.Millisecond
	maxPause  = time.Minute
	fullPause = time.Second // the buffer is full and names no pause
)
