package hub_test

import (
	"encoding/json"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// BenchmarkBystanders shows what 500 devices at work notice when all others
// lose their connection at once and come back: their acknowledgements, with
// and without, in one run of one hub. Run it with -benchtime 1x.
func BenchmarkBystanders(b *testing.B) {
	db := influxtest.Start(b)
	defer db.Kill()
	cfg := processConfig(b)
	cfg.InfluxURL, cfg.InfluxBucket = db.URL, db.Bucket
	h := hubtest.StartProcess(b, cfg)
	work := firmwaresim.LoadConfig{Prefix: "work", Devices: 500, Rate: 1000, For: 5 * time.Second}
	load(b, h, work) // enrolled, warm
	quiet := load(b, h, work)
	others := startLoad(b, h, true, firmwaresim.LoadConfig{
		Prefix: "other", Devices: *stormDevices, Idle: true, For: time.Second, Storm: true, Pause: 100 * time.Millisecond,
	})
	defer others.end()
	for _, stage := range []string{"enrolled", "connected"} {
		others.await(stage)
		others.goOn()
	}
	others.await("settled")
	workers := startLoad(b, h, true, work)
	defer workers.end()
	workers.await("enrolled")
	workers.goOn()
	workers.await("connected")
	before := cpuTime(h.PID())
	workers.goOn()
	others.goOn()
	var s, stormy firmwaresim.LoadSummary
	if err := json.Unmarshal([]byte(others.hear()), &s); err != nil {
		b.Fatal(err)
	}
	cpu := cpuTime(h.PID()) - before
	if err := json.Unmarshal([]byte(workers.hear()), &stormy); err != nil {
		b.Fatal(err)
	}
	if err := wantWhole(stormy); err != nil {
		b.Fatal(err)
	}
	b.Logf("%-20s %12s %12s %12s", "acknowledgement", "p50", "p99", "max")
	b.Logf("%-20s %12v %12v %12v", "quiet", quiet.AckP50, quiet.AckP99, quiet.AckMax)
	b.Logf("%-20s %12v %12v %12v", "storm of others", stormy.AckP50, stormy.AckP99, stormy.AckMax)
	b.Logf("%d others are back after %.2f s, %.0f a second; CPU of the hub %v", s.Recovery.Lost, s.Recovery.Seconds, float64(s.Recovery.Lost)/s.Recovery.Seconds, cpu)
	b.ReportMetric(float64(stormy.AckP99)/float64(quiet.AckP99), "p99/quiet")
	b.ReportMetric(float64(s.Recovery.Lost)/s.Recovery.Seconds, "back/s")
	b.ReportMetric(0, "ns/op")
}
