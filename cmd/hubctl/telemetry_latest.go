package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type latestItem = *operatorv1.LatestResponse_Item

func (a *app) telemetryLatest() *cobra.Command {
	var measurement string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "latest DEVICE [FIELD...]",
		Short: "Show the newest value of each field",
		Long: `Show the newest value of each field, or of those that are named.

With --wait a device that is not there yet, or has not told all the fields that
are named (without names: any), is waited for: for scripts that have just
started it.`,
		Example:           "  hubctl telemetry latest pump-1\n  hubctl telemetry latest pump-1 -o json\n  hubctl telemetry latest new-plug ENERGY_Power --wait 30s",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeDeviceFields,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &operatorv1.LatestRequest{DeviceId: args[0], Measurement: measurement}
			var items []latestItem
			err := a.until(cmd.Context(), wait, func(api *connection.Clients) (err error) {
				items, err = a.latest(cmd.Context(), api, req, args[1:], wait > 0)
				return err
			})
			if err != nil {
				return err
			}
			return printList(a, a.latestView(), each(items))
		},
	}
	cmd.Flags().StringVarP(&measurement, "measurement", "m", "", "only of this measurement; unset: of all")
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait up to so long, as 30s, until the device has readings of the fields")
	return cmd
}

// latest are the newest values of the fields; none: of all, of which there
// must be some where some says so.
func (a *app) latest(ctx context.Context, api *connection.Clients, req *operatorv1.LatestRequest, fields []string, some bool) ([]latestItem, error) {
	res, err := call(ctx, a, api.Telemetry.Latest, req)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		if some && len(res.Items) == 0 {
			return nil, notYet{exitStatus{code: exitNotFound, err: fmt.Errorf("%s has no readings yet", req.DeviceId)}}
		}
		return res.Items, nil
	}
	for _, name := range fields {
		if !slices.ContainsFunc(res.Items, func(i latestItem) bool { return i.Field == name }) {
			return nil, notYet{exitStatus{code: exitNotFound, err: fmt.Errorf("%s has no field %s; 'hubctl telemetry fields %s' lists them", req.DeviceId, name, req.DeviceId)}}
		}
	}
	return slices.DeleteFunc(res.Items, func(i latestItem) bool { return !slices.Contains(fields, i.Field) }), nil
}
