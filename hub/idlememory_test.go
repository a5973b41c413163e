package hub_test

import (
	"flag"
	"path/filepath"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// idleDevices are in a process of their own, and so is the hub: each has a
// descriptor for every one of them.
var idleDevices = flag.Int("idle.devices", 15_000, "devices of BenchmarkIdleMemory")

// idleFrames is how many frames a device sends before it is idle again, and
// idleFrameBytes is how long one with a row of ten fields is.
const (
	idleFrames     = 10
	idleFrameBytes = 169
)

// BenchmarkIdleMemory shows what an idle, authenticated device takes of the
// hub's resident memory, beside what a connection takes of a server on the
// same library that only reads, both after garbage was collected: when it has
// connected, and when it has sent ten frames. Run it with -benchtime 1x.
func BenchmarkIdleMemory(b *testing.B) {
	n := *idleDevices
	bare := bareMemory(b, n)
	ours := hubMemory(b, n)
	b.Logf("marginal resident memory, KiB a device, %d devices", n)
	b.Logf("%-32s %12s %12s", "", "bare server", "hub")
	b.Logf("%-32s %12s %12.1f", "enrolled, offline", "-", ours.perDevice(0, 1, n).rss)
	for i, stage := range []string{"connected", "after 10 frames"} {
		own, least := ours.perDevice(1, 2+i, n), bare.perDevice(0, 1+i, n)
		b.Logf("%-32s %12.1f %12.1f", stage, least.rss, own.rss)
		b.Logf("%-32s %12.1f %12.1f", "  objects", least.heap, own.heap)
		b.Logf("%-32s %12.1f %12.1f", "  stacks", least.stacks, own.stacks)
		name := []string{"connected", "after-frames"}[i]
		b.ReportMetric(own.rss, "KiB/hub-"+name)
		b.ReportMetric(least.rss, "KiB/bare-"+name)
	}
	b.ReportMetric(0, "ns/op")
}

// memories of one process, stage by stage.
type memories []hubtest.Memory

type kibibytes struct{ rss, heap, stacks float64 }

// perDevice is what n devices have added from one stage to another.
func (m memories) perDevice(from, to, n int) kibibytes {
	each := func(a, b int64) float64 { return float64(b-a) / float64(n) / 1024 }
	return kibibytes{
		each(m[from].RSS, m[to].RSS), each(m[from].Heap, m[to].Heap), each(m[from].Stacks, m[to].Stacks),
	}
}

// bareMemory is before anybody, connected, and after frames.
func bareMemory(b *testing.B, n int) (m memories) {
	server, addr, dir := startBare(b)
	defer server.end()
	look := func() { m = append(m, hubtest.MemoryOf(b, server.cmd.Process, dir)) }
	look()
	devices := play(b, "bare-devices", bareDevices{
		Addr: addr, CA: readFile(b, dir, "ca.pem"), Devices: n, Frames: idleFrames, Bytes: idleFrameBytes,
	})
	defer devices.end()
	for _, stage := range []string{"connected", "settled"} {
		devices.await(stage)
		look()
		devices.goOn()
	}
	return m
}

// startBare runs a bareServer, and returns its address and the folder with its
// CA and its word on its memory.
func startBare(b *testing.B) (server *rolePlayer, addr, dir string) {
	dir = b.TempDir()
	ca := makeCA(b)
	files := [2]string{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	writePair(b, issueCertificate(b, ca, time.Hour), files[0], files[1])
	writePair(b, *ca, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key"))
	server = play(b, "bare-server", bareServer{Cert: files[0], Key: files[1], Dir: dir})
	return server, server.hear(), dir
}

// hubMemory is before anybody, enrolled, connected, and after frames.
func hubMemory(b *testing.B, n int) (m memories) {
	db := influxtest.Start(b)
	defer db.Kill()
	cfg := processConfig(b)
	cfg.InfluxURL, cfg.InfluxBucket = db.URL, db.Bucket // the embedded store's memory is not the devices'
	h := hubtest.StartProcess(b, cfg)
	m = append(m, h.Memory())
	devices := startLoad(b, h, true, firmwaresim.LoadConfig{
		Devices: n, Idle: true, FramesAtFirst: idleFrames, For: time.Second,
	})
	defer devices.end()
	for _, stage := range []string{"enrolled", "connected", "settled"} {
		devices.await(stage)
		if stage == "settled" {
			wantDrained(b, h.Endpoint)
		}
		m = append(m, h.Memory())
		devices.goOn()
	}
	return m
}

// processConfig is a hub in a process of its own that takes whatever one
// address sends, so that a load can come from one.
func processConfig(t testing.TB) hub.Config {
	cfg := hubtest.Config(t)
	cfg.Listen = hubtest.FreeAddr(t)
	cfg.LogLevel = "error"
	cfg.AddressRate = 10_000
	cfg.DeviceFrames, cfg.DeviceBytes = 1e6, 1e9
	return cfg
}

// wantDrained waits until nothing is left in the buffer.
func wantDrained(t testing.TB, h hubtest.Endpoint) {
	t.Helper()
	hubtest.Eventually(t, "everything is stored", func() bool { return status(t, h).Buffer.GetChunks() == 0 })
}
