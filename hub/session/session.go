// Package session is one device's connection, from the challenge to the close
// frame. It does not know the transport below it: a Conn carries whole frames.
//
// A session is one blocking Run: after the handshake the caller's goroutine
// reads. A writer is started when something is to be sent and ends when
// nothing is left; Run joins it. Nothing else is started for a session:
// heartbeats of all sessions come from one Wheel. So an idle device costs its reader's stack, the
// transport's buffers, and one Session.
//
// What may be in memory for one device is bounded: the frame being read
// (MaxFrameBytes), the outgoing queue (Limits.MaxQueuedBytes), and four bytes
// for each frame in flight (Limits.WindowFrames).
package session

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/registry"
)

// Session is one connection of one device. Its exported methods, except Run,
// may be called by any goroutine.
type Session struct {
	// Set once by New.
	deps *Deps
	conn Conn

	// Set by the handshake before the session is attached, then only read.
	id          string
	firmware    string
	keyID       string // of the master key that the proved secret comes from
	hubNonce    [device.NonceBytes]byte
	deviceNonce [device.NonceBytes]byte
	boot        [device.BootIDBytes]byte
	generation  uint32
	bound       bool // the proofs cover the channel binding
	attached    bool
	interval    time.Duration // of the heartbeat
	memory      *Memory
	epoch       uint64 // the reader's; others have it from the table

	heard  atomic.Int64           // when the device was last heard, by the wheel's clock
	labels atomic.Pointer[string] // for entries

	// The reader's.
	flow      flow
	limit     limiter
	describes int // Describe frames taken

	// Guarded by the wheel's lock.
	beat beat

	mu sync.Mutex
	// Guarded by mu.
	out        outbox
	flight     flight
	open       bool   // the welcome is queued: others may send
	renewed    uint32 // newest generation that was handed over
	stopped    bool
	code       CloseCode     // why, once stopped
	reason     string        // for the close frame; "": the code's own
	settled    chan struct{} // closed when nothing is in flight; nil: nobody waits
	cancelCall context.CancelFunc
}

// New makes the session of a fresh connection. Run must follow.
func New(conn Conn, deps *Deps) *Session {
	s := &Session{deps: deps, conn: conn}
	conn.Watch((*activity)(s))
	return s
}

// Run serves conn until either side ends it, and returns the close code. The
// connection is closed when it returns, nothing it started is left, and the
// device is out of the table. The end of ctx stops the session as
// Stop(CloseShutdown, "") does.
func Run(ctx context.Context, conn Conn, deps *Deps) CloseCode {
	return New(conn, deps).Run(ctx)
}

// Run is the package's Run for a session made by New. It is called once.
func (s *Session) Run(ctx context.Context) CloseCode {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { s.Stop(CloseShutdown, "") })()
		ctx = context.WithoutCancel(ctx)
	}
	// The handshake needs more stack than an idle reader, and a stack in use
	// does not shrink to the reader's 4 KiB: it is done on another goroutine,
	// whose stack goes with it.
	shaken := make(chan error, 1)
	go func() { shaken <- s.handshake(ctx) }()
	err := <-shaken
	if err == nil {
		err = s.read(ctx)
	}
	return s.finish(err)
}

// Stop ends the session with a code and a reason for the close frame ("": the
// code's own). It returns at once. CloseShutdown and CloseDraining first
// settle what is in flight: frames that were appended are acknowledged. The
// first Stop decides on the code; a later one that is not graceful ends the
// waiting.
func (s *Session) Stop(code CloseCode, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.stopped, s.code, s.reason = true, code, reason
		_ = s.conn.SetReadDeadline(past)
	}
	if code.graceful() {
		return
	}
	s.endSettling()
	if s.cancelCall != nil {
		s.cancelCall()
	}
	if s.out.writing {
		_ = s.conn.SetWriteDeadline(time.Now().Add(abortTimeout))
	}
}

// Kill ends the session and its connection at once, without a word.
func (s *Session) Kill() {
	s.Stop(CloseLost, "")
	s.conn.Kill()
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// setReadDeadline unless the session was told to stop: a late change must
// not undo Stop's.
func (s *Session) setReadDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		_ = s.conn.SetReadDeadline(t)
	}
}

