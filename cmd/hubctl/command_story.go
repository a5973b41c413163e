package main

import (
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// story is the whole of it, every line harmless for a screen.
func (a *app) story(c command, events []*operatorv1.CommandEvent, waits string) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(terminal.Clean(fmt.Sprintf(format, args...)))
		b.WriteByte('\n')
	}
	took := ""
	if c.GetEnded() != nil && c.GetCreated() != nil {
		took = " after " + span(c.Ended.AsTime().Sub(c.Created.AsTime()))
	}
	line("%q to %s: %s%s", c.GetSpec().GetName(), c.GetDeviceId(), stateName(c.GetState()), took)
	by := ""
	if c.GetOperator() != "" {
		by = " by " + c.Operator
	}
	line("Sent%s on %s (%s).", by, humanTime(c.GetCreated(), a.zone()), ago(c.GetCreated()))
	if c.GetGroupId() != "" {
		line("It is part of group %s.", c.GroupId)
	}
	if p := specPayload(c.GetSpec()); p != "" {
		line("Payload: %s", p)
	}
	line("%s", terms(c))
	line("")
	if len(events) == 0 {
		line("The hub kept no events of it.")
	}
	var place eventPlace
	for _, e := range events {
		line("%10s  %s%s", "+"+span(max(0, e.GetTime().AsTime().Sub(c.GetCreated().AsTime()))), eventWords(e), place.moved(e))
	}
	line("")
	line("%s", endWords(c, events, waits))
	return b.String()
}

// terms are the conditions it was sent under.
func terms(c command) string {
	text := ""
	switch c.GetSpec().GetReplay() {
	case operatorv1.ReplayClass_REPLAY_CLASS_ONCE:
		text = "It is sent once, and never again when the connection is lost"
	case operatorv1.ReplayClass_REPLAY_CLASS_LATEST_WINS:
		text = "It is sent until the device has taken it, or a newer one of that name takes its place"
	default:
		text = "It is sent until the device has taken it"
	}
	if ttl := c.GetSpec().GetTtl(); ttl != nil {
		text += ", for at most " + spanOf(ttl)
	}
	if timeout := c.GetSpec().GetTimeout(); timeout != nil {
		text += "; the device has " + spanOf(timeout) + " to answer"
	}
	return text + "."
}

// eventWords says what happened: in the hub's words, where it gave some.
func eventWords(e *operatorv1.CommandEvent) string {
	text := firstOf(e.Reason, plainWords(e.State))
	if e.NoCode {
		return text + ", without a code" + deviceWords(0, e.Message)
	}
	return text + deviceWords(e.Code, e.Message)
}

// plainWords are for an event without a reason.
func plainWords(s operatorv1.CommandState) string {
	switch s {
	case operatorv1.CommandState_COMMAND_STATE_QUEUED:
		return "queued"
	case operatorv1.CommandState_COMMAND_STATE_SENT:
		return "sent to the device"
	case operatorv1.CommandState_COMMAND_STATE_DELIVERED:
		return "the device has it"
	case operatorv1.CommandState_COMMAND_STATE_RUNNING:
		return "the device is at it"
	}
	return stateName(s)
}

// deviceWords are what the device has said beside the bare state.
func deviceWords(code uint32, message string) string {
	text := ""
	if code > 0 {
		text = fmt.Sprintf(", code %d (%s)", code, connect.Code(code))
	}
	if message != "" {
		text += fmt.Sprintf("; it says %q", message)
	}
	return text
}

// eventPlace is where a story has come to.
type eventPlace struct {
	node    string
	session uint64
}

// moved names the node and the session of an event that takes the story to
// another one.
func (p *eventPlace) moved(e *operatorv1.CommandEvent) string {
	before := *p
	if e.GetNode() != "" {
		p.node = e.GetNode()
	}
	if e.GetSessionEpoch() > 0 {
		p.session = e.GetSessionEpoch()
	}
	switch {
	case p.session != before.session:
		return fmt.Sprintf(" (node %s, session %d)", firstOf(p.node, "unknown"), p.session)
	case p.node != before.node:
		return fmt.Sprintf(" (node %s)", p.node)
	}
	return ""
}

// endWords sum up what its end means, or what it waits for. Why it came to
// that, the last event has told.
func endWords(c command, events []*operatorv1.CommandEvent, waits string) string {
	switch c.GetState() {
	case operatorv1.CommandState_COMMAND_STATE_SUCCEEDED:
		text := "It did what it should."
		if r := commandResult(c); r != "" {
			text += " Result: " + r
		}
		return text
	case operatorv1.CommandState_COMMAND_STATE_FAILED:
		return "The device took it and failed. It is not sent again."
	case operatorv1.CommandState_COMMAND_STATE_REJECTED:
		return "The device refused it and did nothing."
	case operatorv1.CommandState_COMMAND_STATE_TIMED_OUT:
		if takenByDevice(events) {
			return "The device has taken it; whether it has done it is not known. Should its answer still come, it is recorded here; 'hubctl command cancel' asks a connected device to stop it."
		}
		return "Whether the device did it is not known. Should its answer still come, it is recorded here."
	case operatorv1.CommandState_COMMAND_STATE_EXPIRED, operatorv1.CommandState_COMMAND_STATE_CANCELED:
		switch {
		case stoppedByDevice(events) && strings.Contains(events[len(events)-1].GetReason(), bridgeKeptIt):
			return "It was not published: the gear never got it and did nothing."
		case stoppedByDevice(events):
			return "The device did not go on with it; what it had done by then, if it had begun, stays done."
		case takenByDevice(events):
			return "The device has taken it; whether it has done it is not known. Should its answer still come, it is recorded here."
		case c.GetAttempts() == 0:
			return "The device never got it and did nothing."
		}
		return "Whether the device got it is not known. It is not sent again; should the device's answer still come, it is recorded here."
	}
	return "It has not ended. " + waits
}

// takenByDevice reports whether the device has said that it has the command.
func takenByDevice(events []*operatorv1.CommandEvent) bool {
	return slices.ContainsFunc(events, func(e *operatorv1.CommandEvent) bool {
		return e.GetSessionEpoch() > 0 && (e.GetState() == operatorv1.CommandState_COMMAND_STATE_DELIVERED || e.GetState() == operatorv1.CommandState_COMMAND_STATE_RUNNING)
	})
}

// bridgeKeptIt is what the bridge says for gear, in quotes, of a command that
// was canceled before it was published.
const bridgeKeptIt = `"not published"`

// stoppedByDevice reports whether a cancellation was the device's own word.
func stoppedByDevice(events []*operatorv1.CommandEvent) bool {
	if len(events) == 0 {
		return false
	}
	last := events[len(events)-1]
	return last.GetState() == operatorv1.CommandState_COMMAND_STATE_CANCELED && last.GetSessionEpoch() > 0
}
