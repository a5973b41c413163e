package wire_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// shapes of the frames that are measured; all have 10 double fields.
var shapes = []struct {
	name     string
	rows     int
	decimals bool // values of two decimals, as sensors send them; else of full length
}{
	{"1x10", 1, true},
	{"10x10", 10, true},
	{"100x10", 100, true},
	{"10x10full", 10, false},
}

func benchmarkRows(rows int, decimals bool) []telemetry.Row {
	rnd := rand.New(rand.NewPCG(1, uint64(rows)))
	all := make([]telemetry.Row, rows)
	for i := range all {
		all[i].Time = testNow.UnixNano() + int64(i)*int64(100*time.Millisecond)
		for k := range 10 {
			v := rnd.Float64() * 1000
			if decimals {
				v = float64(int(v*100)) / 100
			}
			all[i].Fields = append(all[i].Fields, telemetry.Field{Name: fmt.Sprintf("sensor_%d", k), Value: telemetry.DoubleValue(v)})
		}
	}
	return all
}

func benchmarkFrame(b *testing.B, rows int, decimals bool) []byte {
	msg, err := wire.Encode(7, benchmarkRows(rows, decimals))
	if err != nil {
		b.Fatal(err)
	}
	return msg
}

func perRow(b *testing.B, rows int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
}

func BenchmarkCheck(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			msg := benchmarkFrame(b, s.rows, s.decimals)
			var fields wire.FieldSet
			b.ReportAllocs()
			for b.Loop() {
				if _, err := wire.Check(msg, testNow, &fields); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b, s.rows)
		})
	}
}

func BenchmarkAppendLines(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			batch := telemetry.NewBatch([]telemetry.Entry{{
				Device: "device-0001", Rows: s.rows, Telemetry: benchmarkFrame(b, s.rows, s.decimals),
			}})
			var lines []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if lines, err = wire.AppendLines(lines[:0], batch); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b, s.rows)
		})
	}
}

func BenchmarkRows(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			batch := telemetry.NewBatch([]telemetry.Entry{{
				Device: "device-0001", Rows: s.rows, Telemetry: benchmarkFrame(b, s.rows, s.decimals),
			}})
			b.ReportAllocs()
			for b.Loop() {
				if err := wire.Rows(batch, func(*telemetry.Row) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b, s.rows)
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			rows := benchmarkRows(s.rows, s.decimals)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := wire.Encode(7, rows); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b, s.rows)
		})
	}
}
