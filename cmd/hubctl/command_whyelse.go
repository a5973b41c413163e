package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// whyNoCommand tells the story of what is no command: a group, or what the
// hub has refused under that key. err says that there is no such command.
func (a *app) whyNoCommand(ctx context.Context, api *connection.Clients, err error, id string) error {
	group, groupErr := call(ctx, a, api.Commands.GetGroup, &operatorv1.GetGroupRequest{Id: id})
	if groupErr == nil {
		return a.whyGroup(ctx, api, group)
	}
	refused, refusedErr := a.refused(ctx, api, id)
	switch {
	case refusedErr != nil:
		return err
	case len(refused.GetRefused()) > 0:
		return a.whyRefused(refused, id)
	}
	looked := "its audit log has no refused one with that key either"
	if refused.GetSearchedSince() != nil {
		looked = fmt.Sprintf("its audit log back to %s has no refused one with that key either", humanTime(refused.SearchedSince, a.zone()))
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return err
	}
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("%s; %s", ce.Message(), looked))
}

// refused is what the hub has refused under a key.
func (a *app) refused(ctx context.Context, api *connection.Clients, key string) (*operatorv1.ListRefusedCommandsResponse, error) {
	return call(ctx, a, api.Commands.ListRefusedCommands, &operatorv1.ListRefusedCommandsRequest{Key: key})
}

func (a *app) whyRefused(res *operatorv1.ListRefusedCommandsResponse, key string) error {
	switch a.out {
	case output.JSON:
		return output.WriteObject(a.stdout, res)
	case output.CSV:
		return printList(a, refusedView(), each(res.Refused))
	}
	text := fmt.Sprintf("%s: REFUSED by the hub; nothing was sent to a device.\n\n%s", terminal.Clean(key), a.refusedStory(res))
	_, err := io.WriteString(a.stdout, text+"\nWhen that is mended, it may be sent again, with the same key or another.\n")
	return err
}

// refusedStory tells of refused commands, the newest first, every line
// harmless for a screen.
func (a *app) refusedStory(res *operatorv1.ListRefusedCommandsResponse) string {
	var b strings.Builder
	for _, r := range res.GetRefused() {
		to := r.GetDeviceId()
		if to == "" {
			to = "all that match " + r.GetSelector()
		}
		line := fmt.Sprintf("%s (%s): %s sent %q to %s: %s (%s)", humanTime(r.GetTime(), a.zone()), ago(r.GetTime()),
			orNone(r.GetOperator()), r.GetName(), orNone(to), firstOf(r.GetReason(), "refused"), r.GetCode())
		b.WriteString(terminal.Clean(line) + "\n")
	}
	return b.String()
}

func refusedView() view[*operatorv1.RefusedCommand] {
	type refused = *operatorv1.RefusedCommand
	return view[refused]{csv: []output.Column[refused]{
		{Name: "time", Cell: func(r refused) string { return machineTime(r.Time) }},
		{Name: "operator", Cell: refused.GetOperator},
		{Name: "device_id", Cell: refused.GetDeviceId},
		{Name: "selector", Cell: refused.GetSelector},
		{Name: "name", Cell: refused.GetName},
		{Name: "code", Cell: refused.GetCode},
		{Name: "reason", Cell: refused.GetReason},
	}}
}

// groupFailures is the most failed commands that a group's story names.
const groupFailures = 20

func (a *app) whyGroup(ctx context.Context, api *connection.Clients, res *operatorv1.GetGroupResponse) error {
	g := res.GetGroup()
	if g == nil {
		return errHollow
	}
	switch a.out {
	case output.JSON:
		return output.WriteObject(a.stdout, res)
	case output.CSV:
		return printOne(a, a.groupView(), g)
	}
	failed, err := call(ctx, a, api.Commands.ListCommands, &operatorv1.ListCommandsRequest{
		GroupId: g.Id, PageSize: groupFailures, States: []operatorv1.CommandState{
			operatorv1.CommandState_COMMAND_STATE_FAILED, operatorv1.CommandState_COMMAND_STATE_REJECTED,
			operatorv1.CommandState_COMMAND_STATE_TIMED_OUT, operatorv1.CommandState_COMMAND_STATE_EXPIRED,
		},
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(a.stdout, a.groupStory(g, failed))
	return err
}

// groupStory is the whole of it, every line harmless for a screen.
func (a *app) groupStory(g commandGroup, failed *operatorv1.ListCommandsResponse) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(terminal.Clean(fmt.Sprintf(format, args...)))
		b.WriteByte('\n')
	}
	took := ""
	if g.GetEnded() != nil && g.GetCreated() != nil {
		took = " after " + span(g.Ended.AsTime().Sub(g.Created.AsTime()))
	}
	line("%q to the %d devices that match %s: %s%s", g.GetSpec().GetName(), g.GetTotal(), g.GetSelector(), g.GetState(), took)
	by := ""
	if g.GetOperator() != "" {
		by = " by " + g.Operator
	}
	line("Sent%s on %s (%s).", by, humanTime(g.GetCreated(), a.zone()), ago(g.GetCreated()))
	if p := specPayload(g.GetSpec()); p != "" {
		line("Payload: %s", p)
	}
	line("")
	line("%s", joined(": ", fmt.Sprintf("%d of %d issued", g.GetIssued(), g.GetTotal()), groupStates(g)))
	if g.GetState() != groupRunning && g.GetReason() != "" {
		line("%s", g.GetReason())
	}
	if refusals := groupRefusals(g); len(refusals) > 0 {
		line("")
		line("No command was issued to these; send to each of them when that is mended:")
		for _, r := range refusals {
			line("  %s", r)
		}
	}
	if len(failed.GetCommands()) > 0 {
		line("")
		line("These did not do it ('hubctl command why ID' tells more):")
		for _, c := range failed.GetCommands() {
			line("  %s  %s  %s  %s", c.GetDeviceId(), stateName(c.GetState()), c.GetId(), joined("; ", c.GetReason(), c.GetMessage()))
		}
		if failed.GetNextPageToken() != "" {
			line("  and more: 'hubctl command ls --group %s --state FAILED' and so on", g.GetId())
		}
	}
	return b.String()
}
