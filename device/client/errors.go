package client

import (
	"errors"
	"fmt"
	"time"
)

// Errors that Run returns: the hub will refuse this device until an operator
// acts, so Run does not try again.
var (
	ErrUnauthorized       = errors.New("hub does not accept the credential (4500); an operator must create or rotate it")
	ErrDisabled           = errors.New("device is disabled at the hub (4501); an operator must enable it")
	ErrUnsupportedVersion = errors.New("hub does not speak this protocol version (4502); update the firmware or the hub")
	// ErrRefused wraps a close code from 4503 on, which a newer hub may send.
	ErrRefused = errors.New("hub refuses this device for good")
)

// Errors of one connection. They reach OnStateChange; the client tries again.
var (
	// ErrHubProof says that the peer does not know this device's secret:
	// somebody stands between, or it is another hub. No reading was sent.
	ErrHubProof = errors.New("hub could not prove itself")
	// ErrHubSilent says that neither a frame nor a ping came in time.
	ErrHubSilent = errors.New("hub is silent for longer than its heartbeat")
	// ErrProtocol says that the peer broke the device protocol.
	ErrProtocol = errors.New("hub broke the protocol")
	// ErrSuperseded says that another connection proved the same credential:
	// where it happens again and again, two devices share it.
	ErrSuperseded = errors.New("superseded by a newer session with the same credential")
)

// ErrFrameDamaged says that a frame of a spool cannot be read any more. The
// client drops it and counts its rows.
var ErrFrameDamaged = errors.New("spooled frame is damaged")

// errNoFrame says that a spool was asked for a frame that it does not hold.
var errNoFrame = errors.New("spool holds no such frame")

// Errors of Publish, Flush and Sync.
var (
	// ErrClosed says that the client has ended or is about to.
	ErrClosed = errors.New("client is closed")
	// ErrInvalidRow wraps what is wrong with a row.
	ErrInvalidRow = errors.New("invalid row")
	// ErrSpoolFull says that the spool has no room for one more frame.
	ErrSpoolFull = errors.New("spool is full")
)

// PublishError says that only the first Taken rows were taken. The others
// may be published again.
type PublishError struct {
	Taken int
	Err   error
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("publish: %d rows taken: %v", e.Taken, e.Err)
}

// Unwrap returns the reason.
func (e *PublishError) Unwrap() error { return e.Err }

// DialError says that the connection could not be opened.
type DialError struct {
	Status     int           // of the HTTP answer; 0: there was none
	RetryAfter time.Duration // the hub's wish; 0: none
	Err        error
}

func (e *DialError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("dial hub: HTTP status %d: %v", e.Status, e.Err)
	}
	return fmt.Sprintf("dial hub: %v", e.Err)
}

// Unwrap returns the reason.
func (e *DialError) Unwrap() error { return e.Err }

// CloseError says that the hub closed the connection. It wraps the error of
// its code where there is one.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("hub closed the connection: %d %s: %s", e.Code, closeName(e.Code), e.Reason)
}

// Unwrap returns ErrUnauthorized and its like; nil where no error stands for
// the code.
func (e *CloseError) Unwrap() error {
	switch e.Code {
	case closeUnauthorized:
		return ErrUnauthorized
	case closeDisabled:
		return ErrDisabled
	case closeUnsupportedVersion:
		return ErrUnsupportedVersion
	case closeSuperseded:
		return ErrSuperseded
	}
	if e.Code >= closeStop {
		return ErrRefused
	}
	return nil
}
