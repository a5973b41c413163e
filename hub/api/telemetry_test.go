package api_test

import (
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func TestQueryAndCount(t *testing.T) {
	h := newHub(t)
	c, ctx := h.as(h.admin), testContext(t)
	h.device("d", "north")
	h.stored("d", 25)
	m := &operatorv1.QueryRequest{DeviceId: "d", Fields: []string{"temp"}, PageSize: 10}
	next := 0.0
	for {
		res := must(c.telemetry.Query(ctx, req(m)))(t).Msg
		for _, row := range res.GetRows() {
			if row.GetValues()["temp"].GetDoubleValue() != next || len(row.GetValues()) != 1 {
				t.Fatalf("row %v, want temp %v", row, next)
			}
			next++
		}
		if m.PageToken = res.GetNextPageToken(); m.PageToken == "" {
			break
		}
	}
	if next != 25 {
		t.Errorf("%v rows", next)
	}
	mean := must(c.telemetry.Query(ctx, req(&operatorv1.QueryRequest{
		DeviceId: "d", Aggregate: operatorv1.Aggregate_AGGREGATE_COUNT, Window: durationpb.New(24 * time.Hour), TimeZone: "Europe/Berlin",
	})))(t).Msg
	total := int64(0)
	for _, row := range mean.GetRows() {
		total += row.GetValues()["temp"].GetIntValue()
	}
	if total != 25 {
		t.Errorf("windows count %d rows", total)
	}
	count := must(c.telemetry.Count(ctx, req(&operatorv1.CountRequest{DeviceId: "d", To: timestamppb.Now()})))(t).Msg
	if count.GetRows() != 25 {
		t.Errorf("count %d", count.GetRows())
	}
}

func TestQueryRefuses(t *testing.T) {
	h := newHub(t)
	c, ctx := h.as(h.admin), testContext(t)
	h.device("d", "north")
	h.stored("d", 5)
	page := must(c.telemetry.Query(ctx, req(&operatorv1.QueryRequest{DeviceId: "d", PageSize: 1})))(t).Msg.GetNextPageToken()
	for name, m := range map[string]*operatorv1.QueryRequest{
		"page size":      {DeviceId: "d", PageSize: 10001},
		"zone":           {DeviceId: "d", TimeZone: "Mars/Olympus"},
		"local zone":     {DeviceId: "d", TimeZone: "Local"},
		"path as zone":   {DeviceId: "d", TimeZone: "../../etc/passwd"},
		"aggregate":      {DeviceId: "d", Aggregate: 99},
		"short window":   {DeviceId: "d", Aggregate: operatorv1.Aggregate_AGGREGATE_MEAN, Window: durationpb.New(time.Millisecond)},
		"zero window":    {DeviceId: "d", Aggregate: operatorv1.Aggregate_AGGREGATE_MEAN, Window: durationpb.New(0)},
		"raw and window": {DeviceId: "d", Window: durationpb.New(time.Hour)},
		"from no time":   {DeviceId: "d", From: &timestamppb.Timestamp{Nanos: -1}},
		"range":          {DeviceId: "d", From: timestamppb.Now(), To: timestamppb.New(time.Unix(0, 0))},
		"token":          {DeviceId: "d", PageToken: "AAAA"},
		"other's token":  {DeviceId: "d", PageSize: 1, Fields: []string{"temp"}, PageToken: page},
		"device":         {DeviceId: "no id"},
		"measurement":    {DeviceId: "d", Measurement: "no name"},
	} {
		_, err := c.telemetry.Query(ctx, req(m))
		wantCode(t, name, err, connect.CodeInvalidArgument)
	}
}

// A deleted device's readings stay, for those who may see all devices.
func TestReadingsOfADeletedDevice(t *testing.T) {
	h := newHub(t)
	c, ctx := h.as(h.admin), testContext(t)
	h.device("gone", "north")
	h.stored("gone", 3)
	must(c.devices.DeleteDevice(ctx, req(&operatorv1.DeleteDeviceRequest{Id: "gone"})))(t)
	if n := len(must(c.telemetry.Latest(ctx, req(&operatorv1.LatestRequest{DeviceId: "gone"})))(t).Msg.GetItems()); n != 2 {
		t.Errorf("%d fields", n)
	}
	_, err := c.telemetry.Latest(ctx, req(&operatorv1.LatestRequest{DeviceId: "never"}))
	wantCode(t, "a device that never was", err, connect.CodeNotFound)
}
