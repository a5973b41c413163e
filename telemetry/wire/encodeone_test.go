package wire

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/tetherline/tetherline/telemetry"
)

// A row alone is encoded to the same bytes as by way of columns.
func TestEncodeOneIsEncode(t *testing.T) {
	values := []telemetry.Value{
		telemetry.DoubleValue(21.5), telemetry.DoubleValue(0), telemetry.FloatValue(1.25), telemetry.IntValue(0), telemetry.IntValue(-1),
		telemetry.IntValue(math.MaxInt64), telemetry.IntValue(math.MinInt64), telemetry.BoolValue(true), telemetry.BoolValue(false),
		telemetry.StringValue(""), telemetry.StringValue("on"), telemetry.StringValue(string(bytes.Repeat([]byte("x"), 300))),
	}
	for n := 1; n <= len(values); n++ {
		for _, measurement := range []string{"", telemetry.DefaultMeasurement, "climate"} {
			row := telemetry.Row{Measurement: measurement, Time: 1_700_000_000_123_456_789 * int64(1-2*(n%2))}
			for i, v := range values[len(values)-n:] {
				row.Fields = append(row.Fields, telemetry.Field{Name: fmt.Sprintf("f%0*d", 1+i*5, i), Value: v})
			}
			one, ok := encodeOne(7, &row)
			if !ok {
				t.Fatalf("%d fields are not encoded", n)
			}
			s, _, err := gather([]*telemetry.Row{&row})
			if err != nil {
				t.Fatal(err)
			}
			many := append([]byte{telemetrySeq << 3, 7, telemetrySeries<<3 | 2}, lengthOf(s.append(nil))...)
			if many = append(many, s.append(nil)...); !bytes.Equal(one, many) {
				t.Errorf("%d fields, measurement %q:\n%x\n%x", n, measurement, one, many)
			}
			if allocs := testing.AllocsPerRun(10, func() { encodeOne(7, &row) }); allocs > 1 {
				t.Errorf("%v allocations", allocs)
			}
		}
	}
	for _, fields := range [][]telemetry.Field{
		nil, {{Name: "a"}}, {{Name: "a", Value: values[0]}, {Name: "a", Value: values[0]}}, make([]telemetry.Field, oneFields+1),
	} {
		if _, ok := encodeOne(1, &telemetry.Row{Fields: fields}); ok {
			t.Errorf("%v are encoded", fields)
		}
	}
}

func lengthOf(b []byte) []byte {
	var out []byte
	n := len(b)
	for n >= 0x80 {
		out = append(out, byte(n)|0x80)
		n >>= 7
	}
	return append(out, byte(n))
}

func BenchmarkEncodeOne(b *testing.B) {
	row := telemetry.Row{Measurement: "telemetry", Time: 1}
	for i := range 10 {
		row.Fields = append(row.Fields, telemetry.Field{Name: fmt.Sprintf("f%d", i), Value: telemetry.DoubleValue(float64(i))})
	}
	rows := []telemetry.Row{row}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode(1, rows); err != nil {
			b.Fatal(err)
		}
	}
}
