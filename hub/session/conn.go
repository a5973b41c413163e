package session

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Conn carries whole frames between the hub and one device, over whatever
// transport. One goroutine reads and one, perhaps another, writes; the
// deadlines and Kill may be used by any goroutine at any time.
type Conn interface {
	// ReadFrame waits for the next frame. The caller frees the buffer. The
	// errors that mean something are *PeerClosed, *Violation and
	// os.ErrDeadlineExceeded; any other is a broken connection. Every error
	// is final.
	ReadFrame() (*Buffer, error)
	// WriteFrame and WritePing and WritePong fail when deadline passes.
	// They do not keep their arguments.
	WriteFrame(frame []byte, deadline time.Time) error
	WritePing(deadline time.Time) error
	WritePong(payload []byte, deadline time.Time) error

	// SetReadDeadline and SetWriteDeadline also wake a call that is under
	// way. The zero time is none.
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error

	// Watch names who hears of everything that comes. Called once, before
	// the first ReadFrame.
	Watch(a Activity)
	// Authenticated says that the device has proved itself: frames may be
	// up to maxFrame bytes from now on, and what the transport reserved for
	// strangers is free again. Before it, the limit is MaxHelloBytes.
	Authenticated(maxFrame int)

	// Close tells the peer code and reason, gives it up to linger to take
	// that in, and frees the connection. Nobody reads or writes any more.
	Close(code CloseCode, reason string, linger time.Duration)
	// Kill frees the connection at once.
	Kill()

	// Binding is the TLS exporter value of RFC 9266, device.BindingBytes
	// long; nil where the transport has none.
	Binding() []byte
	// AllowsUnbound says that the operator has allowed the binding type none
	// for everything that comes in this way.
	AllowsUnbound() bool
	// RemoteAddr of the device, for people.
	RemoteAddr() string
}

// Activity hears of what a Conn receives, from the goroutine that reads.
type Activity interface {
	// Heard: some bytes of a frame have come, or a whole pong.
	Heard()
	// Pinged: the peer wants a pong with this payload, of at most 125 bytes;
	// it is not kept. An error ends the reading.
	Pinged(payload []byte) error
	// Ponged: an answer to a ping has come. An error ends the reading.
	Ponged() error
}

// PeerClosed is the error of a Conn whose peer has sent a close frame.
type PeerClosed struct {
	Code   int // 1005 where it gave none
	Reason string
}

func (e *PeerClosed) Error() string {
	return fmt.Sprintf("closed by the device: %d %q", e.Code, e.Reason)
}

// Violation is the error of a Conn whose peer broke the rules of the
// transport or of the protocol.
type Violation struct {
	Code   CloseCode
	Reason string // for the close frame; "": the code's own
}

func (e *Violation) Error() string {
	if e.Reason == "" {
		return e.Code.Info().Text
	}
	return e.Reason
}

// errStopped ends the reading of a session that was told to stop.
var errStopped = errors.New("session was told to stop")

// Buffer holds one received frame. It belongs to one goroutine at a time.
type Buffer struct {
	B []byte
}

// Sizes of pooled buffers, in bytes. What a large frame has grown beyond the
// upper one is left to the garbage collector.
const (
	minBufferBytes = 2 << 10
	maxPooledBytes = 72 << 10
)

var buffers = sync.Pool{New: func() any { return &Buffer{B: make([]byte, 0, minBufferBytes)} }}

// NewBuffer takes an empty buffer from the pool.
func NewBuffer() *Buffer { return buffers.Get().(*Buffer) }

// Free gives the buffer back; b.B must not be used any more.
func (b *Buffer) Free() {
	if cap(b.B) > maxPooledBytes {
		return
	}
	b.B = b.B[:0]
	buffers.Put(b)
}
