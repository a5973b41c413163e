package main

import (
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) telemetryCommand() *cobra.Command {
	return group("telemetry", "Read what devices have measured",
		"  hubctl telemetry latest pump-1\n  hubctl telemetry plot pump-1 pressure --last 6h",
		a.telemetryLatest(), a.telemetryQuery(), a.telemetryWatch(), a.telemetryPlot(), a.telemetryFields(), a.telemetryCount(),
	)
}

func (a *app) telemetryFields() *cobra.Command {
	return &cobra.Command{
		Use:               "fields DEVICE",
		Short:             "List the fields of a device with their types",
		Example:           "  hubctl telemetry fields pump-1",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Telemetry.ListFields, &operatorv1.ListFieldsRequest{DeviceId: args[0]})
			if err != nil {
				return err
			}
			return printList(a, fieldView(), each(res.Fields))
		},
	}
}

func (a *app) telemetryCount() *cobra.Command {
	var measurement string
	var r timeRange
	cmd := &cobra.Command{
		Use:               "count DEVICE",
		Short:             "Count the rows of a device in a range",
		Long:              "Count the rows of a device in a range; without one, all of them. A table has a\nline for each measurement when there are several; JSON and CSV have the sum.\n\n" + timesText,
		Example:           "  hubctl telemetry count pump-1\n  hubctl telemetry count pump-1 --from 2026-03-01 --to 2026-04-01 --tz Europe/Berlin",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to, err := r.parse(a, 0)
			if err != nil {
				return err
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			req := &operatorv1.CountRequest{DeviceId: args[0], Measurement: measurement, From: from, To: to}
			var res *operatorv1.CountResponse
			var by map[string]uint64
			if measurement == "" {
				res, by, err = a.countAll(cmd.Context(), api, req)
			} else {
				res, err = a.countOne(cmd.Context(), api, req)
			}
			if err != nil {
				return err
			}
			return printOne(a, countView(by), res)
		},
	}
	cmd.Flags().StringVarP(&measurement, "measurement", "m", "", "only of this measurement; unset: of all")
	r.flags(cmd, "")
	return cmd
}

const timesText = `A time is RFC 3339 (2026-03-01T12:00:00Z), a date or a date with a time of day
(2026-03-01, "2026-03-01 12:00") in the zone of --tz or else your own, now, or
a distance before now (-1h, -7d).`

// timeRange is --from, --to, --last and --tz.
type timeRange struct{ from, to, last, tz string }

func (r *timeRange) flags(cmd *cobra.Command, last string) {
	f := cmd.Flags()
	f.StringVar(&r.from, "from", "", "begin of the range, inclusive")
	f.StringVar(&r.to, "to", "", "end of the range, exclusive")
	f.StringVar(&r.last, "last", "", "the range up to now, as 1h or 7d"+last)
	f.StringVar(&r.tz, "tz", "", "time zone, as Europe/Berlin")
}

func (r *timeRange) zone(a *app) (*time.Location, error) {
	if r.tz == "" {
		return a.zone(), nil
	}
	zone, err := time.LoadLocation(r.tz)
	if err != nil {
		return nil, usagef("time zone %q is not known; it looks like Europe/Berlin", r.tz)
	}
	return zone, nil
}

// parse gives the range; without any flag it is the time of since before
// now, or with 0 open on both sides.
func (r *timeRange) parse(a *app, since time.Duration) (from, to *timestamppb.Timestamp, err error) {
	zone, err := r.zone(a)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	if r.last != "" {
		if r.from != "" || r.to != "" {
			return nil, nil, usagef("--last excludes --from and --to")
		}
		if since, err = parseSpan(r.last); err != nil {
			return nil, nil, err
		}
		if since == 0 {
			return nil, nil, usagef("--last must be above zero")
		}
	}
	if r.from == "" && r.to == "" && since > 0 {
		return timestamppb.New(now.Add(-since)), nil, nil
	}
	if from, err = optionalTime(r.from, now, zone); err != nil {
		return nil, nil, err
	}
	if to, err = optionalTime(r.to, now, zone); err != nil {
		return nil, nil, err
	}
	if from != nil && to != nil && !from.AsTime().Before(to.AsTime()) {
		return nil, nil, usagef("--from must be before --to")
	}
	return from, to, nil
}
