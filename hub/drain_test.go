package hub_test

import (
	"encoding/json"
	"flag"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// drainOutage is how long InfluxDB is away in BenchmarkDrain.
var drainOutage = flag.Duration("drain.outage", 5*time.Second, "in which the backlog of BenchmarkDrain grows")

// BenchmarkDrain shows how fast a backlog is stored when InfluxDB is back,
// while rows keep coming at a half, a quarter and an eighth of what hub and
// InfluxDB store at most on this machine. Run it with -benchtime 1x.
func BenchmarkDrain(b *testing.B) {
	shape := firmwaresim.LoadConfig{Devices: 200, RowsPerFrame: 10, FieldsPerRow: 10, For: *drainOutage}
	most := ingest(b, shape).StoredPerSecond / float64(shape.FieldsPerRow)
	b.Logf("%8.0f rows/s of 10 fields are stored at most", most)
	for _, share := range []struct {
		name string
		of   float64
	}{{"half", 2}, {"quarter", 4}, {"eighth", 8}} {
		live := shape
		live.Rate = most / share.of
		d := drain(b, live)
		b.Logf("%8.0f rows/s live: a backlog of %7.0f rows is gone in %5.2f s, %8.0f rows/s stored: %4.1f of the live rate (first row %v after InfluxDB)",
			d.live, d.backlog, d.took.Seconds(), d.stored, d.stored/d.live, d.noticed.Round(time.Millisecond))
		b.ReportMetric(d.stored/d.live, "of-live-at-"+share.name)
	}
	b.ReportMetric(0, "ns/op")
}

// drained is a drain as it was measured, from the first stored row on until
// the hub is not a second behind.
type drained struct {
	backlog float64 // rows
	live    float64 // acknowledged a second
	stored  float64 // a second
	took    time.Duration
	noticed time.Duration // from InfluxDB's first answer to the first stored row
}

// drain makes a backlog and measures how it goes. Every row is counted in
// InfluxDB in the end.
func drain(b *testing.B, shape firmwaresim.LoadConfig) (d drained) {
	b.Helper()
	db := influxtest.Start(b)
	defer db.Kill()
	cfg := processConfig(b)
	cfg.InfluxURL, cfg.InfluxBucket, cfg.BufferBytes = db.URL, db.Bucket, 4<<30
	h := hubtest.StartProcess(b, cfg)
	db.Stop()
	shape.For = 5 * *drainOutage
	p := startLoad(b, h, true, shape)
	p.await("enrolled")
	p.goOn()
	p.await("connected")
	p.goOn()
	end := time.Now().Add(shape.For)
	<-time.After(*drainOutage)
	db.Start()

	back := time.Now()
	first := awaitStatus(b, h, func(s *operatorv1.GetStatusResponse) bool { return s.RowsStored > 0 })
	d.noticed = first.Now.AsTime().Sub(back)
	d.backlog = float64(first.RowsAcknowledged - first.RowsStored)
	last := awaitStatus(b, h, func(s *operatorv1.GetStatusResponse) bool {
		return s.RowsStored+uint64(shape.Rate) >= s.RowsAcknowledged || time.Now().After(end)
	})
	if time.Now().After(end) {
		b.Logf("the backlog outlived the load: %d rows are left", last.RowsAcknowledged-last.RowsStored)
	}
	d.took = last.Now.AsTime().Sub(first.Now.AsTime())
	d.live = float64(last.RowsAcknowledged-first.RowsAcknowledged) / d.took.Seconds()
	d.stored = float64(last.RowsStored-first.RowsStored) / d.took.Seconds()

	var s firmwaresim.LoadSummary
	line := p.hear()
	p.end()
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		b.Fatalf("summary of a load: %v in %q", err, line)
	}
	if err := wantWhole(s); err != nil {
		b.Fatal(err)
	}
	if n, want := rowsHeld(b, db), s.FramesAcked*int64(s.RowsPerFrame); n != want {
		b.Fatalf("InfluxDB holds %d rows of %d that were acknowledged", n, want)
	}
	if err := h.Terminate(); err != nil {
		b.Fatalf("the hub ends with %v", err)
	}
	return d
}

// awaitStatus polls the hub's status.
func awaitStatus(t testing.TB, h *hubtest.Process, ok func(*operatorv1.GetStatusResponse) bool) (s *operatorv1.GetStatusResponse) {
	t.Helper()
	hubtest.Eventually(t, "the status that is waited for", func() bool {
		s = status(t, h.Endpoint)
		return ok(s)
	})
	return s
}
