package hub_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// perRow is CPU time in µs.
func perRow(spent time.Duration, rows int64) float64 {
	return float64(spent.Microseconds()) / float64(max(rows, 1))
}

// sideHub is a load through a hub into InfluxDB.
func sideHub(b *testing.B, shape firmwaresim.LoadConfig) sideFigures {
	s, store := ingestInto(b, shape)
	rows := s.FramesAcked * int64(s.RowsPerFrame)
	return sideFigures{"Tetherline into InfluxDB: fsynced, then acknowledged", s.StoredPerSecond / sideFields, s.Hub.MicrosPerRow, perRow(store, rows), s.AckP50, s.AckP99}
}

// sideDirect is the same rows posted straight to InfluxDB.
func sideDirect(b *testing.B, shape firmwaresim.LoadConfig) sideFigures {
	r := direct(b, shape)
	return sideFigures{rows: r.ValuesPerSecond / sideFields, store: perRow(r.StoreCPU, r.Rows)}
}

// sideBare is frames of that size to a server that reads them and does nothing
// else.
func sideBare(b *testing.B, shape firmwaresim.LoadConfig, bytes int) sideFigures {
	server, addr, dir := startBare(b)
	defer server.end()
	devices := play(b, "bare-devices", bareDevices{
		Addr: addr, CA: readFile(b, dir, "ca.pem"), Devices: shape.Devices, Bytes: bytes, Load: sideLoadOf(shape),
	})
	defer devices.end()
	devices.await("connected")
	spent := cpuTime(server.cmd.Process.Pid)
	devices.goOn()
	r := hearResult(b, devices)
	spent = cpuTime(server.cmd.Process.Pid) - spent
	return sideFigures{name: "bare gorilla wss server: only reads", rows: float64(r.Rows) / r.Seconds, server: perRow(spent, r.Rows)}
}

// sideTelegraf is a load through Mosquitto and Telegraf into InfluxDB. The
// devices' connections have TLS; Telegraf's has none. Its settings are its
// defaults but for the persistent session at QoS 1; max_undelivered_messages
// and metric_buffer_limit, raised so that it never waits for itself; a flush
// every second, that its last rows do not wait for ten; no host tag; and no
// compression of what it sends to a database on the same machine, which the
// hub does not do either.
func sideTelegraf(b *testing.B, shape firmwaresim.LoadConfig) sideFigures {
	db := influxtest.Start(b)
	defer db.Kill()
	plain := hubtest.FreeAddr(b)
	host, port, _ := net.SplitHostPort(plain)
	// With Mosquitto's own 20 in flight Telegraf would wait for each flush.
	broker := mqtttest.StartMosquitto(b, mqtttest.MosquittoOptions{
		TLS: true, MaxInflight: 20_000, MaxQueued: 20_000_000, Lines: []string{"connection_messages false", "listener " + port + " " + host},
	})
	defer broker.Stop(b)
	telegraf := startTelegraf(b, fmt.Appendf(nil, `[agent]
  omit_hostname = true
  metric_buffer_limit = 1000000
  flush_interval = "1s"
[[inputs.mqtt_consumer]]
  servers = ["tcp://%s"]
  topics = ["side/+/state"]
  qos = 1
  persistent_session = true
  client_id = "telegraf"
  max_undelivered_messages = 50000
  name_override = "telemetry"
  data_format = "json"
  json_time_key = "t"
  json_time_format = "unix_us"
[[outputs.influxdb_v2]]
  urls = [%q]
  token = "none"
  organization = %q
  bucket = %q
  content_encoding = "identity"
`, plain, db.URL, db.Org, db.Bucket))
	defer func() { _ = telegraf.Process.Signal(os.Interrupt); _ = telegraf.Wait() }()
	ca, err := os.ReadFile(broker.CAFile())
	if err != nil {
		b.Fatal(err)
	}
	devices := play(b, "mqtt-devices", mqttDevices{Addr: broker.Addr, CA: ca, Devices: shape.Devices, Load: sideLoadOf(shape)})
	defer devices.end()
	devices.await("connected")
	spent, store := cpuTime(telegraf.Process.Pid)+cpuTime(broker.PID()), cpuTime(db.PID())
	devices.goOn()
	r := hearResult(b, devices)
	last := awaitRows(b, db, r.Rows)
	spent = cpuTime(telegraf.Process.Pid) + cpuTime(broker.PID()) - spent
	store = cpuTime(db.PID()) - store
	return sideFigures{"Mosquitto, Telegraf, InfluxDB: kept in memory", float64(r.Rows) / last.Sub(r.Began).Seconds(),
		perRow(spent, r.Rows), perRow(store, r.Rows), r.AckP50, r.AckP99}
}

// startTelegraf returns when it has subscribed.
func startTelegraf(b *testing.B, config []byte) *exec.Cmd {
	file := filepath.Join(b.TempDir(), "telegraf.conf")
	writeFile(b, file, config)
	cmd := exec.Command(*bridgeTelegraf, "--config", file)
	log, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatalf("start Telegraf: %v; `make bench` installs it", err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill() })
	awaitTelegraf(b, log)
	return cmd
}

// awaitRows waits until InfluxDB holds so many, as long as they become more,
// and returns when it had them.
func awaitRows(b *testing.B, db *influxtest.Server, want int64) time.Time {
	b.Helper()
	const patience = 30 * time.Second
	var held int64
	for since := time.Now(); ; {
		n, now := rowsHeld(b, db), time.Now()
		switch {
		case n == want:
			return now
		case n > held:
			held, since = n, now
		case n > want || now.Sub(since) > patience:
			b.Fatalf("InfluxDB holds %d rows of %d that the broker has acknowledged", n, want)
		}
		time.Sleep(200 * time.Millisecond) // that the question costs nothing that matters
	}
}

func sideLoadOf(shape firmwaresim.LoadConfig) *sideLoad {
	return &sideLoad{For: shape.For, Rate: shape.Rate, RowsPerFrame: shape.RowsPerFrame, Fields: shape.FieldsPerRow}
}

func hearResult(b *testing.B, p *rolePlayer) (r sideResult) {
	b.Helper()
	if err := json.Unmarshal([]byte(p.hear()), &r); err != nil {
		b.Fatal(err)
	}
	return r
}

// mosquittoMemory is before anybody, connected, and after messages. What the
// C library has free is in it: nobody can make it give that back.
func mosquittoMemory(b *testing.B, n int) (m memories) {
	broker := mqtttest.StartMosquitto(b, mqtttest.MosquittoOptions{TLS: true, Lines: []string{"connection_messages false"}})
	defer broker.Stop(b)
	ca, err := os.ReadFile(broker.CAFile())
	if err != nil {
		b.Fatal(err)
	}
	look := func() { m = append(m, hubtest.Memory{RSS: residentOf(b, broker.PID())}) }
	look()
	devices := play(b, "mqtt-devices", mqttDevices{Addr: broker.Addr, CA: ca, Devices: n, Frames: idleFrames})
	defer devices.end()
	for _, stage := range []string{"connected", "settled"} {
		devices.await(stage)
		look()
		devices.goOn()
	}
	return m
}

// residentOf a process, in bytes.
func residentOf(b *testing.B, pid int) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		b.Fatalf("memory of a process: %v", err)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
