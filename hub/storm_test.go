package hub_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

var stormDevices = flag.Int("storm.devices", 15_000, "devices of BenchmarkStorm")

// BenchmarkStorm shows how fast devices come back when all have lost their
// connection at once, or the hub was killed and started again, beside a server
// on the same library that does TLS and the WebSocket upgrade and nothing
// else. All resume their TLS sessions. Run it with -benchtime 1x.
func BenchmarkStorm(b *testing.B) {
	n := *stormDevices
	bareFirst, bareAgain := bareStorm(b, n)
	storm := hubStorm(b, n, false)
	restart := hubStorm(b, n, true)
	rate := func(seconds float64) float64 { return float64(n) / seconds }
	b.Logf("%d devices, devices a second", n)
	b.Logf("%-44s %8s %8s %6s", "", "bare", "hub", "ratio")
	for _, row := range []struct {
		name, unit string
		bare, hub  float64
	}{
		{"first connect", "first", rate(bareFirst), rate(storm.ConnectSeconds)},
		{"all cut at once", "storm", rate(bareAgain), rate(storm.Recovery.Seconds)},
		{"hub killed and started, from the first return", "restart", rate(bareAgain), storm.Recovery.PerSecond},
	} {
		if row.unit == "restart" {
			row.hub = restart.Recovery.PerSecond
		}
		b.Logf("%-44s %8.0f %8.0f %6.2f", row.name, row.bare, row.hub, row.bare/row.hub)
		b.ReportMetric(row.bare/row.hub, "bare/hub-"+row.unit)
	}
	b.Logf("hub killed and started: all back %.1f s after the kill", restart.Recovery.Seconds)
	b.ReportMetric(0, "ns/op")
}

// bareStorm is how long n devices take to connect to a bare server, in
// seconds, and how long to come back.
func bareStorm(b *testing.B, n int) (first, again float64) {
	dir := b.TempDir()
	ca := makeCA(b)
	files := [2]string{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	writePair(b, issueCertificate(b, ca, time.Hour), files[0], files[1])
	writePair(b, *ca, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key"))
	server := play(b, "bare-server", bareServer{Cert: files[0], Key: files[1], Dir: dir})
	defer server.end()
	devices := play(b, "bare-devices", bareDevices{
		Addr: server.hear(), CA: readFile(b, dir, "ca.pem"), Devices: n, Frames: 1, Bytes: idleFrameBytes, Storm: true,
	})
	defer devices.end()
	for _, stage := range []string{"connected", "settled"} {
		devices.await(stage)
		devices.goOn()
	}
	if _, err := fmt.Sscan(devices.hear(), &first, &again); err != nil {
		b.Fatal(err)
	}
	return first, again
}

// hubStorm is a storm of a hub's devices, or of its restart after a SIGKILL.
func hubStorm(b *testing.B, n int, restart bool) (s firmwaresim.LoadSummary) {
	db := influxtest.Start(b)
	defer db.Kill()
	cfg := processConfig(b)
	cfg.InfluxURL, cfg.InfluxBucket = db.URL, db.Bucket
	h := hubtest.StartProcess(b, cfg)
	load := firmwaresim.LoadConfig{Devices: n, Idle: true, FramesAtFirst: 1, For: time.Second, Storm: !restart, Pause: 100 * time.Millisecond}
	if restart {
		load.For = 5 * time.Second
	}
	devices := startLoad(b, h, true, load)
	defer devices.end()
	for _, stage := range []string{"enrolled", "connected", "settled"} {
		devices.await(stage)
		devices.goOn()
	}
	if restart {
		h.Kill()
		h.Start()
	}
	if err := json.Unmarshal([]byte(devices.hear()), &s); err != nil {
		b.Fatal(err)
	}
	if s.Recovery == nil || s.Recovery.Lost < n*9/10 {
		b.Fatalf("not all devices were lost and came back: %+v", s.Recovery)
	}
	return s
}
