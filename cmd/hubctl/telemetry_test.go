package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// queryPeer serves n rows, a second apart, in pages.
func queryPeer(t *testing.T, n int, seen func(*operatorv1.QueryRequest)) *peer {
	p := newPeer(t)
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	answer(p, rpc.TelemetryServiceQueryProcedure, func(r *operatorv1.QueryRequest) (*operatorv1.QueryResponse, error) {
		seen(r)
		i := 0
		if r.PageToken != "" {
			fmt.Sscan(r.PageToken, &i)
		}
		res := &operatorv1.QueryResponse{}
		for end := min(n, i+int(r.PageSize)); i < end; i++ {
			row := &operatorv1.QueryResponse_Row{Time: timestamppb.New(begin.Add(time.Duration(i) * time.Second)), Values: map[string]*operatorv1.Value{"flow": double(float64(i) / 4)}}
			if i%2 == 1 {
				row.Values["state"] = &operatorv1.Value{Value: &operatorv1.Value_StringValue{StringValue: "a,\"b\""}}
			}
			res.Rows = append(res.Rows, row)
		}
		if i < n {
			res.NextPageToken = fmt.Sprint(i)
		}
		return res, nil
	})
	always(p, rpc.TelemetryServiceListFieldsProcedure, &operatorv1.ListFieldsRequest{}, &operatorv1.ListFieldsResponse{Fields: []*operatorv1.ListFieldsResponse_Field{
		{Measurement: "telemetry", Name: "state", Kind: operatorv1.FieldKind_FIELD_KIND_STRING}, {Measurement: "telemetry", Name: "flow"},
		{Measurement: "telemetry", Name: "idle"}, {Measurement: "telemetry", Name: "open", Kind: operatorv1.FieldKind_FIELD_KIND_BOOL}, {Measurement: "other", Name: "x"}}})
	return p
}

func TestQueryFollowsPagesUpToTheLimit(t *testing.T) {
	p := queryPeer(t, 12000, func(*operatorv1.QueryRequest) {})
	all := p.hubctl("telemetry", "query", "d", "--limit", "0", "-o", "csv").want(t, exitOK)
	if lines := strings.Split(strings.TrimSpace(all.out), "\n"); len(lines) != 12001 || lines[0] != "time,flow,idle,open,state" || lines[2] != `2026-03-01T12:00:01Z,0.25,,,"a,""b"""` {
		t.Errorf("%d lines: %q", len(lines), lines[:3])
	}
	some := p.hubctl("telemetry", "query", "d", "--limit", "7000", "-o", "json").want(t, exitOK)
	if n := strings.Count(some.out, `"time"`); n != 7000 || !strings.Contains(some.stderr, "Stopped at 7,000 rows") {
		t.Errorf("%d rows, %s", n, some.stderr)
	}
	exact := p.hubctl("telemetry", "query", "d", "--limit", "12000").want(t, exitOK)
	if exact.stderr != "" || strings.Count(exact.out, "\n") != 12001 {
		t.Errorf("%d lines, %s", strings.Count(exact.out, "\n"), exact.stderr)
	}
}

func TestQueryRequestFromFlags(t *testing.T) {
	var got *operatorv1.QueryRequest
	p := queryPeer(t, 0, func(r *operatorv1.QueryRequest) { got = r })
	p.hubctl(strings.Fields("telemetry query d -f flow -f idle --from 2026-03-29 --to 2026-03-30 --every 1d --agg max --tz Europe/Berlin")...).want(t, exitOK)
	if got.From.AsTime().Format(time.RFC3339) != "2026-03-28T23:00:00Z" || got.To.AsTime().Format(time.RFC3339) != "2026-03-29T22:00:00Z" ||
		got.Window.AsDuration() != 24*time.Hour || got.Aggregate != operatorv1.Aggregate_AGGREGATE_MAX || got.TimeZone != "Europe/Berlin" || len(got.Fields) != 2 {
		t.Errorf("asked %v", got)
	}
	p.hubctl(strings.Fields("telemetry query d --last 2h --every 5m")...).want(t, exitOK)
	if age := time.Since(got.From.AsTime()); age < 2*time.Hour || age > 2*time.Hour+time.Minute || got.To != nil || got.Aggregate != operatorv1.Aggregate_AGGREGATE_MEAN {
		t.Errorf("asked %v", got)
	}
	for _, bad := range []string{"--last 1h --from now", "--from yesterday", "--agg median", "--every 1ms", "--tz Mars/Base", "--from now --to -1h", "--last 0s"} {
		p.hubctl(append([]string{"telemetry", "query", "d"}, strings.Fields(bad)...)...).want(t, exitUsage)
	}
}

