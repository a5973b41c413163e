package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) deviceWatch() *cobra.Command {
	var selector, bound string
	var changes bool
	cmd := &cobra.Command{
		Use:   "watch [ID...]",
		Short: "Follow devices as they come and go",
		Long: `Follow devices as they come and go: first the present state of each, then every
change with its reason. When the hub goes away, hubctl connects again and
shows what has changed meanwhile. -o json writes one object a line.`,
		Example:           "  hubctl device watch\n  hubctl device watch --selector site=north --changes\n  hubctl device watch pump-1 --for 1h -o json",
		ValidArgsFunction: a.completeDevices,
		RunE: func(cmd *cobra.Command, args []string) error {
			limit, err := parseBound(bound)
			if err != nil {
				return err
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			out := newStream(a, a.presenceView(), false)
			known := map[string]*operatorv1.Presence{}
			synced := false
			req := &operatorv1.WatchPresenceRequest{Selector: selector, DeviceIds: args}
			return watchFor(cmd.Context(), limit, func(ctx context.Context) error {
				return watch(ctx, a, req, api.Devices.WatchPresence, func(res *operatorv1.WatchPresenceResponse) error {
					if res.Synced {
						synced = true
						return nil
					}
					before, seen := known[res.DeviceId]
					known[res.DeviceId] = res.Presence
					if seen && samePresence(before, res.Presence) || !seen && !synced && changes {
						return nil
					}
					return out.put(res)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&selector, "selector", "l", "", "only devices whose labels match")
	f.BoolVar(&changes, "changes", false, "leave out the present state, show changes only")
	forFlag(cmd, &bound)
	return cmd
}

// samePresence holds for what a reconnect tells again.
func samePresence(a, b *operatorv1.Presence) bool {
	return a.GetOnline() == b.GetOnline() && a.GetSessionEpoch() == b.GetSessionEpoch() && proto.Equal(a.GetSince(), b.GetSince())
}

func (a *app) presenceView() view[*operatorv1.WatchPresenceResponse] {
	type col = output.Column[*operatorv1.WatchPresenceResponse]
	state := func(w *operatorv1.WatchPresenceResponse) string {
		switch p := w.GetPresence(); {
		case p.GetOnline():
			return "online"
		case p.GetSince() == nil:
			return "never seen"
		}
		return "offline"
	}
	return view[*operatorv1.WatchPresenceResponse]{
		table: []col{
			{Name: "SINCE", Cell: func(w *operatorv1.WatchPresenceResponse) string {
				return humanTime(w.GetPresence().GetSince(), a.zone())
			}, Min: 27},
			{Name: "DEVICE", Cell: (*operatorv1.WatchPresenceResponse).GetDeviceId, Min: 16},
			{Name: "STATE", Cell: state, Min: 10},
			{Name: "DETAIL", Cell: func(w *operatorv1.WatchPresenceResponse) string {
				p := w.GetPresence()
				if !p.GetOnline() {
					return p.GetReason()
				}
				return fmt.Sprintf("%s %s", p.GetRemoteAddr(), p.GetFirmware())
			}},
		},
		csv: []col{
			{Name: "device_id", Cell: (*operatorv1.WatchPresenceResponse).GetDeviceId},
			{Name: "online", Cell: func(w *operatorv1.WatchPresenceResponse) string { return fmt.Sprint(w.GetPresence().GetOnline()) }},
			{Name: "since", Cell: func(w *operatorv1.WatchPresenceResponse) string { return machineTime(w.GetPresence().GetSince()) }},
			{Name: "reason", Cell: func(w *operatorv1.WatchPresenceResponse) string { return w.GetPresence().GetReason() }},
			{Name: "remote_addr", Cell: func(w *operatorv1.WatchPresenceResponse) string { return w.GetPresence().GetRemoteAddr() }},
			{Name: "firmware", Cell: func(w *operatorv1.WatchPresenceResponse) string { return w.GetPresence().GetFirmware() }},
			{Name: "node", Cell: func(w *operatorv1.WatchPresenceResponse) string { return w.GetPresence().GetNode() }},
		},
	}
}
