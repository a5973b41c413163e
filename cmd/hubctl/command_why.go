package main

import (
	"io"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
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
