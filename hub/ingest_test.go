package hub_test

import (
	"flag"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// ingestTime is how long each load of BenchmarkIngest lasts.
var ingestTime = flag.Duration("ingest.time", 10*time.Second, "of each load of BenchmarkIngest")

// BenchmarkIngest shows what it costs to get rows into InfluxDB by way of the
// hub: its CPU time for a frame of one row and for a row in frames of ten, all
// in, from the socket to the stored row; and how many values a second get
// there, beside the same rows posted straight to InfluxDB. Simulator, hub,
// InfluxDB and whoever posts are processes of their own on this machine. Run
// it with -benchtime 1x.
func BenchmarkIngest(b *testing.B) {
	single := firmwaresim.LoadConfig{Devices: 200, RowsPerFrame: 1, FieldsPerRow: 10, For: *ingestTime}
	batch := firmwaresim.LoadConfig{Devices: 200, RowsPerFrame: 10, FieldsPerRow: 10, For: *ingestTime}

	before := direct(b, batch)
	full := ingest(b, batch)
	after := direct(b, batch)
	straight := (before.ValuesPerSecond + after.ValuesPerSecond) / 2
	half := batch
	half.Rate = full.StoredPerSecond / float64(batch.FieldsPerRow) / 2
	halfLoad := ingest(b, half)
	modest := batch
	modest.Rate = 20_000
	modestLoad := ingest(b, modest)
	frames := ingest(b, single)
	paced := single
	paced.Rate = 10_000
	pacedLoad := ingest(b, paced)

	b.Logf("rows of 10 fields into InfluxDB, %d devices, %v each", batch.Devices, *ingestTime)
	b.Logf("%-44s %12.0f values/s (%.0f before, %.0f after)", "straight to InfluxDB", straight, before.ValuesPerSecond, after.ValuesPerSecond)
	b.Logf("%-44s %12.0f values/s, %.2f of that", "simulator and hub, frames of 10 rows", full.StoredPerSecond, full.StoredPerSecond/straight)
	line := func(what string, s firmwaresim.LoadSummary) {
		b.Logf("%-44s %8.0f rows/s, ack p50 %v p99 %v, hub CPU %.2f µs a frame, %.2f µs a row (%.1f + %.1f s)",
			what, s.RowsPerSecond, s.AckP50.Round(10*time.Microsecond), s.AckP99.Round(10*time.Microsecond),
			s.Hub.MicrosPerFrame, s.Hub.MicrosPerRow, s.Hub.UserSeconds, s.Hub.SystemSeconds)
	}
	line("frames of 10 rows, as windows allow", full)
	line("frames of 10 rows, half of what was stored", halfLoad)
	line("frames of 10 rows, 10 a second of each device", modestLoad)
	line("frames of 1 row, as windows allow", frames)
	line("frames of 1 row, 50 a second of each device", pacedLoad)
	b.ReportMetric(full.StoredPerSecond/straight, "of-direct")
	b.ReportMetric(frames.Hub.MicrosPerFrame, "µs/frame")
	b.ReportMetric(full.Hub.MicrosPerRow, "µs/row")
	b.ReportMetric(float64(halfLoad.AckP99.Microseconds())/1000, "ms-ack-p99")
	b.ReportMetric(0, "ns/op")
}

// ingest runs a load through a hub into an InfluxDB, both new, and checks that
// every acknowledged row is there.
func ingest(b *testing.B, shape firmwaresim.LoadConfig) firmwaresim.LoadSummary {
	b.Helper()
	s, _ := ingestInto(b, shape)
	return s
}

// ingestInto is ingest with InfluxDB's CPU time, until all was stored.
func ingestInto(b *testing.B, shape firmwaresim.LoadConfig) (firmwaresim.LoadSummary, time.Duration) {
	b.Helper()
	db := influxtest.Start(b)
	defer db.Kill()
	cfg := processConfig(b)
	cfg.InfluxURL, cfg.InfluxBucket = db.URL, db.Bucket
	h := hubtest.StartProcess(b, cfg)
	spent := cpuTime(db.PID())
	s := load(b, h, shape)
	spent = cpuTime(db.PID()) - spent
	if n, want := rowsHeld(b, db), s.FramesAcked*int64(s.RowsPerFrame); n != want {
		b.Fatalf("InfluxDB holds %d rows of %d that were acknowledged", n, want)
	}
	if err := h.Terminate(); err != nil {
		b.Fatalf("the hub ends with %v", err)
	}
	return s, spent
}
