package influx

import (
	"fmt"
	"testing"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// BenchmarkWrite measures values a second into a real server on the same
// machine, in requests of 50,000 values. The identities are new in each.
func BenchmarkWrite(b *testing.B) {
	for _, shape := range []struct{ rows, fields int }{{10, 10}, {1, 10}, {100, 1}} {
		for _, gzip := range []bool{false, true} {
			b.Run(fmt.Sprintf("rows=%d/fields=%d/gzip=%t", shape.rows, shape.fields, gzip), func(b *testing.B) {
				s := open(b, influxtest.Start(b), func(c *Config) { c.Gzip = gzip })
				values, n := 0, 0
				for b.Loop() {
					b.StopTimer()
					n++
					batch := benchBatch(b, n, shape.rows, shape.fields)
					values += batch.Rows * shape.fields
					b.StartTimer()
					if err := s.Write(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(values)/b.Elapsed().Seconds(), "values/s")
			})
		}
	}
}

func benchBatch(b *testing.B, n, rows, fields int) telemetry.Batch {
	frames := 50_000 / rows / fields
	entries := make([]telemetry.Entry, frames)
	for i := range entries {
		device := fmt.Sprintf("device-%03d", i%100)
		list := make([]telemetry.Row, rows)
		for j := range list {
			list[j] = telemetry.Row{Device: device, Measurement: "telemetry", Time: at(0) + int64((n*frames+i)*rows+j)*1e6}
			for k := range fields {
				list[j].Fields = append(list[j].Fields, telemetry.Field{Name: fmt.Sprintf("f%d", k), Value: telemetry.DoubleValue(float64(n*k) * 0.1)})
			}
		}
		bytes, err := wire.Encode(uint64(n), list)
		if err != nil {
			b.Fatal(err)
		}
		entries[i] = telemetry.Entry{Device: device, Rows: rows, Telemetry: bytes}
	}
	return telemetry.NewBatch(entries)
}
