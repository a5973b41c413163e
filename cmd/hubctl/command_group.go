package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type commandGroup = *operatorv1.Group

const groupRunning = "RUNNING"

func (a *app) commandGroups() *cobra.Command {
	return group("group", "Follow and cancel commands to many devices",
		"  hubctl command group ls\n  hubctl command send --selector site=north reboot --wait",
		a.groupList(), a.groupShow(), a.groupCancel(),
	)
}

// sendGroup sends to all that match.
func (a *app) sendGroup(cmd *cobra.Command, api *connection.Clients, s *sendFlags, spec *operatorv1.CommandSpec) error {
	ctx := cmd.Context()
	var share float64 // 0: never
	if cmd.Flags().Changed("stop-after-failures") {
		var err error
		if share, err = parseShare(s.stopAfter); err != nil {
			return usagef("--stop-after-failures: %w", err)
		}
	}
	switch {
	case math.IsNaN(s.rate), math.IsInf(s.rate, 0):
		return usagef("--rate: %g is no rate; it takes a number of devices a second, as 0.5, and 0 for no limit", s.rate)
	case s.rate < 0:
		return usagef("--rate must not be below zero")
	}
	res, err := call(ctx, a, api.Commands.SendGroupCommand, &operatorv1.SendGroupCommandRequest{
		Selector: s.selector, Spec: spec, Key: s.key,
		RatePerSecond: s.rate, StopAfterFailureShare: share, MaxDevices: s.maxDevices,
	})
	if err != nil {
		return a.notSent(cmd, a.uncertain(err, s.key, "command why"), s.key)
	}
	if res.Group == nil {
		return errHollow
	}
	if res.Existed {
		a.notef("The key %s was known: this is that group, nothing new was sent.", s.key)
	} else if s.rate == 0 && res.Group.RatePerSecond > 0 {
		a.notef("Without --rate it issues %g a second, so that --stop-after-failures can stop it.", res.Group.RatePerSecond)
	}
	if !s.wait {
		if a.out != output.Table {
			return printOne(a, a.groupView(), res.Group)
		}
		_, err := fmt.Fprintf(a.stdout, "group %s: %q to %d devices\n", cleanName(res.GetGroup().GetId()), spec.Name, res.GetGroup().GetTotal())
		return err
	}
	g, err := a.awaitGroup(ctx, api, res.Group)
	if err != nil {
		return err
	}
	if err := printOne(a, a.groupView(), g); err != nil {
		return err
	}
	if g.State != "DONE" || g.ByState["SUCCEEDED"] != g.Total {
		return exitStatus{code: exitPartial}
	}
	return nil
}

// awaitGroup asks until the group has ended, ever less often.
func (a *app) awaitGroup(ctx context.Context, api *connection.Clients, g commandGroup) (commandGroup, error) {
	line := newProgress(a.stderr, "", 0)
	defer line.finish()
	pause, failing := 50*time.Millisecond, false
	for {
		line.show(joined("  ", g.State, fmt.Sprintf("%d of %d issued, %d ended", g.Issued, g.Total, groupEnded(g)), groupStates(g), groupStops(g)))
		if g.State != groupRunning {
			return g, nil
		}
		err := sleep(ctx, pause)
		var res *operatorv1.GetGroupResponse
		if err == nil {
			res, err = call(ctx, a, api.Commands.GetGroup, &operatorv1.GetGroupRequest{Id: g.Id})
		}
		switch {
		case err == nil && res.Group == nil:
			return g, errHollow
		case err == nil:
			g, failing = res.Group, false
			pause = min(pause*3/2, time.Second)
		case ctx.Err() != nil:
			line.finish()
			a.notef("The hub has accepted the group, and it goes on: 'hubctl command group show %s' tells its state, 'hubctl command group cancel %s' stops it.", g.Id, g.Id)
			return g, err
		case !worthRetrying(err):
			a.notef("The hub has accepted the group, and it goes on: 'hubctl command group show %s' tells its state, 'hubctl command group cancel %s' stops it.", g.Id, g.Id)
			return g, err
		default:
			if !failing {
				text, _ := a.explain(err)
				a.notef("lost the hub (%s); trying again", text)
			}
			failing, pause = true, min(2*pause, watchBackoffMax)
		}
	}
}

func groupEnded(g commandGroup) (n uint32) {
	for state, count := range g.ByState {
		if s := operatorv1.CommandState(operatorv1.CommandState_value["COMMAND_STATE_"+state]); hasEnded(s) {
			n += count
		}
	}
	return n
}

