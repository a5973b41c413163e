package commands

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// at is when and where a step is made.
type at struct {
	time  time.Time
	node  string
	epoch uint64 // of the session that took part; 0: none
	keeps bool   // that session is of a Holder that keeps commands
}

// step moves the command by the hub: a copy in the new state.
func (c *Command) step(to State, a at, reason string) (*Command, error) {
	if err := CheckTransition(c.State, to, ByHub); err != nil {
		return nil, err
	}
	n := c.clone()
	n.State, n.Reason = to, reason
	if to.Ended() {
		n.Ended, n.Message = a.time, "" // a word on its progress is no answer
	}
	n.record(Event{Time: a.time, State: to, Reason: reason, Node: a.node, Epoch: a.epoch, Attempt: n.Attempts})
	return n, nil
}

// sent is the command as it must be recorded before it goes out on the
// session a.epoch of the node a.node.
func (c *Command) sent(a at) (*Command, error) {
	reason := "sent to the device"
	switch {
	case c.Attempts > 0 && a.keeps:
		reason = "given to the bridge again; what was published before is not published again: the hub waits on for its answer"
	case c.Attempts > 0:
		reason = fmt.Sprintf("attempt %d: sent again on a new connection, for want of a confirmation on the one before", c.Attempts+1)
	case a.keeps:
		reason = "given to the bridge, which publishes it to the gear"
	}
	d := *c
	d.Attempts++
	d.SentNode, d.SentEpoch, d.SentAt = a.node, a.epoch, a.time
	return d.step(Sent, a, reason)
}

// unsent takes the first sending back: no byte of it has left.
func (c *Command) unsent(a at, why string) (*Command, error) {
	if c.CancelRequested {
		return c.step(Canceled, a, "canceled; it was not sent")
	}
	n, err := c.step(Queued, a, why)
	if err != nil {
		return nil, err
	}
	n.Attempts--
	n.SentNode, n.SentEpoch, n.SentAt = "", 0, time.Time{}
	return n, nil
}

// expire ends a command whose TTL is over. unsent says why nothing of one that
// is SENT has left, "" where something may have; barred why the device could
// not connect, "" where it could.
func (c *Command) expire(a at, unsent, barred string) (*Command, error) {
	ttl := c.Spec.TTL
	switch {
	case c.State == Queued:
		return c.step(Expired, a, fmt.Sprintf("the device was not connected within the TTL of %s; it was never sent", ttl)+barred)
	case unsent != "":
		d := *c
		d.Attempts, d.SentNode, d.SentEpoch, d.SentAt = 0, "", 0, time.Time{}
		return d.step(Expired, a, fmt.Sprintf("not sent within the TTL of %s: %s; it was never sent", ttl, unsent)+barred)
	case c.CancelRequested:
		return c.step(Expired, a, fmt.Sprintf("sent, and its cancellation asked for, but not confirmed within the TTL of %s: it may have reached the device", ttl)+barred)
	}
	return c.step(Expired, a, fmt.Sprintf("sent, but not confirmed within the TTL of %s: it may have reached the device; not sent again", ttl)+barred)
}

// timeOut ends a command that was delivered, or one of the class once whose
// session is lost, for want of an answer. barred is as that of expire.
func (c *Command) timeOut(a at, barred string) (*Command, error) {
	switch {
	case c.State == Sent:
		return c.step(TimedOut, a, "delivery unknown; not resent: the connection was lost before the device confirmed it"+barred)
	case c.CancelRequested:
		return c.step(TimedOut, a, fmt.Sprintf("delivered, but no end within %s; its cancellation was not answered", c.Spec.Timeout)+barred)
	}
	return c.step(TimedOut, a, fmt.Sprintf("delivered, but no end within %s", c.Spec.Timeout)+barred)
}

// barring says, behind the reason for an end, that the device cannot connect
// at all: who has disabled it, or that it is removed. err is that of
// Devices.CheckDevice.
func barring(err error) string {
	switch {
	case errors.Is(err, ErrDeviceDisabled):
		return "; the device is disabled" + disabledBy(err)
	case errors.Is(err, ErrUnknownDevice):
		return "; the device was removed"
	}
	return ""
}

// supersede ends a command that the newer one takes the place of.
func (c *Command) supersede(a at, newer string) (*Command, error) {
	reason := "superseded by the newer command " + newer
	if c.State == Sent {
		reason += "; it may have reached the device"
	}
	return c.step(Canceled, a, reason)
}

// cancel ends a QUEUED command, and marks one that may have reached the
// device: the device decides on that one. It returns c itself when that was
// asked for before. by says whose doing it is, " by ann", or what has led to
// it; it may be empty.
func (c *Command) cancel(a at, by string) (*Command, error) {
	switch {
	case c.State.Ended():
		return nil, fmt.Errorf("command %s is %s: %w", c.ID, c.State, ErrEnded)
	case c.State == Queued:
		return c.step(Canceled, a, "canceled"+by+" before it was sent")
	case c.CancelRequested:
		return c, nil
	}
	n := c.clone()
	n.CancelRequested = true
	n.Reason = "cancellation requested" + strings.TrimSuffix(by, ",")
	n.record(Event{Time: a.time, State: c.State, Reason: n.Reason, Node: a.node, Attempt: c.Attempts})
	return n, nil
}

// The codes of google.rpc.Code that mean an error are 1 to maxCode.
const (
	codeUnknown = 2
	maxCode     = 16
)

// removed ends a command whose device has been removed, " by ann".
func (c *Command) removed(a at, by string) (*Command, error) {
	reason := "canceled, because the device was removed" + by
	switch c.State {
	case Queued:
		reason += ", before it was sent"
	case Sent:
		reason += "; it had been sent, and whether the device got it and has acted on it is not known"
	case Delivered:
		reason += "; the device had it, and whether it has acted on it is not known"
	case Running:
		reason += fmt.Sprintf("; the device was at it (%d %%), and how far it has come since is not known", c.Progress)
	}
	return c.step(Canceled, a, reason)
}

// mayBeOnDevice reports whether the device may be at a command that the hub
// has ended without the device's word.
func (c *Command) mayBeOnDevice() bool {
	return c.State.Ended() && !c.Confirmed && (c.Attempts > 0 || !c.DeliveredAt.IsZero())
}

// cancelLate asks the device to stop a command that the hub has ended. It
// returns c itself when that was asked for before.
func (c *Command) cancelLate(a at, by string) (*Command, error) {
	if !c.mayBeOnDevice() {
		return nil, fmt.Errorf("command %s is %s: %w", c.ID, c.State, ErrEnded)
	}
	if c.LateCancel {
		return c, nil
	}
	n := c.clone()
	n.CancelRequested, n.LateCancel = true, true
	n.Reason = "cancellation requested" + strings.TrimSuffix(by, ",") + ", after the hub had ended it as " + c.State.String() +
		"; a device that is connected is told to stop it, and its own word on that is recorded"
	n.record(Event{Time: a.time, State: c.State, Reason: n.Reason, Node: a.node, Attempt: c.Attempts})
	return n, nil
}
