package main

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) telemetryWatch() *cobra.Command {
	var selector, measurement, bound string
	cmd := &cobra.Command{
		Use:   "watch [DEVICE...]",
		Short: "Follow rows as they become durable",
		Long: `Follow rows as they become durable, of the named devices, of those whose labels
match, or of all. Rows that come faster than they are read, and those that come
while the hub is away, are not shown; hubctl says how many where the hub knows
('telemetry query' has them all). -o json writes one row a line.`,
		Example:           "  hubctl telemetry watch pump-1\n  hubctl telemetry watch --selector site=north -o json | jq .values",
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
			out := newStream(a, a.watchView(), false)
			records := newStream(a, sampleView(), false)
			req := &operatorv1.WatchRowsRequest{Selector: selector, DeviceIds: args, Measurement: measurement}
			take := func(res *operatorv1.WatchRowsResponse) error {
				if res.MissedRows > 0 {
					a.notef("%s rows were not shown: they came faster than they were read", grouped(res.MissedRows))
				}
				for _, row := range res.Rows {
					if a.out != output.CSV {
						if err := out.put(row); err != nil {
							return err
						}
						continue
					}
					for _, sample := range samples(row) {
						if err := records.put(sample); err != nil {
							return err
						}
					}
				}
				return nil
			}
			return watchFor(cmd.Context(), limit, func(ctx context.Context) error {
				return watch(ctx, a, req, api.Telemetry.WatchRows, take)
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&selector, "selector", "l", "", "only devices whose labels match")
	f.StringVarP(&measurement, "measurement", "m", "", "only this measurement; unset: all")
	forFlag(cmd, &bound)
	return cmd
}

// samples are the row's fields one by one: a CSV file has the same columns
// for all devices.
func samples(row *operatorv1.WatchRowsResponse_Row) []*operatorv1.WatchRowsResponse_Row {
	var out []*operatorv1.WatchRowsResponse_Row
	for _, name := range slices.Sorted(maps.Keys(row.Values)) {
		out = append(out, &operatorv1.WatchRowsResponse_Row{
			DeviceId: row.DeviceId, Measurement: row.Measurement, Time: row.Time,
			Values: map[string]*operatorv1.Value{name: row.Values[name]},
		})
	}
	return out
}

func (a *app) watchView() view[*operatorv1.WatchRowsResponse_Row] {
	type row = *operatorv1.WatchRowsResponse_Row
	return view[row]{table: []output.Column[row]{
		{Name: "TIME", Cell: func(r row) string { return clock(r.Time, a.zone()) }, Min: 12},
		{Name: "DEVICE", Cell: row.GetDeviceId, Min: 16},
		{Name: "MEASUREMENT", Cell: row.GetMeasurement},
		{Name: "VALUES", Cell: func(r row) string { return readingPairs(r.Values) }},
	}}
}

// sampleView shows rows of one field.
func sampleView() view[*operatorv1.WatchRowsResponse_Row] {
	type row = *operatorv1.WatchRowsResponse_Row
	only := func(r row) (name string, v *operatorv1.Value) {
		for name, v = range r.Values {
		}
		return name, v
	}
	return view[row]{csv: []output.Column[row]{
		{Name: "time", Cell: func(r row) string { return machineTime(r.Time) }},
		{Name: "device_id", Cell: row.GetDeviceId},
		{Name: "measurement", Cell: row.GetMeasurement},
		{Name: "field", Cell: func(r row) string { name, _ := only(r); return name }},
		{Name: "value", Cell: func(r row) string { _, v := only(r); return value(v) }},
	}}
}