// groupStates counts the states in their order: "3 QUEUED, 40 SUCCEEDED".
func groupStates(g commandGroup) string {
	var parts []string
	for _, name := range stateNames {
		if n := g.ByState[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
	}
	if g.Refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused", g.Refused))
	}
	return strings.Join(parts, ", ")
}

// stopFloor is what the hub counts a share of failures of, at least.
const stopFloor = 10

// groupStops says when failures stop a group: "stops at 3 failed of 10".
func groupStops(g commandGroup) string {
	share := g.GetStopAfterFailureShare()
	if share <= 0 || g.GetState() != groupRunning {
		return ""
	}
	of := max(groupEnded(g), min(stopFloor, g.GetTotal()))
	return fmt.Sprintf("stops at %d failed of %d", max(1, int(math.Ceil(share*float64(of)-1e-9))), of)
}

// groupRefusals names the devices that got no command, one a line.
func groupRefusals(g commandGroup) []string {
	var lines []string
	for _, r := range g.GetRefusals() {
		lines = append(lines, r.GetDeviceId()+" "+r.GetReason())
	}
	if more := int(g.GetRefused()) - len(lines); more > 0 && len(lines) > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return lines
}

func (a *app) groupView() view[commandGroup] {
	type col = output.Column[commandGroup]
	name := func(g commandGroup) string { return g.GetSpec().GetName() }
	csv := []col{
		{Name: "id", Cell: commandGroup.GetId},
		{Name: "selector", Cell: commandGroup.GetSelector},
		{Name: "name", Cell: name},
		{Name: "state", Cell: commandGroup.GetState},
		{Name: "reason", Cell: commandGroup.GetReason},
		{Name: "total", Cell: func(g commandGroup) string { return number(g.Total) }},
		{Name: "issued", Cell: func(g commandGroup) string { return number(g.Issued) }},
		{Name: "refused", Cell: func(g commandGroup) string { return number(g.Refused) }},
	}
	for _, state := range stateNames {
		csv = append(csv, col{Name: strings.ToLower(state), Cell: func(g commandGroup) string { return number(g.ByState[state]) }})
	}
	csv = append(csv,
		col{Name: "operator", Cell: commandGroup.GetOperator},
		col{Name: "created", Cell: func(g commandGroup) string { return machineTime(g.Created) }},
		col{Name: "ended", Cell: func(g commandGroup) string { return machineTime(g.Ended) }},
		col{Name: "refusals", Cell: func(g commandGroup) string { return strings.Join(groupRefusals(g), "; ") }},
	)
	return view[commandGroup]{
		table: []col{
			{Name: "ID", Cell: commandGroup.GetId, Whole: true},
			{Name: "SELECTOR", Cell: commandGroup.GetSelector},
			{Name: "NAME", Cell: name},
			{Name: "STATE", Cell: commandGroup.GetState},
			{Name: "AGE", Cell: func(g commandGroup) string { return ago(g.Created) }},
			{Name: "DEVICES", Cell: func(g commandGroup) string { return number(g.Total) }, Right: true},
			{Name: "COMMANDS", Cell: groupStates},
		},
		csv: csv,
		details: func(g commandGroup) []output.Detail {
			rate := "no limit"
			if g.RatePerSecond > 0 {
				rate = fmt.Sprintf("%g devices a second", g.RatePerSecond)
			}
			stop := ""
			if g.StopAfterFailureShare > 0 {
				stop = fmt.Sprintf("when %g%% of the ended ones failed, counted of at least %d", g.StopAfterFailureShare*100, min(stopFloor, g.Total))
			}
			details := []output.Detail{
				{Name: "Group", Value: g.Id},
				{Name: "Selector", Value: g.Selector},
				{Name: "Command", Value: name(g)},
				{Name: "Payload", Value: specPayload(g.Spec)},
				{Name: "State", Value: g.State},
				{Name: "Reason", Value: g.Reason},
				{Name: "Devices", Value: fmt.Sprintf("%d, %d issued", g.Total, g.Issued)},
				{Name: "Commands", Value: groupStates(g)},
				{Name: "Rate", Value: rate},
				{Name: "Stops", Value: stop},
				{Name: "Sent by", Value: g.Operator},
				{Name: "Created", Value: humanTime(g.Created, a.zone())},
				{Name: "Ended", Value: humanTime(g.Ended, a.zone())},
			}
			for _, line := range groupRefusals(g) {
				details = append(details, output.Detail{Name: "Refused", Value: line})
			}
			return details
		},
		none: "No groups.",
	}
}
