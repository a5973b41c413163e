package session

import (
	"errors"
	"os"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// ErrEnded says that the session takes nothing more, or nothing yet.
var ErrEnded = errors.New("session is not open")

// outbox is what waits to be written. The session's mu guards it.
type outbox struct {
	frames  [][]byte
	bytes   int    // of frames, and of those being written
	ack     bool   // an Ack of flight.acked is due: one, however many frames it covers
	ping    bool   // a ping is due
	pong    []byte // payload of the pong that is due; nil: none
	writing bool   // the writer runs
	sealed  bool   // nothing more is taken
	broken  bool   // a write has failed
	// done is closed when the writer ends; nil: nobody waits.
	done chan struct{}
}

// batch is what the writer takes at a time.
type batch struct {
	frames [][]byte
	ack    uint64 // 0: none
	ping   bool
	pong   []byte
}

// Send queues a frame for the device. It does not wait for the device. A
// device that does not read what is queued for it is closed with
// CloseTooSlow. Before the welcome and after the end it returns ErrEnded.
func (s *Session) Send(f *devicev1.HubFrame) error {
	b, err := proto.Marshal(f)
	if err != nil {
		return err
	}
	s.mu.Lock()
	open := s.open && !s.stopped
	s.mu.Unlock()
	if !open {
		return ErrEnded
	}
	return s.push(b)
}

// queue is Send for the session's own frames, which cannot fail to encode.
// When the outbox is full or sealed the session is ending anyway.
func (s *Session) queue(f *devicev1.HubFrame) {
	b, err := proto.Marshal(f)
	if err != nil {
		s.Stop(CloseInternal, "")
		return
	}
	_ = s.push(b)
}

func (s *Session) push(b []byte) error {
	s.mu.Lock()
	if s.out.sealed || s.out.broken {
		s.mu.Unlock()
		return ErrEnded
	}
	if s.out.bytes+len(b) > s.deps.Limits.MaxQueuedBytes {
		s.mu.Unlock()
		s.deps.Metrics.Overflows.Add(1)
		s.Stop(CloseTooSlow, "")
		return ErrEnded
	}
	s.out.frames = append(s.out.frames, b)
	s.out.bytes += len(b)
	s.kick()
	s.mu.Unlock()
	return nil
}

// ping has the writer send one. Several that wait are one.
func (s *Session) ping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.ping = true
	s.kick()
}

// pong has the writer answer the newest ping (RFC 6455, section 5.5.3).
func (s *Session) pong(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.pong = append(make([]byte, 0, len(payload)), payload...)
	s.kick()
}

// kick starts the writer where none runs. mu is held.
func (s *Session) kick() {
	if s.out.writing || s.out.sealed || s.out.broken {
		return
	}
	s.out.writing = true
	go s.write()
}

// write is the writer: it ends when nothing is left.
func (s *Session) write() {
	written := 0
	for {
		b, ok := s.takeBatch(written)
		if !ok {
			return
		}
		var err error
		if written, err = s.writeBatch(b); err != nil {
			s.breakOut(err)
		}
	}
}

// takeBatch takes all that waits. It is false when the writer has to end, and
// has ended it.
func (s *Session) takeBatch(written int) (batch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.out
	o.bytes -= written
	b := batch{frames: o.frames, ping: o.ping, pong: o.pong}
	if o.ack {
		b.ack = s.flight.acked
	}
	o.frames, o.ack, o.ping, o.pong = nil, false, false, nil
	nothing := len(b.frames) == 0 && b.ack == 0 && !b.ping && b.pong == nil
	if nothing || o.broken || s.stopped && !s.code.graceful() {
		o.writing = false
		if o.done != nil {
			close(o.done)
			o.done = nil
		}
		return batch{}, false
	}
	return b, true
}

// writeBatch writes frames before the Ack: a Reject must come before the Ack
// that covers it. It returns the bytes of the frames.
func (s *Session) writeBatch(b batch) (int, error) {
	n, m := 0, s.deps.Metrics
	for _, frame := range b.frames {
		if err := s.conn.WriteFrame(frame, time.Now().Add(WriteTimeout)); err != nil {
			return n, err
		}
		n += len(frame)
	}
	if b.ack != 0 {
		frame := appendAck(make([]byte, 0, 16), b.ack)
		if err := s.conn.WriteFrame(frame, time.Now().Add(WriteTimeout)); err != nil {
			return n, err
		}
		m.Acks.Add(1)
		m.BytesSent.Add(uint64(len(frame)))
	}
	if b.ping {
		if err := s.conn.WritePing(time.Now().Add(WriteTimeout)); err != nil {
			return n, err
		}
		m.Pings.Add(1)
	}
	if b.pong != nil {
		if err := s.conn.WritePong(b.pong, time.Now().Add(WriteTimeout)); err != nil {
			return n, err
		}
	}
	m.BytesSent.Add(uint64(n))
	return n, nil
}

// breakOut ends the session after a failed write.
func (s *Session) breakOut(err error) {
	s.mu.Lock()
	s.out.broken = true
	s.mu.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.Stop(CloseTooSlow, "")
		return
	}
	s.Stop(CloseLost, "")
}

// seal closes the outbox and joins the writer. What is queued is written
// first where the session ends with grace.
func (s *Session) seal(code CloseCode) {
	patience := abortTimeout
	if code.graceful() {
		patience = flushTimeout
	}
	s.mu.Lock()
	s.out.sealed = true
	var done chan struct{}
	if s.out.writing {
		done = make(chan struct{})
		s.out.done = done
		if code == CloseLost {
			patience = 0
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(patience))
	}
	s.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case <-done:
		return
	case <-time.After(patience + abortTimeout):
	}
	// The writer may have set a deadline of its own in between.
	s.conn.Kill()
	<-done
}

// Field numbers of HubFrame.ack and Ack.seq.
const (
	hubFrameAck = 3
	ackSeq      = 1
)

// appendAck adds an encoded HubFrame with an Ack.
func appendAck(b []byte, seq uint64) []byte {
	b = protowire.AppendTag(b, hubFrameAck, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(1+protowire.SizeVarint(seq)))
	b = protowire.AppendTag(b, ackSeq, protowire.VarintType)
	return protowire.AppendVarint(b, seq)
}
