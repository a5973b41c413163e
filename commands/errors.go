package commands

import (
	"errors"
	"fmt"
	"time"
)

// Errors that callers decide on. Those returned wrap one of these and say in
// words what is wrong.
var (
	// ErrInvalid: the request is not acceptable as it is.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: no command or group of that id, now or in the history.
	ErrNotFound = errors.New("no such command")
	// ErrUnknownDevice: the registry does not know the device.
	ErrUnknownDevice = errors.New("unknown device")
	// ErrDeviceDisabled: an operator has disabled the device.
	ErrDeviceDisabled = errors.New("device is disabled")
	// ErrTooManyPending: the device has as many commands without an end as
	// it may have. Nothing was accepted.
	ErrTooManyPending = errors.New("too many pending commands for the device")
	// ErrFull: the store is at its bound. Nothing was accepted.
	ErrFull = errors.New("command store is full")
	// ErrConflict: the idempotency key belongs to a different command.
	ErrConflict = errors.New("the key was used for a different command")
	// ErrEnded: the command or group has ended and cannot be canceled.
	ErrEnded = errors.New("has ended already")
	// ErrNoOperator: who has asked for it has been removed, or may not send
	// commands any more.
	ErrNoOperator = errors.New("is not an operator who may send commands any more")
	// ErrOutOfReach: the device is none of those that the operator may reach.
	ErrOutOfReach = errors.New("is out of the operator's reach")
	// ErrTooMany: more devices match a group's selector than allowed, or none.
	ErrTooMany = errors.New("selector matches too many devices")
	// ErrBadPageToken: the token is not one of this listing.
	ErrBadPageToken = errors.New("bad page token")
	// ErrSlowWatcher: a watcher fell too far behind; it may begin again.
	ErrSlowWatcher = errors.New("watcher is too slow")
	// ErrClosed: the dispatcher has stopped.
	ErrClosed = errors.New("dispatcher has stopped")
	// ErrUnsettled: the store does not say yet what became of a record, as
	// while a cluster changes its leader; the call may be made again.
	ErrUnsettled = errors.New("the command store is not settled")

	// ErrExists is returned by a Store that holds the id already.
	ErrExists = errors.New("exists already")
	// ErrStale is returned by a Store whose record has changed since it was
	// read.
	ErrStale = errors.New("record has changed since it was read")
)

// DisabledError is an ErrDeviceDisabled that knows whose doing it is.
type DisabledError struct {
	Device string
	By     string    // an operator; "": not known
	Since  time.Time // zero: not known
}

func (e *DisabledError) Error() string {
	return fmt.Sprintf("device %s: %s%s; enable it first", e.Device, ErrDeviceDisabled, disabledBy(e))
}

// Is makes it an ErrDeviceDisabled.
func (e *DisabledError) Is(target error) bool { return target == ErrDeviceDisabled }

// disabledBy says who has disabled the device of an error, and when: " by ann
// on 2026-01-02 15:04:05 UTC"; "" where that is not known.
func disabledBy(err error) (text string) {
	var e *DisabledError
	if !errors.As(err, &e) {
		return ""
	}
	if e.By != "" {
		text = " by " + e.By
	}
	if !e.Since.IsZero() {
		text += " on " + e.Since.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return text
}