func TestParseTimesAndSpans(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"now": "2026-03-01T12:00:00Z", "-1h": "2026-03-01T11:00:00Z", "-1w1d12h": "2026-02-21T00:00:00Z", "2026-02-03": "2026-02-02T23:00:00Z",
		"2026-02-03 04:05": "2026-02-03T03:05:00Z", "2026-02-03T04:05:06.5": "2026-02-03T03:05:06.5Z", "2026-02-03T04:05:06-01:00": "2026-02-03T05:05:06Z",
	} {
		if got, err := parseTime(in, now, berlin); err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %v, %v, want %s", in, got.UTC(), err, want)
		}
	}
	for _, bad := range []string{"", "d", "1", "-5m", "1h-5m", "NaNd", "99999999w", "1d1w", "1d-1h"} {
		if got, err := parseSpan(bad); err == nil {
			t.Errorf("span %q: %v, want an error", bad, got)
		}
	}
}

func TestPlotDrawsEachField(t *testing.T) {
	var got *operatorv1.QueryRequest
	p := queryPeer(t, 600, func(r *operatorv1.QueryRequest) { got = r })
	out := p.hubctl(strings.Fields("telemetry plot d flow idle --from 2026-03-01T12:00:00Z --to 2026-03-01T12:10:00Z --width 60 --height 10")...).want(t, exitOK).out
	wantContains(t, out, "d flow: mean of 6 s, 0 to 149.75, last 149.75", "200┤", "12:00:00", "12:05:00", "12:10:00", "d idle: no readings")
	if got.Window.AsDuration() != 6*time.Second {
		t.Errorf("window %v", got.Window.AsDuration())
	}
	wantContains(t, p.hubctl("telemetry", "plot", "d", "state").want(t, exitError).stderr, "texts")
	p.hubctl("telemetry", "plot", "d", "flow", "-o", "csv").want(t, exitUsage)
}

// What cannot be found or computed is named, and not an empty answer.
func TestQuerySaysWhyThereIsNothing(t *testing.T) {
	p := queryPeer(t, 0, func(*operatorv1.QueryRequest) {})
	for line, want := range map[string]string{
		"query d -f state --agg mean": "the values of state are texts",
		"query d -f open --agg sum":   "the values of open are true or false",
		"plot d open":                 "the values of open are true or false",
	} {
		wantContains(t, p.hubctl(strings.Fields("telemetry "+line)...).want(t, exitError).stderr, want)
	}
	for _, line := range []string{"query d -f nope", "query d -f x -o json", "plot d flow nope"} {
		got := p.hubctl(strings.Fields("telemetry "+line)...).want(t, exitNotFound)
		wantContains(t, got.stderr, "has no field", "hubctl telemetry fields d")
		wantText(t, got.out, "")
	}
	p.hubctl(strings.Fields("telemetry query d -f state --agg count")...).want(t, exitOK)
	p.hubctl(strings.Fields("telemetry query d -f x -m other")...).want(t, exitOK)

	none := newPeer(t)
	answer(none, rpc.TelemetryServiceListFieldsProcedure, func(r *operatorv1.ListFieldsRequest) (*operatorv1.ListFieldsResponse, error) {
		return nil, notFound(r.DeviceId)
	})
	always(none, rpc.TelemetryServiceQueryProcedure, &operatorv1.QueryRequest{}, &operatorv1.QueryResponse{})
	always(none, rpc.TelemetryServiceCountProcedure, &operatorv1.CountRequest{}, &operatorv1.CountResponse{})
	for _, line := range []string{"query x", "query x -o json", "plot x f", "count x", "count x -m telemetry"} {
		wantContains(t, none.hubctl(strings.Fields("telemetry "+line)...).want(t, exitNotFound).stderr, "hubctl device ls")
	}
}

// A 32-bit reading has no noise for people, and every digit for programs.
func TestTablesShowReadingsShort(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want string
	}{{float64(float32(59.41)), "59.41"}, {59.41, "59.41"}, {0.30000000000000004, "0.30000000000000004"}, {0.5, "0.5"}, {123456792, "1.23456792e+08"}, {1e300, "1e+300"}} {
		if got := reading(double(c.v)); got != c.want {
			t.Errorf("%v: %s, want %s", c.v, got, c.want)
		}
	}
	p := newPeer(t)
	always(p, rpc.TelemetryServiceLatestProcedure, &operatorv1.LatestRequest{}, &operatorv1.LatestResponse{Items: []*operatorv1.LatestResponse_Item{{Field: "f", Value: double(float64(float32(59.41)))}}})
	if out := p.hubctl("telemetry", "latest", "d").want(t, exitOK).out; strings.Contains(out, "59.4099") {
		t.Error(out)
	}
	for _, format := range []string{"csv", "json"} {
		wantContains(t, p.hubctl("telemetry", "latest", "d", "-o", format).want(t, exitOK).out, "59.40999984741211")
	}
}

