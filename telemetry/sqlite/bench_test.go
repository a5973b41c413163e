package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// BenchmarkWrite measures values a second, with an fsync for every batch of
// 10,000 values from 100 devices. The identities are new in every batch.
func BenchmarkWrite(b *testing.B) {
	for _, shape := range []struct{ rows, fields int }{{10, 10}, {1, 10}, {100, 1}} {
		b.Run(fmt.Sprintf("rows=%d/fields=%d", shape.rows, shape.fields), func(b *testing.B) {
			s, err := Open(b.Context(), Config{Path: filepath.Join(b.TempDir(), "telemetry.db")})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() {
				if err := s.Close(); err != nil {
					b.Error(err)
				}
			})
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

// benchBatch is about 10,000 values in frames of rows.
func benchBatch(b *testing.B, n, rows, fields int) telemetry.Batch {
	frames := 10_000 / rows / fields
	entries := make([]telemetry.Entry, frames)
	for i := range entries {
		device := fmt.Sprintf("device-%03d", i%100)
		list := make([]telemetry.Row, rows)
		for j := range list {
			t := int64(1_700_000_000_000_000_000) + int64((n*frames+i)*rows+j)*1e6
			list[j] = telemetry.Row{Device: device, Measurement: "telemetry", Time: t}
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
