package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// at is when and where a step is made.
type at struct {
	time  time.Time
	node  string
	epoch uint64 // of the session that took part; 0: none
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
	if c.Attempts > 0 {
		reason = "sent again on a new connection, for want of a confirmation on the one before"
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

// expire ends a command whose TTL is over. barred says why the device could
// not connect, "" where it could.
func (c *Command) expire(a at, barred string) (*Command, error) {
	ttl := c.Spec.TTL
	switch {
	case c.State == Queued:
		return c.step(Expired, a, fmt.Sprintf("the device was not connected within the TTL of %s; it was never sent", ttl)+barred)
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

// word is what a device has said about a command, cleaned.
type word struct {
	at
	state    State
	progress uint32
	code     uint32
	noCode   bool // code is codeUnknown for want of one
	message  string
	result   Payload
}

// The codes of google.rpc.Code that mean an error are 1 to maxCode.
const (
	codeUnknown = 2
	maxCode     = 16
)

// newWord cleans an update: what is out of bounds is cut, and says so.
func newWord(u *devicev1.CommandUpdate, a at) (word, error) {
	w := word{at: a, progress: min(u.GetProgressPercent(), 100), code: u.GetCode(), message: u.GetMessage()}
	switch u.GetPhase() {
	case devicev1.CommandPhase_COMMAND_PHASE_DELIVERED:
		return word{at: a, state: Delivered}, nil
	case devicev1.CommandPhase_COMMAND_PHASE_RUNNING:
		w.state, w.code = Running, 0
	case devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED:
		w.state, w.code = Succeeded, 0
	case devicev1.CommandPhase_COMMAND_PHASE_FAILED:
		w.state = Failed
	case devicev1.CommandPhase_COMMAND_PHASE_REJECTED:
		w.state = Rejected
	case devicev1.CommandPhase_COMMAND_PHASE_CANCELED:
		w.state = Canceled
	default:
		return word{}, fmt.Errorf("%w: command phase %d", ErrInvalid, u.GetPhase())
	}
	if w.state == Canceled {
		w.code = 0
	}
	var notes []string
	switch {
	case w.code > maxCode:
		notes = append(notes, fmt.Sprintf("code %d is none of 1 to %d", w.code, maxCode))
		w.code = codeUnknown
	case w.code == 0 && (w.state == Failed || w.state == Rejected):
		w.code, w.noCode = codeUnknown, true
	}
	if w.state != Running {
		w.result = Payload{JSON: u.GetJson(), Protobuf: u.GetProtobuf()}
	}
	switch n := len(w.result.JSON) + len(w.result.Protobuf); {
	case n > MaxPayloadBytes:
		w.result = Payload{}
		notes = append(notes, fmt.Sprintf("the result of %d bytes is over %d and was dropped", n, MaxPayloadBytes))
	case w.result.JSON != "" && !json.Valid([]byte(w.result.JSON)):
		w.result = Payload{Protobuf: []byte(w.result.JSON)}
		notes = append(notes, "the result is not JSON and is kept as bytes")
	}
	w.message = cut(w.message, MaxMessageBytes)
	if len(notes) > 0 {
		w.note(strings.Join(notes, "; "))
	}
	return w, nil
}

func (w *word) note(s string) {
	s = "[hub: " + s + "]"
	if w.message != "" {
		s = cut(w.message, MaxMessageBytes-len(s)-1) + " " + s
	}
	w.message = s
}

// cut s to n bytes, at a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// hear is the command after a word of its device; c itself when the word says
// nothing new. A *TransitionError is a word that cannot be. A word SENT is the
// hub's own, that it was sent again.
func (c *Command) hear(w word) (*Command, error) {
	if w.state == Sent {
		if c.State != Sent || c.CancelRequested || c.Spec.Replay == Once || w.epoch <= c.SentEpoch {
			return c, nil
		}
		return c.sent(w.at)
	}
	if c.State.Ended() {
		return c.hearLate(w)
	}
	if w.state == Delivered && (c.State == Delivered || c.State == Running) {
		return c, nil
	}
	if w.state == Running && c.State == Running && c.Progress == w.progress && c.Message == w.message {
		return c, nil
	}
	if err := CheckTransition(c.State, w.state, ByDevice); err != nil {
		return nil, err
	}
	n := c.clone()
	n.take(w, "")
	return n, nil
}

// hearLate is hear for a command that has ended.
func (c *Command) hearLate(w word) (*Command, error) {
	after := ", after the hub had ended it as " + c.State.String()
	if c.Attempts == 0 {
		// An older copy of the hub's data was put back: it was sent since.
		after += "; this hub has no record of having sent it"
	}
	if !w.state.Ended() {
		if w.state != Delivered && w.state != Running || c.Confirmed || !c.DeliveredAt.IsZero() {
			return c, nil
		}
		n := c.clone()
		n.DeliveredAt = w.time
		n.Reason = "the device has it" + after + "; its own end is still awaited"
		n.record(Event{Time: w.time, State: Delivered, Node: w.node, Epoch: w.epoch, Attempt: c.Attempts, Reason: n.Reason})
		return n, nil
	}
	if c.Confirmed && c.State == w.state {
		return c, nil
	}
	if c.Confirmed {
		return nil, &TransitionError{From: c.State, To: w.state, By: ByDevice}
	}
	if err := CheckTransition(c.State, w.state, ByDevice); err != nil {
		return nil, err
	}
	n := c.clone()
	n.take(w, after)
	return n, nil
}

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

// take makes the word the state of the command.
func (c *Command) take(w word, suffix string) {
	if c.DeliveredAt.IsZero() {
		c.DeliveredAt = w.time
	}
	c.State, c.Message = w.state, w.message
	switch w.state {
	case Delivered:
		c.Reason = "the device has it"
	case Running:
		c.Reason = fmt.Sprintf("the device reports %d %%", w.progress)
		c.Progress = w.progress
	case Succeeded:
		c.Reason = "the device reports success"
		c.Progress = 100
	case Failed:
		c.Reason = "the device reports failure"
	case Rejected:
		c.Reason = "the device does not accept it; nothing was done"
	case Canceled:
		c.Reason = "the device has stopped it"
		if !c.CancelRequested {
			c.Reason = "stopped on the device"
		}
	}
	c.Reason += suffix
	if w.state.Ended() {
		c.Ended, c.Confirmed, c.Code, c.NoCode, c.Result = w.time, true, w.code, w.noCode, w.result
	}
	c.record(Event{
		Time: w.time, State: w.state, Reason: c.Reason, Node: w.node, Epoch: w.epoch,
		Attempt: c.Attempts, Progress: c.Progress, Code: w.code, NoCode: w.noCode, Message: w.message,
	})
}
