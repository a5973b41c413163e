package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/plot"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) telemetryPlot() *cobra.Command {
	var q queryFlags
	var width, height int
	var ascii bool
	cmd := &cobra.Command{
		Use:   "plot DEVICE FIELD...",
		Short: "Draw fields over time in the terminal",
		Long: `Draw fields over time in the terminal, a chart for each: the mean of as many
windows as the terminal has room for, or those of --every and --agg. A break in
the line is a time without readings. Without a range it is the last hour.

` + timesText,
		Example:           "  hubctl telemetry plot pump-1 pressure flow\n  hubctl telemetry plot pump-1 temperature --last 7d --agg max --ascii",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeDeviceFields,
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.out != output.Table {
				return usagef("a plot is for people; 'hubctl telemetry query' writes the same as %s", a.out)
			}
			q.fields = args[1:]
			req, err := q.request(a, args[0], defaultRange)
			if err != nil {
				return err
			}
			screen, screenHeight := terminal.Size(a.stdout)
			if width == 0 {
				width = firstAbove(screen, 80)
			}
			if height == 0 {
				height = min(max((firstAbove(screenHeight, 24)-1)/len(q.fields), 8), 20)
			}
			if width < 20 || height < 5 || width > 1000 || height > 500 {
				return usagef("a chart is 20 to 1000 columns wide and 5 to 500 lines high")
			}
			return a.plot(cmd.Context(), &q, req, plot.Chart{Width: width, Height: height, ASCII: ascii})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&q.measurement, "measurement", "m", "", `of this measurement; unset: "telemetry", or the only one that the device has`)
	q.flags(cmd, "; unset, and no --from or --to: 1h")
	f.StringVar(&q.every, "every", "", "size of a window, from 1s; unset: as the terminal has room")
	f.StringVar(&q.agg, "agg", "", "what a window gives: "+aggregateNameList+"; unset: mean")
	f.IntVar(&width, "width", 0, "columns; 0: of the terminal, or 80")
	f.IntVar(&height, "height", 0, "lines of one chart; 0: as the terminal has room")
	f.BoolVar(&ascii, "ascii", false, "draw with plain characters in place of braille")
	a.complete(cmd, "agg", fixed("mean", "min", "max", "sum", "count", "first", "last"))
	return cmd
}

func firstAbove(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

func (a *app) plot(ctx context.Context, q *queryFlags, req *operatorv1.QueryRequest, chart plot.Chart) error {
	if req.From == nil {
		return usagef("a plot needs the begin of its range: --from or --last")
	}
	if req.To == nil {
		req.To = timestamppb.Now()
	}
	zone, err := q.zone(a)
	if err != nil {
		return err
	}
	chart.From, chart.To, chart.Zone = req.From.AsTime(), req.To.AsTime(), zone
	window := req.Window.AsDuration()
	if req.Window == nil {
		window = plotWindow(chart)
		req.Window = durationpb.New(window)
	}
	if req.Aggregate == operatorv1.Aggregate_AGGREGATE_UNSPECIFIED {
		req.Aggregate = operatorv1.Aggregate_AGGREGATE_MEAN
	}
	chart.Gap = 3 * window
	api, err := a.connect()
	if err != nil {
		return err
	}
	if err := a.checkFields(ctx, api, req); err != nil {
		return err
	}
	points := make([][]plot.Point, len(req.Fields))
	var more bool
	for row, err := range a.rows(ctx, api, req, 0, &more) {
		if err != nil {
			return err
		}
		for i, field := range req.Fields {
			v, ok := row.Values[field]
			if !ok {
				continue
			}
			y, err := plotValue(field, v)
			if err != nil {
				return err
			}
			at := row.Time.AsTime()
			if at.Before(chart.From) { // a window may begin before the range
				at = chart.From
			}
			points[i] = append(points[i], plot.Point{Time: at, Value: y})
		}
	}
	for i, field := range req.Fields {
		chart.Points = points[i]
		chart.Title = plotTitle(req, field, points[i], window)
		if _, err := fmt.Fprintln(a.stdout, strings.Join(chart.Render(), "\n")); err != nil {
			return err
		}
	}
	if q.measurement == "" && !slices.ContainsFunc(points, func(p []plot.Point) bool { return len(p) > 0 }) {
		return a.noteOthers(ctx, api, req)
	}
	return nil
}

// plotWindow is the shortest window of whole seconds that leaves at most two
// points to a column.
func plotWindow(c plot.Chart) time.Duration {
	window := c.To.Sub(c.From) / time.Duration(2*max(1, c.Width-8))
	if window < time.Second {
		return time.Second
	}
	return (window + time.Second - 1).Truncate(time.Second)
}

func plotValue(field string, v *operatorv1.Value) (float64, error) {
	switch x := v.GetValue().(type) {
	case *operatorv1.Value_DoubleValue:
		return x.DoubleValue, nil
	case *operatorv1.Value_IntValue:
		return float64(x.IntValue), nil
	case *operatorv1.Value_BoolValue:
		if x.BoolValue {
			return 1, nil
		}
		return 0, nil
	}
	return 0, fmt.Errorf("the values of %s are texts: they cannot be drawn", field)
}

func plotTitle(req *operatorv1.QueryRequest, field string, points []plot.Point, window time.Duration) string {
	title := fmt.Sprintf("%s %s", req.DeviceId, field)
	if len(points) == 0 {
		return terminal.Clean(title + ": no readings in this range")
	}
	low, high := points[0].Value, points[0].Value
	for _, p := range points {
		low, high = min(low, p.Value), max(high, p.Value)
	}
	agg := aggregateName(req.Aggregate)
	return terminal.Clean(fmt.Sprintf("%s: %s of %s, %.6g to %.6g, last %.6g", title, agg, span(window), low, high, points[len(points)-1].Value))
}
