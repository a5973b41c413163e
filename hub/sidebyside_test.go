package hub_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

var (
	sideTime  = flag.Duration("side.time", 8*time.Second, "of each load of BenchmarkSideBySide")
	sideTrips = flag.Int("side.trips", 2000, "commands of each kind of BenchmarkSideBySide")
)

// What BenchmarkSideBySide sends.
const (
	sideDevices = 200
	sideFields  = 10
	sideRate    = 10_000 // rows a second, where it is not as fast as may be

	// Bytes of a device's frame with one row of ten fields, and with ten.
	frameOfOne, frameOfTen = 169, 935
)

// BenchmarkSideBySide is the hub beside what people would take instead, one
// after the other in one run on one machine, each with the same values from as
// many connections over TLS: rows into InfluxDB, memory of an idle connection,
// and a command there and back. It prints tables for deploy/BENCHMARKS.md.
// `make bench` runs it; it needs Telegraf (-bridge.telegraf) and Mosquitto. Run
// it with -benchtime 1x.
func BenchmarkSideBySide(b *testing.B) {
	b.Run("ingest", sideIngest)
	b.Run("memory", sideMemory)
	b.Run("commands", sideCommands)
}

// sideFigures are how one of those that are compared has taken a load.
type sideFigures struct {
	name     string
	rows     float64 // a second, stored or only read
	server   float64 // µs of CPU a row, of all between device and InfluxDB; 0: there is nothing
	store    float64 // the same of InfluxDB; 0: there is none
	p50, p99 time.Duration
}

func sideIngest(b *testing.B) {
	if *bridgeTelegraf == "" {
		b.Fatal("name Telegraf's program with -bridge.telegraf: `make bench` installs and names it")
	}
	flat10 := firmwaresim.LoadConfig{Devices: sideDevices, RowsPerFrame: 10, FieldsPerRow: sideFields, For: *sideTime}
	flat1, paced := flat10, flat10
	flat1.RowsPerFrame, paced.RowsPerFrame, paced.Rate = 1, 1, sideRate

	before := sideDirect(b, flat10)
	loads := []struct {
		title string
		shape firmwaresim.LoadConfig
		bytes int
	}{
		{"10 rows a message, as fast as it goes", flat10, frameOfTen},
		{"1 row a message, as fast as it goes", flat1, frameOfOne},
		{fmt.Sprintf("1 row a message, %d a second", sideRate), paced, frameOfOne},
	}
	var results [][]sideFigures
	for _, l := range loads {
		results = append(results, []sideFigures{sideHub(b, l.shape), sideTelegraf(b, l.shape), sideBare(b, l.shape, l.bytes)})
		progress("%s: done", l.title)
	}
	after := sideDirect(b, flat10)
	straight := sideFigures{name: "straight to InfluxDB, 5,000 rows a request", rows: (before.rows + after.rows) / 2, store: (before.store + after.store) / 2}
	for i, l := range loads {
		if l.shape.Rate == 0 {
			results[i] = append(results[i], straight)
		}
		sideTable(fmt.Sprintf("%s (%d devices, %v)", l.title, sideDevices, *sideTime), l.shape.Rate, results[i])
	}
	b.ReportMetric(results[0][0].rows/straight.rows, "of-direct")
	b.ReportMetric(results[1][0].server/results[1][1].server, "cpu-of-telegraf")
	b.ReportMetric(0, "ns/op")
}

// sideTable has Tetherline's figures first. With a rate there is nothing to say
// of how many rows were stored, but when.
func sideTable(title string, rate float64, figures []sideFigures) {
	hub := figures[0]
	head := []string{title, "values/s", "of Tetherline's"}
	if rate > 0 {
		head = []string{title, "all stored, after the last"}
	}
	t := newTable(append(head, "CPU of the server, µs a row", "of Tetherline's", "of InfluxDB, µs a row", "acknowledged p50", "p99")...)
	for _, x := range figures {
		cells := []string{x.name, fmt.Sprintf("%.0f", x.rows*sideFields), times(x.rows, hub.rows)}
		if rate > 0 {
			cells = []string{x.name, "–"}
			if x.store > 0 {
				// rate * For rows were stored in rate * For / x.rows seconds.
				cells[1] = fmt.Sprintf("%.1f s", sideTime.Seconds()*(rate/x.rows-1))
			}
		}
		t.row(append(cells, micros(x.server), times(x.server, hub.server), micros(x.store), millis(x.p50), millis(x.p99))...)
	}
	t.print()
}

// sideMemory is BenchmarkIdleMemory with Mosquitto beside the two.
func sideMemory(b *testing.B) {
	n := *idleDevices
	broker := mosquittoMemory(b, n)
	progress("memory of Mosquitto: done")
	bare := bareMemory(b, n)
	progress("memory of the bare server: done")
	ours := hubMemory(b, n)
	connected, settled := ours.perDevice(1, 2, n).rss, ours.perDevice(1, 3, n).rss
	t := newTable(fmt.Sprintf("resident memory, KiB a connection, %d of them", n), "connected", "of Tetherline's", "after 10 messages", "of Tetherline's")
	for _, x := range []struct {
		name               string
		connected, settled float64
	}{
		{"Tetherline, authenticated", connected, settled},
		{"bare gorilla server, TLS", bare.perDevice(0, 1, n).rss, bare.perDevice(0, 2, n).rss},
		{"Mosquitto, TLS", broker.perDevice(0, 1, n).rss, broker.perDevice(0, 2, n).rss},
	} {
		t.row(x.name, fmt.Sprintf("%.1f", x.connected), times(x.connected, connected), fmt.Sprintf("%.1f", x.settled), times(x.settled, settled))
	}
	t.print()
	b.ReportMetric(connected/broker.perDevice(0, 1, n).rss, "of-mosquitto")
	b.ReportMetric(0, "ns/op")
}

// sideCommands is BenchmarkCommandRoundTrip as a table.
func sideCommands(b *testing.B) {
	h := benchProcess(b)
	hub, http1 := newHubTrip(b, h, h.Endpoint, "bench"), newHubTrip(b, h, overHTTP1(b, h.Endpoint), "bench-1")
	broker := newBrokerTrip(b)
	disk := newDiskTrip(b)
	names := []string{"Tetherline, HTTP/2", "Tetherline, HTTP/1.1", "Mosquitto, QoS 1, TLS: keeps nothing", "one fsync of 4 KiB, for comparison"}
	trips := []func(*testing.B) time.Duration{hub.trip, http1.trip, broker.trip, disk.trip}
	took := make([][]time.Duration, len(trips))
	for n := -100; n < *sideTrips; n++ { // until everything is warm
		for i, trip := range trips {
			if d := trip(b); n >= 0 {
				took[i] = append(took[i], d)
			}
		}
	}
	t := newTable("a command there and back, one at a time", "p50", "of Mosquitto", "p99", "of Mosquitto")
	for i, name := range names {
		p50, p99 := quantile(took[i], 50), quantile(took[i], 99)
		t.row(name, millis(p50), times(float64(p50), float64(quantile(took[2], 50))), millis(p99), times(float64(p99), float64(quantile(took[2], 99))))
	}
	t.print()
	b.ReportMetric(float64(quantile(took[0], 50))/float64(quantile(took[2], 50)), "of-mosquitto")
	b.ReportMetric(0, "ns/op")
}

func micros(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}

func progress(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