func TestCountIsOfAllMeasurements(t *testing.T) {
	p := queryPeer(t, 0, func(*operatorv1.QueryRequest) {})
	answer(p, rpc.TelemetryServiceCountProcedure, func(r *operatorv1.CountRequest) (*operatorv1.CountResponse, error) {
		return &operatorv1.CountResponse{Rows: map[string]uint64{"telemetry": 1200, "other": 34}[r.Measurement]}, nil
	})
	wantText(t, p.hubctl("telemetry", "count", "d").want(t, exitOK).out, "Rows:        1,234\n  other:     34\n  telemetry: 1,200\n")
	wantText(t, p.hubctl("telemetry", "count", "d", "-o", "csv").want(t, exitOK).out, "rows\n1234\n")
	wantText(t, p.hubctl("telemetry", "count", "d", "-m", "other").want(t, exitOK).out, "Rows: 34\n")
}

// A watch survives the end of its stream, says so, and tells what was missed.
func TestWatchReconnects(t *testing.T) {
	p := newPeer(t)
	var tries atomic.Int32
	streams(p, rpc.TelemetryServiceWatchRowsProcedure, func(ctx context.Context, _ *operatorv1.WatchRowsRequest, send func(*operatorv1.WatchRowsResponse)) error {
		n := tries.Add(1)
		send(&operatorv1.WatchRowsResponse{MissedRows: 1234, Rows: []*operatorv1.WatchRowsResponse_Row{{DeviceId: "d", Measurement: "m", Time: &timestamppb.Timestamp{Seconds: 1772366400},
			Values: map[string]*operatorv1.Value{"b": double(float64(n)), "a": double(0.5)}}}})
		switch n {
		case 1:
			return connect.NewError(connect.CodeUnavailable, errors.New("draining"))
		case 2:
			return nil
		}
		return connect.NewError(connect.CodePermissionDenied, errors.New("revoked"))
	})
	got := p.hubctl("telemetry", "watch", "d", "-o", "csv").want(t, exitUnauthorized)
	wantText(t, got.out, `time,device_id,measurement,field,value
2026-03-01T12:00:00Z,d,m,a,0.5
2026-03-01T12:00:00Z,d,m,b,1
2026-03-01T12:00:00Z,d,m,a,0.5
2026-03-01T12:00:00Z,d,m,b,2
2026-03-01T12:00:00Z,d,m,a,0.5
2026-03-01T12:00:00Z,d,m,b,3
`)
	wantContains(t, got.stderr, "draining", "trying again in", "the hub ended the stream", "1,234 rows were not shown", "revoked")
	tries.Store(2)
	wantContains(t, p.hubctl("telemetry", "watch", "-o", "json").want(t, exitUnauthorized).out, `{"device_id":"d","measurement":"m","time":"2026-03-01T12:00:00Z","values":{"a":{"double_value":0.5},"b":{"double_value":3}}}`+"\n")
	env := p.env()
	env["TETHERLINE_HUB"] = "https://127.0.0.1:1"
	runWith(t, env, "", "telemetry", "watch").want(t, exitUnreachable) // a hub that was never there is not waited for
}

func TestDeviceWatchTellsNothingTwice(t *testing.T) {
	p := newPeer(t)
	var tries atomic.Int32
	at := &timestamppb.Timestamp{Seconds: 1772366400}
	streams(p, rpc.DeviceServiceWatchPresenceProcedure, func(_ context.Context, _ *operatorv1.WatchPresenceRequest, send func(*operatorv1.WatchPresenceResponse)) error {
		n := tries.Add(1)
		send(&operatorv1.WatchPresenceResponse{DeviceId: "a", Presence: &operatorv1.Presence{Online: true, Since: at, SessionEpoch: 1}})
		send(&operatorv1.WatchPresenceResponse{DeviceId: "b", Presence: &operatorv1.Presence{Online: n == 1, Since: &timestamppb.Timestamp{Seconds: at.Seconds + int64(n)}, Reason: "heartbeat missed"}})
		send(&operatorv1.WatchPresenceResponse{Synced: true})
		if n == 2 {
			return connect.NewError(connect.CodePermissionDenied, errors.New("enough"))
		}
		return nil
	})
	wantText(t, p.hubctl("device", "watch", "-o", "csv").want(t, exitUnauthorized).out, `device_id,online,since,reason,remote_addr,firmware,node
a,true,2026-03-01T12:00:00Z,,,,
b,true,2026-03-01T12:00:01Z,heartbeat missed,,,
b,false,2026-03-01T12:00:02Z,heartbeat missed,,,
`)
	tries.Store(0)
	changes := p.hubctl("device", "watch", "--changes").want(t, exitUnauthorized).out
	if strings.Contains(changes, "online") || !strings.Contains(changes, "offline") {
		t.Errorf("changes:\n%s", changes)
	}
}
