package main

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

const (
	queryPage         = 5000
	defaultRange      = time.Hour
	defaultLimit      = 1000
	defaultMeasure    = "telemetry"
	aggregateNameList = "mean, min, max, sum, count, first or last"
)

type queryFlags struct {
	timeRange
	measurement string
	fields      []string
	every, agg  string
	limit       uint32
}

func (a *app) telemetryQuery() *cobra.Command {
	var q queryFlags
	cmd := &cobra.Command{
		Use:   "query DEVICE",
		Short: "Read rows, or windows of them",
		Long: `Read rows of a device, oldest first: raw, or with --every and --agg one row for
each window of time. Without a range it is the last hour.

` + timesText + `

With --every of whole minutes, hours or days the windows begin at the local
midnight of --tz, or else of UTC. --agg without --every makes one row of the
whole range.`,
		Example: `  hubctl telemetry query pump-1 --last 10m
  hubctl telemetry query pump-1 --field pressure --field flow --from -1d --every 5m --agg max
  hubctl telemetry query meter --from 2026-03-01 --to 2026-04-01 --every 1d --agg sum --tz Europe/Berlin -o csv --limit 0`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := q.request(a, args[0], defaultRange)
			if err != nil {
				return err
			}
			return a.query(cmd.Context(), &q, req)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&q.measurement, "measurement", "m", "", `of this measurement; unset: "telemetry", or the only one that the device has`)
	f.StringArrayVarP(&q.fields, "field", "f", nil, "only this field; may be repeated; unset: all")
	q.flags(cmd, "; unset, and no --from or --to: 1h")
	f.StringVar(&q.every, "every", "", "size of a window, from 1s, as 5m or 1d")
	f.StringVar(&q.agg, "agg", "", "what a window gives: "+aggregateNameList+"; with --every alone: mean")
	f.Uint32Var(&q.limit, "limit", defaultLimit, "at most so many rows; 0: all")
	a.complete(cmd, "agg", fixed("mean", "min", "max", "sum", "count", "first", "last"))
	return cmd
}

func (q *queryFlags) request(a *app, device string, since time.Duration) (*operatorv1.QueryRequest, error) {
	from, to, err := q.parse(a, since)
	if err != nil {
		return nil, err
	}
	req := &operatorv1.QueryRequest{DeviceId: device, Measurement: q.measurement, Fields: q.fields, From: from, To: to, TimeZone: q.tz}
	if q.every != "" {
		every, err := parseSpan(q.every)
		if err != nil {
			return nil, err
		}
		if every < time.Second {
			return nil, usagef("--every must be at least 1s")
		}
		req.Window = durationpb.New(every)
		req.Aggregate = operatorv1.Aggregate_AGGREGATE_MEAN
	}
	if q.agg != "" {
		n, ok := operatorv1.Aggregate_value["AGGREGATE_"+strings.ToUpper(q.agg)]
		if !ok || n == 0 {
			return nil, usagef("--agg %q: it is %s", q.agg, aggregateNameList)
		}
		req.Aggregate = operatorv1.Aggregate(n)
	}
	return req, nil
}

func (a *app) query(ctx context.Context, q *queryFlags, req *operatorv1.QueryRequest) error {
	api, err := a.connect()
	if err != nil {
		return err
	}
	zone, err := q.zone(a)
	if err != nil {
		return err
	}
	if err := a.checkFields(ctx, api, req); err != nil {
		return err
	}
	more := false
	var found bool
	rows := noting(&found, a.rows(ctx, api, req, q.limit, &more))
	switch a.out {
	case output.CSV:
		err = a.queryCSV(ctx, api, req, rows)
	case output.JSON:
		err = printList(a, view[*operatorv1.QueryResponse_Row]{}, rows)
	default:
		err = a.queryTable(req, rows, zone)
	}
	if err == nil && more {
		a.notef("Stopped at %s rows, newer ones follow: --limit 0 reads all.", grouped(uint64(q.limit)))
	}
	if err == nil && !found && q.measurement == "" {
		err = a.noteOthers(ctx, api, req)
	}
	return err
}

// noting sets found when there is an item.
func noting[T any](found *bool, items iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for item, err := range items {
			*found = *found || err == nil
			if !yield(item, err) {
				return
			}
		}
	}
}

// rows follows the pages up to limit (0: all); more says that there are rows
// beyond it.
func (a *app) rows(ctx context.Context, api *connection.Clients, req *operatorv1.QueryRequest, limit uint32, more *bool) iter.Seq2[*operatorv1.QueryResponse_Row, error] {
	got := uint32(0)
	return paged(limit, queryPage, func(token string, size uint32) ([]*operatorv1.QueryResponse_Row, string, error) {
		req.PageToken, req.PageSize = token, size
		res, err := call(ctx, a, api.Telemetry.Query, req)
		if err != nil {
			return nil, "", err
		}
		got += uint32(len(res.Rows))
		*more = limit > 0 && (got > limit || got == limit && res.NextPageToken != "")
		return res.Rows, res.NextPageToken, nil
	})
}

func (a *app) queryTable(req *operatorv1.QueryRequest, rows iter.Seq2[*operatorv1.QueryResponse_Row, error], zone *time.Location) error {
	var all []*operatorv1.QueryResponse_Row
	seen := map[string]bool{}
	for row, err := range rows {
		if err != nil {
			return err
		}
		all = append(all, row)
		for name := range row.Values {
			seen[name] = true
		}
	}
	fields := req.Fields
	if len(fields) == 0 {
		fields = slices.Sorted(maps.Keys(seen))
	}
	when := func(r *operatorv1.QueryResponse_Row) string { return humanTime(r.Time, zone) }
	return printTable(a, view[*operatorv1.QueryResponse_Row]{
		table: rowColumns("TIME", when, fields, reading),
		none:  "No rows in this range.",
	}, all)
}

// queryCSV has to know its columns before the first row.
func (a *app) queryCSV(ctx context.Context, api *connection.Clients, req *operatorv1.QueryRequest, rows iter.Seq2[*operatorv1.QueryResponse_Row, error]) error {
	fields := req.Fields
	if len(fields) == 0 {
		all, err := a.fields(ctx, api, req.DeviceId)
		if err != nil {
			return err
		}
		for _, f := range all {
			if f.Measurement == firstOf(req.Measurement, defaultMeasure) {
				fields = append(fields, f.Name)
			}
		}
		slices.Sort(fields)
		fields = slices.Compact(fields)
	}
	known := map[string]bool{}
	for _, f := range fields {
		known[f] = true
	}
	when := func(r *operatorv1.QueryResponse_Row) string { return machineTime(r.Time) }
	out := newStream(a, view[*operatorv1.QueryResponse_Row]{csv: rowColumns("time", when, fields, value)}, false)
	for row, err := range rows {
		if err != nil {
			return err
		}
		for name := range row.Values {
			if !known[name] {
				return fmt.Errorf("the field %s appeared while reading and has no column; run the query again, or name the fields with --field", name)
			}
		}
		if err := out.put(row); err != nil {
			return err
		}
	}
	return out.close()
}
