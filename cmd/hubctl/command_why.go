package main

import (
	"context"
	"fmt"
	"io"
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
for its end; of one that has not ended, what it waits for. -o csv writes the
events.`,
		Example:           "  hubctl command why 0198c1d2-7a3b-7c4d-8e5f-0123456789ab",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeCommandID,
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Commands.GetCommand, &operatorv1.GetCommandRequest{Id: args[0]})
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
				waits = a.waitsFor(cmd.Context(), api, c)
			}
			_, err = io.WriteString(a.stdout, a.story(res.GetCommand(), res.Events, waits))
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
	for _, e := range events {
		line("%10s  %s", "+"+span(max(0, e.GetTime().AsTime().Sub(c.GetCreated().AsTime()))), eventWords(e, c))
	}
	line("")
	line("%s", endWords(c, waits))
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

// eventWords says what happened.
func eventWords(e *operatorv1.CommandEvent, c command) string {
	var text string
	switch e.State {
	case operatorv1.CommandState_COMMAND_STATE_QUEUED:
		text = "queued"
		if e.Attempt > 0 {
			text = fmt.Sprintf("back in the queue after attempt %d", e.Attempt)
		}
	case operatorv1.CommandState_COMMAND_STATE_SENT:
		text = fmt.Sprintf("attempt %d: sent to the device", max(1, e.Attempt))
	case operatorv1.CommandState_COMMAND_STATE_DELIVERED:
		text = "the device says it has it"
	case operatorv1.CommandState_COMMAND_STATE_RUNNING:
		text = "the device is at it"
		if e.ProgressPercent > 0 {
			text += fmt.Sprintf(", %d%%", e.ProgressPercent)
		}
	case operatorv1.CommandState_COMMAND_STATE_SUCCEEDED:
		text = "the device says it succeeded"
	case operatorv1.CommandState_COMMAND_STATE_FAILED:
		text = "it failed"
	case operatorv1.CommandState_COMMAND_STATE_REJECTED:
		text = "the device refused it"
	case operatorv1.CommandState_COMMAND_STATE_TIMED_OUT:
		text = "no answer in time"
	case operatorv1.CommandState_COMMAND_STATE_EXPIRED:
		text = "its time to live was over"
	case operatorv1.CommandState_COMMAND_STATE_CANCELED:
		text = "canceled"
	default:
		text = e.State.String()
	}
	if e.Code > 0 {
		text += fmt.Sprintf(", code %d (%s)", e.Code, connect.Code(e.Code))
	}
	if e.Message != "" {
		text += fmt.Sprintf(", in its words: %q", e.Message)
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text + eventPlace(e)
}

func eventPlace(e *operatorv1.CommandEvent) string {
	switch {
	case e.Node != "" && e.SessionEpoch > 0:
		return fmt.Sprintf(" (node %s, session %d)", e.Node, e.SessionEpoch)
	case e.Node != "":
		return fmt.Sprintf(" (node %s)", e.Node)
	case e.SessionEpoch > 0:
		return fmt.Sprintf(" (session %d)", e.SessionEpoch)
	}
	return ""
}

// endWords sum up how it ended, or what it waits for.
func endWords(c command, waits string) string {
	because := ""
	if r := firstOf(c.GetReason(), c.GetMessage()); r != "" {
		because = ": " + r
	}
	switch c.GetState() {
	case operatorv1.CommandState_COMMAND_STATE_SUCCEEDED:
		text := "It did what it should."
		if r := commandResult(c); r != "" {
			text += " Result: " + r
		}
		return text
	case operatorv1.CommandState_COMMAND_STATE_FAILED:
		return "It ended as FAILED" + because + "."
	case operatorv1.CommandState_COMMAND_STATE_REJECTED:
		return "The device did nothing, it REJECTED the command" + because + "."
	case operatorv1.CommandState_COMMAND_STATE_TIMED_OUT:
		return "Whether the device did it is not known; should its answer still come, it is recorded here" + because + "."
	case operatorv1.CommandState_COMMAND_STATE_EXPIRED:
		if c.GetAttempts() == 0 {
			return "It was never sent; the device did nothing" + because + "."
		}
		return "The device never confirmed it" + because + "."
	case operatorv1.CommandState_COMMAND_STATE_CANCELED:
		return "It was canceled" + because + "."
	}
	return "It has not ended. " + waits
}

// waitsFor says what holds a command up. The device's presence is part of it;
// without the right to see that, the command's own state has to do.
func (a *app) waitsFor(ctx context.Context, api *connection.Clients, c command) string {
	left := ""
	if c.Expires != nil {
		if d := time.Until(c.Expires.AsTime()); d > 0 {
			left = "; it expires in " + span(d)
		}
	}
	switch c.State {
	case operatorv1.CommandState_COMMAND_STATE_SENT:
		return "It waits for the device to say that it has it" + left + "."
	case operatorv1.CommandState_COMMAND_STATE_DELIVERED, operatorv1.CommandState_COMMAND_STATE_RUNNING:
		return "It waits for the device's result."
	}
	res, err := call(ctx, a, api.Devices.GetDevice, &operatorv1.GetDeviceRequest{Id: c.DeviceId})
	if err != nil {
		return "It waits to be sent" + left + "."
	}
	p := res.GetDevice().GetPresence()
	switch {
	case !res.GetDevice().GetEnabled():
		return "It waits for the device, which is disabled ('hubctl device enable " + c.DeviceId + "')" + left + "."
	case p.GetOnline():
		return "The device is online; it waits for its turn" + left + "."
	case p.GetSince() == nil:
		return "It waits for the device, which has never connected" + left + "."
	}
	why := ""
	if p.GetReason() != "" {
		why = " (" + p.GetReason() + ")"
	}
	return "It waits for the device, which went offline " + ago(p.GetSince()) + why + left + "."
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
