package hub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// Two hundred devices at ten rows a second: InfluxDB, asked by itself, holds
// exactly the rows that the devices have heard to be durable.
func TestAcknowledgedRowsAreTheStoredRows(t *testing.T) {
	t.Parallel()
	const devices, perSecond = 200, 10
	db := influxtest.Start(t)
	cfg := influxConfig(t, db)
	h := hubtest.Start(t, cfg)
	fleet, err := firmwaresim.NewFleet(t.Context(), firmwaresim.FleetConfig{
		Hub: h.URL, Token: h.Token, RootCAs: h.Roots,
		Devices: devices, Interval: time.Second / perSecond, FlushTimeout: hubtest.Patience, Logger: hubtest.Logger(t, cfg),
	})
	if err != nil {
		t.Fatal(err)
	}
	duration := shortOrLong(10*time.Second, 30*time.Second)
	// A loaded machine misses beats; it gets the time for these.
	least := uint64(devices * perSecond / 4 * duration / time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan firmwaresim.Summary, 1)
	go func() { ended <- fleet.Run(ctx) }()
	<-time.After(duration)
	hubtest.Eventually(t, fmt.Sprintf("%d rows are acknowledged", least), func() bool {
		var rows uint64
		for _, acked := range fleet.Acked() {
			rows += acked
		}
		return rows >= least
	})
	cancel()
	s := <-ended

	if s.Refused+int(s.RowsLeft+s.RowsDropped+s.RowsRejected) != 0 || s.RowsPublished != s.RowsAcked {
		t.Errorf("of %d rows %d are acknowledged, %d left, %d dropped, %d rejected, %d devices refused; want all acknowledged",
			s.RowsPublished, s.RowsAcked, s.RowsLeft, s.RowsDropped, s.RowsRejected, s.Refused)
	}
	if t.Failed() {
		_, metrics := get(t, h.Endpoint, "/metrics", h.Token)
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "tetherline_closes_total{") && !strings.HasSuffix(line, " 0\n") {
				t.Logf("the hub has closed sessions: %s", line)
			}
		}
	}
	hubtest.Eventually(t, "the buffer is empty", func() bool { return status(t, h.Endpoint).Buffer.Chunks == 0 })
	rows := countRows(t, db)
	for id, acked := range fleet.Acked() {
		if rows[id] != acked {
			t.Errorf("%s: %d rows are stored; %d were acknowledged", id, rows[id], acked)
		}
	}
	var total uint64
	for _, n := range rows {
		total += n
	}
	if total != s.RowsAcked {
		t.Errorf("InfluxDB holds %d rows; %d were acknowledged", total, s.RowsAcked)
	}
	wantNoQuarantine(t, h.Endpoint)
	t.Logf("%d rows of %d devices in %.1f s acknowledged, %d stored; acknowledgement p50 %v, p99 %v",
		s.RowsAcked, devices, s.Seconds, total, s.AckP50, s.AckP99)
}

// countRows is how many rows of each device InfluxDB holds, counted whole:
// count() would count fields.
func countRows(t *testing.T, db *influxtest.Server) map[string]uint64 {
	t.Helper()
	var answer struct {
		Results []struct {
			Series []struct {
				Tags   map[string]string
				Values []json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(db.Query(`SELECT * FROM "telemetry" GROUP BY "device"`), &answer); err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]uint64)
	for _, series := range answer.Results[0].Series {
		rows[series.Tags["device"]] += uint64(len(series.Values))
	}
	return rows
}
