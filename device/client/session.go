package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// session is one connection. The goroutine of Run reads it; one more writes.
type session struct {
	c          *Client
	ws         *websocket.Conn
	done       chan struct{} // closed when the reader has ended
	credential device.Credential
	transcript device.Transcript

	// Set by begin.
	silence      time.Duration // without a word from the hub
	windowFrames int
	windowBytes  int // 0: no bound
	maxFrame     int

	// Of the reader.
	began  time.Time
	buf    []byte
	acks   []settled
	stable bool

	// Of the writer, after begin.
	describe bool // is to be sent
}

// Bounds of a session.
const (
	pongTimeout  = 10 * time.Second
	writeTimeout = 20 * time.Second
	// goodbyeTimeout is how long the hub has to answer a close.
	goodbyeTimeout = 2 * time.Second
	// reasonTimeout is how long a reader goes on after a failed write.
	reasonTimeout = time.Second
	// maxHubFrame is more than any HubFrame takes: a Command with 16 KiB of
	// payload.
	maxHubFrame = 32 << 10
	keptBuffer  = 1 << 10 // of the reader, between frames
)

// serve reads until the session ends. It returns when the writer has ended
// too.
func (s *session) serve(work context.Context) error {
	c := s.c
	c.log.Info("connected to hub", "device", c.id)
	c.setState(Online, nil)
	s.began = time.Now()
	s.ws.SetReadLimit(maxHubFrame)
	s.ws.SetPingHandler(s.pong)
	s.alive()
	// A session that must end at once says goodbye, and its reader waits for
	// the answer only so long.
	stop := context.AfterFunc(work, func() { s.sayGoodbye(websocket.CloseNormalClosure, "") })
	written := make(chan error, 1)
	go func() { written <- s.write() }()
	err := s.readAll()
	stop()
	if errors.Is(err, errRenewed) {
		s.sayGoodbye(websocket.CloseNormalClosure, "renewed")
	}
	if errors.Is(err, ErrProtocol) {
		s.sayGoodbye(websocket.CloseProtocolError, "")
	}
	close(s.done)
	_ = s.ws.Close()
	if werr := <-written; werr != nil && !explains(err) {
		err = werr
	}
	c.mu.Lock()
	c.session = nil
	c.window.interrupt()
	c.progress() // where all was in flight there may be something to drop now
	c.mu.Unlock()
	if time.Since(s.began) > stableAfter {
		s.settle()
	}
	return err
}

// explains reports whether a reader's error tells more than that the
// connection is gone.
func explains(err error) bool {
	var closed *CloseError
	return errors.As(err, &closed) || errors.Is(err, ErrProtocol) || errors.Is(err, ErrHubSilent) || errors.Is(err, errRenewed)
}

// settle resets the backoff, once a session.
func (s *session) settle() {
	if !s.stable {
		s.stable = true
		s.c.backoff.reset()
	}
}

func (s *session) alive() { _ = s.ws.SetReadDeadline(time.Now().Add(s.silence)) }

// pong runs in the reader. Where the writer is stuck it gives up in time for
// the reader to find a silent hub.
func (s *session) pong(data string) error {
	s.alive()
	err := s.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(pongTimeout/2))
	if isTimeout(err) || errors.Is(err, websocket.ErrCloseSent) {
		return nil
	}
	return err
}

// sayGoodbye sends a close, and bounds the wait for its answer. It may run
// beside the reader and the writer.
func (s *session) sayGoodbye(code int, reason string) {
	deadline := time.Now().Add(goodbyeTimeout)
	_ = s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), deadline)
	time.AfterFunc(goodbyeTimeout, func() { _ = s.ws.Close() })
}

// read is one frame of the hub. An unknown one has no oneof.
func (s *session) read() (*devicev1.HubFrame, error) {
	messageType, r, err := s.ws.NextReader()
	if err != nil {
		return nil, s.readError(err)
	}
	if messageType != websocket.BinaryMessage {
		return nil, fmt.Errorf("%w: a text message", ErrProtocol)
	}
	if cap(s.buf) > keptBuffer {
		s.buf = nil
	}
	if s.buf, err = appendAll(s.buf[:0], r); err != nil {
		return nil, s.readError(err)
	}
	frame := new(devicev1.HubFrame)
	if err := proto.Unmarshal(s.buf, frame); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return frame, nil
}

func appendAll(b []byte, r io.Reader) ([]byte, error) {
	if cap(b) == 0 {
		b = make([]byte, 0, 64)
	}
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

func (s *session) readError(err error) error {
	var closed *websocket.CloseError
	switch {
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		return &CloseError{Code: closed.Code, Reason: closed.Text}
	case isTimeout(err):
		return ErrHubSilent
	case errors.Is(err, websocket.ErrReadLimit):
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return fmt.Errorf("read from hub: %w", err)
}

func (s *session) writeError(err error) error { return fmt.Errorf("write to hub: %w", err) }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}
