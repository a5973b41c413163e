package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) commandWatch() *cobra.Command {
	req := &operatorv1.WatchCommandsRequest{}
	var bound string
	cmd := &cobra.Command{
		Use:   "watch [ID]",
		Short: "Follow commands as their states change",
		Long: `Follow commands as their states change: one to its end, or all that match until
Ctrl-C. -o json writes one object a line.`,
		Example:           "  hubctl command watch --device pump-1\n  hubctl command watch --group nightly-reboot -o json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeCommandID,
		RunE: func(cmd *cobra.Command, args []string) error {
			limit, err := parseBound(bound)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				req.Id = args[0]
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			out := newStream(a, a.commandWatchView(), false)
			var last command // of the one command: a new connection begins with it as it stands
			err = watchFor(cmd.Context(), limit, func(ctx context.Context) error {
				return watch(ctx, a, req, api.Commands.WatchCommands, func(res *operatorv1.WatchCommandsResponse) error {
					if res.Command == nil || req.Id != "" && proto.Equal(res.Command, last) {
						return nil
					}
					last = res.Command
					if err := out.put(res.Command); err != nil {
						return err
					}
					if req.Id != "" && hasEnded(res.Command.State) {
						return errDone
					}
					return nil
				})
			})
			if req.Id != "" {
				return a.perhapsGroup(cmd.Context(), api, err, req.Id, "watch --group "+req.Id)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.DeviceId, "device", "", "only to this device")
	f.StringVarP(&req.Selector, "selector", "l", "", "only to devices whose labels match")
	f.StringVar(&req.GroupId, "group", "", "only of this group")
	forFlag(cmd, &bound)
	a.complete(cmd, "device", a.completeDevices)
	return cmd
}

func (a *app) commandWatchView() view[command] {
	type col = output.Column[command]
	return view[command]{
		table: []col{
			{Name: "TIME", Cell: func(c command) string { return clock(c.Updated, a.zone()) }, Min: 12},
			{Name: "ID", Cell: command.GetId, Min: 36},
			{Name: "DEVICE", Cell: command.GetDeviceId, Min: 16},
			{Name: "NAME", Cell: func(c command) string { return c.GetSpec().GetName() }, Min: 12},
			{Name: "STATE", Cell: commandState, Min: 12},
			{Name: "REASON", Cell: func(c command) string { return firstOf(c.Message, c.Reason) }},
		},
		csv: a.commandView().csv,
	}
}
