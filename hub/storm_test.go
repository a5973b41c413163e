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

// stormQuiet is how long a hub has, after a storm, for what it has put off:
// that is part of what a connect costs it.
const stormQuiet = 3 * time.Second

// BenchmarkStorm shows how fast devices come back when all have lost their
// connection at once, or the hub was killed and started again, beside a server
// on the same library that does TLS and the WebSocket upgrade and nothing
// else. All resume their TLS sessions. Devices and server share the machine,
// so both kinds of devices do what a device computes for its proofs; those of
// the hub also exchange them, in two frames from the hub and one to it. The
// CPU time is the server's process alone, user and system, with what it puts
// off and, when all are cut, with the end of the old connections. Run it with
// -benchtime 1x.
func BenchmarkStorm(b *testing.B) {
	n := *stormDevices
	bare := bareStorm(b, n)
	cut := hubStorm(b, n, false)
	restart := hubStorm(b, n, true)
	b.Logf("%d devices", n)
	b.Logf("%-44s %26s   %26s", "", "devices a second", "CPU of the server, µs each")
	b.Logf("%-44s %8s %8s %8s   %8s %8s %8s", "", "bare", "hub", "bare/hub", "bare", "hub", "hub/bare")
	for _, row := range []struct {
		name, unit      string
		bare, hub       float64 // devices a second
		bareCPU, hubCPU time.Duration
	}{
		{"first connect", "first", bare.first, cut.first, bare.firstCPU, cut.firstCPU},
		{"all cut at once", "storm", bare.again, cut.again, bare.againCPU, cut.againCPU},
		{"hub killed and started, from the first return", "restart", bare.again, restart.again, 0, 0},
	} {
		text := fmt.Sprintf("%-44s %8.0f %8.0f %8.2f", row.name, row.bare, row.hub, row.bare/row.hub)
		b.ReportMetric(row.bare/row.hub, "bare/hub-"+row.unit)
		if row.bareCPU > 0 {
			each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
			text += fmt.Sprintf("   %8.0f %8.0f %8.2f", each(row.bareCPU), each(row.hubCPU), float64(row.hubCPU)/float64(row.bareCPU))
			b.ReportMetric(each(row.hubCPU), "hub-µs-"+row.unit)
		}
		b.Log(text)
	}
	b.Logf("hub killed and started: all back %.1f s after the kill", restart.whole)
	b.ReportMetric(0, "ns/op")
}

// stormFigures of one server: devices a second, and its CPU time in all.
type stormFigures struct {
	first, again       float64
	firstCPU, againCPU time.Duration
	whole              float64 // seconds from the loss of the first to the return of the last
}

// bareStorm has n devices connect to a bare server, and come back.
func bareStorm(b *testing.B, n int) (f stormFigures) {
	dir := b.TempDir()
	ca := makeCA(b)
	files := [2]string{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	writePair(b, issueCertificate(b, ca, time.Hour), files[0], files[1])
	writePair(b, *ca, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key"))
	server := play(b, "bare-server", bareServer{Cert: files[0], Key: files[1], Dir: dir})
	defer server.end()
	cpu := func() time.Duration { return cpuTime(server.cmd.Process.Pid) }
	before := cpu()
	devices := play(b, "bare-devices", bareDevices{
		Addr: server.hear(), CA: readFile(b, dir, "ca.pem"), Devices: n, Frames: 1, Bytes: idleFrameBytes, Storm: true,
	})
	defer devices.end()
	devices.await("connected")
	f.firstCPU = cpu() - before
	devices.goOn()
	devices.await("settled")
	before = cpu()
	devices.goOn()
	var first, again float64
	if _, err := fmt.Sscan(devices.hear(), &first, &again); err != nil {
		b.Fatal(err)
	}
	f.againCPU = cpu() - before
	f.first, f.again = float64(n)/first, float64(n)/again
	return f
}

// hubStorm is a storm of a hub's devices, or of its restart after a SIGKILL.
func hubStorm(b *testing.B, n int, restart bool) (f stormFigures) {
	db := influxtest.Start(b)
	defer db.Kill()
	cfg := processConfig(b)
	cfg.InfluxURL, cfg.InfluxBucket = db.URL, db.Bucket
	h := hubtest.StartProcess(b, cfg)
	cpu := func() time.Duration { return cpuTime(h.PID()) }
	// A storm begins in the middle of For, and For passes after it.
	load := firmwaresim.LoadConfig{Devices: n, Idle: true, FramesAtFirst: 1, For: stormQuiet, Storm: !restart, Pause: 100 * time.Millisecond}
	if restart {
		load.For = 10 * time.Second
	}
	devices := startLoad(b, h, true, load)
	defer devices.end()
	devices.await("enrolled")
	time.Sleep(stormQuiet)
	before := cpu()
	devices.goOn()
	devices.await("connected")
	time.Sleep(stormQuiet)
	connected := cpu()
	f.firstCPU = connected - before
	devices.goOn()
	devices.await("settled")
	settled := cpu()
	devices.goOn()
	if restart {
		h.Kill()
		h.Start()
	}
	var s firmwaresim.LoadSummary
	if err := json.Unmarshal([]byte(devices.hear()), &s); err != nil {
		b.Fatal(err)
	}
	if s.Recovery == nil || s.Recovery.Lost < n*9/10 {
		b.Fatalf("not all devices were lost and came back: %+v", s.Recovery)
	}
	f.first, f.whole = float64(n)/s.ConnectSeconds, s.Recovery.Seconds
	if restart {
		f.again = s.Recovery.PerSecond
		return f
	}
	// What the summary has begins when all were connected, and ends before
	// the devices leave.
	f.again = float64(n) / s.Recovery.Seconds
	f.againCPU = time.Duration((s.Hub.UserSeconds+s.Hub.SystemSeconds)*float64(time.Second)) - (settled - connected)
	return f
}
