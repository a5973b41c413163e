package commands

import (
	"encoding/json"
	"fmt"
	"strings"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

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
