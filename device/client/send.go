package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// write sends what there is to send, until the session ends. After an error
// the reader has a moment to find the hub's reason in what has arrived.
func (s *session) write() error {
	err := s.writeAll()
	if err != nil {
		time.AfterFunc(reasonTimeout, func() { _ = s.ws.Close() })
	}
	return err
}

func (s *session) writeAll() error {
	if s.describe {
		frame := &devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Describe{Describe: s.c.describe}}
		if err := s.writeMessage(frame); err != nil {
			return err
		}
	}
	for {
		if err := s.writeUpdates(); err != nil {
			return err
		}
		n, wait, err := s.writeTelemetry()
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if s.c.finished() {
			// The reader ends with the hub's answer to this.
			s.sayGoodbye(websocket.CloseNormalClosure, "")
			<-s.done
			return nil
		}
		if !s.sleep(wait) {
			return nil
		}
	}
}

// finished reports whether a client that is about to end has nothing more to
// say or to hear.
func (c *Client) finished() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drained()
}

// sleep waits until there may be something to send; wait 0 means without a
// bound. False: the session has ended.
func (s *session) sleep(wait time.Duration) bool {
	if resend := s.c.executor.resendIn(); resend > 0 && (wait == 0 || resend < wait) {
		wait = resend
	}
	var expired <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-s.c.wake:
	case <-expired:
	case <-s.done:
		return false
	}
	return true
}

// writeUpdates sends what commands have to tell.
func (s *session) writeUpdates() error {
	for {
		update := s.c.executor.next()
		if update == nil {
			return nil
		}
		frame := &devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_CommandUpdate{CommandUpdate: update}}
		if err := s.writeMessage(frame); err != nil {
			return err
		}
	}
}

func (s *session) writeMessage(frame *devicev1.DeviceFrame) error {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(frame)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	_ = s.ws.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err := s.ws.WriteMessage(websocket.BinaryMessage, data); err != nil {
		return s.writeError(err)
	}
	s.c.mu.Lock()
	s.c.stats.BytesSent += uint64(len(data))
	s.c.mu.Unlock()
	return nil
}

// telemetryBurst is how many frames may go before commands have their turn.
const telemetryBurst = 16

// writeTelemetry sends frames as far as the window allows. With none sent,
// wait is when to look again; 0: when woken.
func (s *session) writeTelemetry() (n int, wait time.Duration, err error) {
	for ; n < telemetryBurst; n++ {
		var seq uint64
		var body []byte
		seq, body, wait, err = s.nextFrame()
		if err != nil || seq == 0 {
			return n, wait, err
		}
		if err := s.writeFrame(seq, body); err != nil {
			return n, 0, err
		}
	}
	return n, 0, nil
}

func (s *session) writeFrame(seq uint64, body []byte) error {
	var header [maxHeaderBytes]byte
	_ = s.ws.SetWriteDeadline(time.Now().Add(writeTimeout))
	w, err := s.ws.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return s.writeError(err)
	}
	if _, err = w.Write(frameHeader(header[:0], seq, len(body))); err == nil {
		_, err = w.Write(body)
	}
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return s.writeError(err)
	}
	return nil
}

// nextFrame takes the next frame in flight; seq 0: none may go now.
func (s *session) nextFrame() (seq uint64, body []byte, wait time.Duration, err error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := time.Until(c.pausedUntil); wait > 0 {
		return 0, nil, wait, nil
	}
	w := &c.window
	if w.cursor < len(w.frames) {
		seq, body, err = s.nextResend()
		return seq, body, 0, err
	}
	for {
		info, ok := c.cfg.Spool.Next(w.unsent)
		if !ok {
			return 0, nil, 0, nil
		}
		size := frameSize(w.last()+1, info.Size)
		if !s.room(size) {
			return 0, nil, 0, nil
		}
		body, err = s.load(info.Pos, size)
		if errors.Is(err, ErrFrameDamaged) {
			w.unsent = info.Pos + 1
			c.discard(info.Pos, info.Rows)
			continue
		}
		if err != nil {
			return 0, nil, 0, err
		}
		w.push(info, c.clock.mono())
		c.cfg.Spool.MarkSent(info.Pos)
		s.count(size)
		return w.last(), body, 0, nil
	}
}

// nextResend takes a frame in flight again that has its seq. In the place of
// one that is rejected or dropped goes an empty frame, so that the seqs of
// the session have no gap; the hub rejects it and goes on.
func (s *session) nextResend() (seq uint64, body []byte, err error) {
	c, w := s.c, &s.c.window
	f := &w.frames[w.cursor]
	if !s.room(int(f.size)) {
		return 0, nil, nil
	}
	if f.fate == waiting {
		body, err = s.load(f.pos, int(f.size))
		if errors.Is(err, ErrFrameDamaged) {
			f.fate = dropped
			c.discard(f.pos, int(f.rows))
		} else if err != nil {
			return 0, nil, err
		}
	}
	f.sentAt = c.clock.mono()
	if f.resend {
		c.stats.FramesResent++
	}
	seq = w.first + uint64(w.cursor)
	w.advance()
	s.count(frameSize(seq, len(body)))
	return seq, body, nil
}

func (s *session) count(size int) {
	s.c.stats.FramesSent++
	s.c.stats.BytesSent += uint64(size)
}

// room reports whether the hub's window takes one more frame of that size. An
// empty window takes any.
func (s *session) room(size int) bool {
	w := &s.c.window
	if w.cursor == 0 {
		return true
	}
	return w.cursor < s.windowFrames && (s.windowBytes == 0 || w.bytes+size <= s.windowBytes)
}

func (s *session) load(pos uint64, size int) ([]byte, error) {
	if size > s.maxFrame {
		return nil, fmt.Errorf("hub takes frames to %d bytes, but one of %d is in the spool: it waits for a hub that takes it", s.maxFrame, size)
	}
	body, err := s.c.cfg.Spool.Body(pos)
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	return body, nil
}
