package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) commandWhy() *cobra.Command {
	return &cobra.Command{
		Use:   "why ID",
		Short: "Tell the story of a command: every attempt, where, and why it ended so",
		Long: `Tell the story of a command in plain words: when it was accepted, every attempt
with the node and the session it went over, what the device said, and the reason
for its end; of one that has not ended, what it waits for. Of a group it tells
which devices got no command and which failed. Of a command that the hub has
refused it tells, given its key, who sent it, when, and what was wrong with it.
-o csv writes the events.`,
		Example: "  hubctl command why 0198c1d2-7a3b-7c4d-8e5f-0123456789ab\n" +
			"  hubctl command why nightly-reboot",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeCommandID,
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Commands.GetCommand, &operatorv1.GetCommandRequest{Id: args[0]})
			if connect.CodeOf(err) == connect.CodeNotFound {
				return a.whyNoCommand(cmd.Context(), api, err, args[0])
			}
			if err != nil {
				return err
			}
			switch a.out {
			case output.JSON:
				return output.WriteObject(a.stdout, res)
			case output.CSV:
				return printList(a, eventView(), each(res.Events))
			}
			waits := ""
			if c := res.GetCommand(); !hasEnded(c.GetState()) {
				waits = a.waitsFor(cmd.Context(), api, c, res.Events)
			}
			text := a.story(res.GetCommand(), res.Events, waits)
			if refused, err := a.refused(cmd.Context(), api, args[0]); err == nil && len(refused.GetRefused()) > 0 {
				text += "\nBeside that, the hub has refused what was sent with the same key:\n" + a.refusedStory(refused)
			}
			_, err = io.WriteString(a.stdout, text)
			return err
		},
	}
}

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
	if e.State == operatorv1.CommandState_COMMAND_STATE_SENT && e.Attempt > 1 {
		text = fmt.Sprintf("attempt %d: %s", e.Attempt, text)
	}
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

// stoppedByDevice reports whether a cancellation was the device's own word.
func stoppedByDevice(events []*operatorv1.CommandEvent) bool {
	if len(events) == 0 {
		return false
	}
	last := events[len(events)-1]
	return last.GetState() == operatorv1.CommandState_COMMAND_STATE_CANCELED && last.GetSessionEpoch() > 0
}

// waitsFor says what holds a command up, and until when. The device's presence
// is part of it; without the right to see that, the command's own state has
// to do.
func (a *app) waitsFor(ctx context.Context, api *connection.Clients, c command, events []*operatorv1.CommandEvent) string {
	res, err := call(ctx, a, api.Devices.GetDevice, &operatorv1.GetDeviceRequest{Id: c.DeviceId})
	d := res.GetDevice()
	where := ""
	if err == nil {
		where = whereabouts(d)
	}
	left := ""
	switch c.State {
	case operatorv1.CommandState_COMMAND_STATE_DELIVERED, operatorv1.CommandState_COMMAND_STATE_RUNNING:
		if at, ok := givenUpAt(c, events); ok {
			left = "; the hub gives up in " + span(max(0, time.Until(at)))
		}
		return "It waits for the result of the device" + strings.TrimSuffix(where, ",") + left + "."
	}
	if c.Expires != nil {
		if d := time.Until(c.Expires.AsTime()); d > 0 {
			left = "; it expires in " + span(d)
		}
	}
	switch {
	case err == nil && sentInVain(c, events, d.GetPresence()):
		return "The connection that it was sent on is gone, and a command of the class once is not sent again: whether the device got it is not known. " +
			"The hub ends it TIMED_OUT within " + span(c.GetSpec().GetTimeout().AsDuration()) + " of that, unless the device says something about it."
	case c.State == operatorv1.CommandState_COMMAND_STATE_SENT:
		return "It waits for the word of the device" + where + " that it has it" + left + "."
	case err != nil:
		return "It waits to be sent" + left + "."
	case where != "":
		return "It waits for the device" + strings.TrimSuffix(where, ",") + left + "."
	}
	return "The device is online; it waits for its turn" + left + "."
}

// sentInVain reports that a command of the class once was sent on a session
// that is over.
func sentInVain(c command, events []*operatorv1.CommandEvent, p *operatorv1.Presence) bool {
	if c.State != operatorv1.CommandState_COMMAND_STATE_SENT || c.GetSpec().GetReplay() != operatorv1.ReplayClass_REPLAY_CLASS_ONCE {
		return false
	}
	for _, e := range slices.Backward(events) {
		if e.GetState() == operatorv1.CommandState_COMMAND_STATE_SENT {
			return !p.GetOnline() || p.GetSessionEpoch() > e.GetSessionEpoch()
		}
	}
	return false
}

// disabledBy says who has disabled a device, and when: " by ann 2 h ago".
func disabledBy(d *operatorv1.Device) string {
	text := ""
	if d.GetDisabledBy() != "" {
		text = " by " + d.GetDisabledBy()
	}
	if d.GetDisabledSince() != nil {
		text += " " + ago(d.GetDisabledSince())
	}
	return text
}

// whereabouts of a device that cannot answer now, as a clause between commas;
// "" where it is online.
func whereabouts(d *operatorv1.Device) string {
	p := d.GetPresence()
	switch {
	case !d.GetEnabled():
		return ", which is disabled" + disabledBy(d) + " ('hubctl device enable " + d.GetId() + "'),"
	case p.GetOnline():
		return ""
	case p.GetSince() == nil:
		return ", which has never connected,"
	}
	why := ""
	if p.GetReason() != "" {
		why = " (" + p.GetReason() + ")"
	}
	return ", which went offline " + ago(p.GetSince()) + why + ","
}

// givenUpAt is when the time of a delivered command to answer is over: it
// runs from the device's first word on.
func givenUpAt(c command, events []*operatorv1.CommandEvent) (time.Time, bool) {
	for _, e := range events {
		switch e.GetState() {
		case operatorv1.CommandState_COMMAND_STATE_DELIVERED, operatorv1.CommandState_COMMAND_STATE_RUNNING:
			return e.GetTime().AsTime().Add(c.GetSpec().GetTimeout().AsDuration()), c.GetSpec().GetTimeout() != nil
		}
	}
	return time.Time{}, false
}

func eventView() view[*operatorv1.CommandEvent] {
	type event = *operatorv1.CommandEvent
	return view[event]{csv: []output.Column[event]{
		{Name: "time", Cell: func(e event) string { return machineTime(e.Time) }},
		{Name: "state", Cell: func(e event) string { return stateName(e.State) }},
		{Name: "attempt", Cell: func(e event) string { return number(e.Attempt) }},
		{Name: "node", Cell: event.GetNode},
		{Name: "session_epoch", Cell: func(e event) string { return number(e.SessionEpoch) }},
		{Name: "progress_percent", Cell: func(e event) string { return number(e.ProgressPercent) }},
		{Name: "code", Cell: func(e event) string { return number(e.Code) }},
		{Name: "message", Cell: event.GetMessage},
		{Name: "reason", Cell: event.GetReason},
	}}
}