// finish is the end of Run: out of the table first, then the socket, then
// whoever may be slow.
func (s *Session) finish(err error) CloseCode {
	code, reason := s.conclude(err)
	if s.attached {
		s.deps.Wheel.remove(s)
		s.deps.Table.Detach(s, code)
		s.deps.Metrics.Live.Add(-1)
		s.deps.Metrics.Closes[code.index()].Add(1)
	}
	if code.graceful() {
		s.settle()
	}
	s.seal(code)
	switch {
	case code == CloseLost:
		s.conn.Kill()
	case code == CloseNormal || code == CloseHeartbeat || code == CloseTooSlow:
		s.conn.Close(code, reason, 0)
	default:
		s.conn.Close(code, reason, lingerTimeout)
	}
	s.log(code, reason, err)
	if s.attached && s.deps.Commands != nil {
		s.deps.Commands.Disconnected(s.id, s.epoch)
	}
	return code
}

// conclude settles on the code. From here on Stop changes nothing.
func (s *Session) conclude(err error) (CloseCode, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.stopped = true
		s.code, s.reason = classify(err)
	}
	reason := s.reason
	if reason == "" {
		reason = s.code.Info().Reason
	}
	return s.code, reason
}

// classify is the close code of an error of the reader.
func classify(err error) (CloseCode, string) {
	var violation *Violation
	var closed *PeerClosed
	switch {
	case errors.As(err, &violation):
		return violation.Code, violation.Reason
	case errors.As(err, &closed):
		return CloseNormal, ""
	case errors.Is(err, os.ErrDeadlineExceeded):
		return CloseHandshakeTimeout, "" // the only deadline that is not Stop's
	}
	return CloseLost, ""
}

func (s *Session) log(code CloseCode, reason string, err error) {
	if !s.attached {
		// An operator wants to see which device is refused, but nobody may
		// fill the log by it.
		level := slog.LevelDebug
		if code >= CloseUnauthorized && s.deps.refused.take(time.Now()) {
			level = slog.LevelInfo
		}
		s.deps.Logger.Log(context.Background(), level, "device handshake failed", "device", s.id, "remote", s.conn.RemoteAddr(),
			"code", int(code), "reason", reason, "error", err)
		return
	}
	level := slog.LevelInfo
	if code == CloseInternal || code == CloseForbidden || code == CloseRateLimit {
		level = slog.LevelWarn
	}
	s.deps.Logger.Log(context.Background(), level, "device disconnected", "device", s.id, "epoch", s.epoch,
		"remote", s.conn.RemoteAddr(), "code", int(code), "reason", reason, "error", err)
}

// call runs f with a context that ends after callTimeout, or when the session
// is stopped without grace.
func (s *Session) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s.mu.Lock()
	if s.stopped && !s.code.graceful() {
		s.mu.Unlock()
		return errStopped
	}
	s.cancelCall = cancel
	s.mu.Unlock()
	err := f(ctx)
	s.mu.Lock()
	s.cancelCall = nil
	s.mu.Unlock()
	return err
}

// ID of the device. Set from Attach on.
func (s *Session) ID() string { return s.id }

// Generation of the credential that the device has proved.
func (s *Session) Generation() uint32 { return s.generation }

// Firmware as the device names it.
func (s *Session) Firmware() string { return s.firmware }

// RemoteAddr of the device.
func (s *Session) RemoteAddr() string { return s.conn.RemoteAddr() }

// LastHeard is when the last word came from the device.
func (s *Session) LastHeard() time.Time { return s.deps.Wheel.wall(s.heard.Load()) }

// Relabel takes the changed labels of the device into what it sends from now
// on.
func (s *Session) Relabel(d *registry.Device) {
	labels := s.deps.Labels(d)
	s.labels.Store(&labels)
}

// activity is the session as its Conn knows it.
type activity Session

func (a *activity) Heard() {
	s := (*Session)(a)
	s.heard.Store(s.deps.Wheel.now())
}

func (a *activity) Pinged(payload []byte) error {
	s := (*Session)(a)
	if err := s.control(); err != nil {
		return err
	}
	s.pong(payload)
	return nil
}

func (a *activity) Ponged() error { return (*Session)(a).control() }

// control is for a ping or a pong of the device.
func (s *Session) control() error {
	now := s.deps.Wheel.now()
	s.heard.Store(now)
	if s.limit.admit(s.deps, now, 0) > 0 {
		return s.overrun()
	}
	return nil
}
