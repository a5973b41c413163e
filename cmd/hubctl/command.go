package main

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// commandKey is what the API takes as an idempotency key, and so as an id.
var commandKey = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

func (a *app) commandCommand() *cobra.Command {
	cmd := group("command", "Send commands to devices and follow them",
		"  hubctl command send pump-1 set_speed --arg rpm=1200 --wait\n  hubctl command why 0198c1d2-7a3b-7c4d-8e5f-0123456789ab",
		a.commandSend(), a.commandList(), a.commandShow(), a.commandWhy(), a.commandCancel(), a.commandWatch(), a.commandGroups(),
	)
	cmd.Aliases = []string{"commands"}
	return cmd
}

var stateNames = func() []string {
	var names []string
	for n := int32(1); ; n++ {
		name, ok := operatorv1.CommandState_name[n]
		if !ok {
			return names
		}
		names = append(names, strings.TrimPrefix(name, "COMMAND_STATE_"))
	}
}()

func (a *app) commandList() *cobra.Command {
	req := &operatorv1.ListCommandsRequest{}
	var states []string
	var limit uint32
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List commands, the newest first",
		Long: `List commands, the newest first. On a narrow screen ids are cut to what tells
them apart; in a pipe, and with -o csv or json, they are whole.`,
		Example: "  hubctl command ls --device pump-1\n  hubctl command ls --state FAILED --state TIMED_OUT --limit 20\n" +
			"  hubctl command ls --selector site=north --name reboot -o csv",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range states {
				n, ok := operatorv1.CommandState_value["COMMAND_STATE_"+strings.ToUpper(s)]
				if !ok || n == 0 {
					return usagef("--state %q: it is one of %s", s, strings.Join(stateNames, ", "))
				}
				req.States = append(req.States, operatorv1.CommandState(n))
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			more := false
			got := uint32(0)
			err = printList(a, a.commandView(), paged(limit, listPage, func(token string, size uint32) ([]*operatorv1.Command, string, error) {
				req.PageToken, req.PageSize = token, size
				res, err := call(cmd.Context(), a, api.Commands.ListCommands, req)
				if err != nil {
					return nil, "", err
				}
				got += uint32(len(res.Commands))
				more = limit > 0 && got >= limit && res.NextPageToken != ""
				return res.Commands, res.NextPageToken, nil
			}))
			if err == nil && more {
				a.notef("The newest %d; --limit 0 lists all.", limit)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.DeviceId, "device", "", "only to this device")
	f.StringVarP(&req.Selector, "selector", "l", "", "only to devices whose labels match")
	f.StringArrayVar(&states, "state", nil, "only in this state; may be repeated")
	f.StringVar(&req.Name, "name", "", "only commands of this name")
	f.StringVar(&req.GroupId, "group", "", "only of this group")
	f.Uint32Var(&limit, "limit", 100, "at most so many; 0: all")
	a.complete(cmd, "state", fixed(stateNames...))
	a.complete(cmd, "device", a.completeDevices)
	return cmd
}

func (a *app) commandShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show one command and its result",
		Example:           "  hubctl command show 0198c1d2-7a3b-7c4d-8e5f-0123456789ab",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeCommandID,
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Commands.GetCommand, &operatorv1.GetCommandRequest{Id: args[0]})
			if err != nil {
				return a.perhapsGroup(cmd.Context(), api, err, args[0], "group show "+args[0])
			}
			return printOne(a, a.commandView(), res.Command)
		},
	}
}

func (a *app) commandCancel() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "Cancel a command that has not ended",
		Long: `Cancel a command that has not ended. One that the device has taken already is
asked to stop; what it has done by then stays done. So is one that the hub has
given up on without the device's word (TIMED_OUT, EXPIRED), where the device is
connected: what it then says is recorded.`,
		Example:           "  hubctl command cancel 0198c1d2-7a3b-7c4d-8e5f-0123456789ab",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeCommandID,
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Commands.CancelCommand, &operatorv1.CancelCommandRequest{Id: args[0]})
			if err != nil {
				return a.perhapsGroup(cmd.Context(), api, err, args[0], "group cancel "+args[0])
			}
			return printOne(a, a.commandView(), res.Command)
		},
	}
}
