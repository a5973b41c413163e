package wire_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// FuzzCheck: no bytes make Check panic, and whatever it accepts,
// proto.Unmarshal accepts, the oracle finds right, Rows yields as the oracle
// reads it and AppendLines writes so that it parses.
func FuzzCheck(f *testing.F) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		g := generator{Rand: rnd}
		if seed%2 == 0 {
			g.flaw = 20
		}
		f.Add(oddEncoder{rnd}.telemetry(g.telemetry()))
		f.Add(marshal(g.telemetry()))
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		compare(t, msg)
		// Unchecked bytes may fail to decode, but not panic.
		_, _ = wire.AppendLines(nil, telemetry.NewBatch([]telemetry.Entry{entryOf(msg, 2)}))
	})
}

// FuzzLines: values and labels read back from the line as they were. The
// parser is that of parseLines.
func FuzzLines(f *testing.F) {
	f.Add("plain", 21.5, int64(-1), true, "site", "north")
	f.Add("a \"b\\\n,=", 5e-324, int64(math.MinInt64), false, `k\ k`, `v\`)
	f.Add("\\", math.Copysign(0, -1), int64(0), false, "a,b", "c=d e")
	f.Add("\"\\\"", 1e300, int64(math.MaxInt64), true, "device", "x")
	f.Add("\x00\r\n", 900719925474.0991, int64(1), true, "", "\x7f\n")
	f.Fuzz(func(t *testing.T, s string, d float64, i int64, b bool, key, value string) {
		if !utf8.ValidString(s) || len(s) > telemetry.MaxStringBytes || math.IsNaN(d) || math.IsInf(d, 0) {
			return
		}
		msg := marshal(oneSeries(nil,
			&devicev1.Column{Name: "s", Strings: []string{s}}, doubles("d", d),
			&devicev1.Column{Name: "i", Ints: []int64{i}}, &devicev1.Column{Name: "b", Bools: []bool{b}},
			&devicev1.Column{Name: "s2", Strings: []string{s}}))
		e := entryOf(msg, 1)
		e.Labels = string(wire.AppendLabel(nil, key, value))
		lines, err := wire.AppendLines(nil, telemetry.NewBatch([]telemetry.Entry{e}))
		if err != nil {
			t.Fatal(err)
		}
		rows := parseLines(t, lines)
		want := []telemetry.Row{row("telemetry", 0,
			telemetry.Field{Name: "s", Value: telemetry.StringValue(s)},
			telemetry.Field{Name: "d", Value: telemetry.DoubleValue(d)},
			telemetry.Field{Name: "i", Value: telemetry.IntValue(i)},
			telemetry.Field{Name: "b", Value: telemetry.BoolValue(b)},
			telemetry.Field{Name: "s2", Value: telemetry.StringValue(s)})}
		want[0].Labels = ""
		if len(rows) == 1 {
			rows[0].Labels = "" // what it may turn into is in TestAppendLabel
		}
		sameRows(t, rows, want)
	})
}
