package wire_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

func row(measurement string, at int64, fields ...telemetry.Field) telemetry.Row {
	return telemetry.Row{
		Device: "dev", Labels: ",site=north", Measurement: measurement, Time: testNow.UnixNano() + at, Fields: fields,
	}
}

func f(name string, v telemetry.Value) telemetry.Field { return telemetry.Field{Name: name, Value: v} }

func TestEncode(t *testing.T) {
	rows := []telemetry.Row{
		row("telemetry", 0, f("a", telemetry.DoubleValue(1.5)), f("s", telemetry.StringValue(""))),
		row("motor", 0, f("rpm", telemetry.IntValue(math.MinInt64))),
		row("telemetry", -9, f("s", telemetry.StringValue("x")), f("b", telemetry.FloatValue(0.1))),
		row("motor", 1, f("rpm", telemetry.DoubleValue(2)), f("on", telemetry.BoolValue(true))),
		row("telemetry", -9, f("a", telemetry.DoubleValue(-0.5)), f("s", telemetry.StringValue("y"))),
	}
	msg, err := wire.Encode(9, rows)
	if err != nil {
		t.Fatal(err)
	}
	var got devicev1.Telemetry
	if err := proto.Unmarshal(msg, &got); err != nil {
		t.Fatal(err)
	}
	at := testNow.UnixNano()
	want := &devicev1.Telemetry{Seq: 9, Series: []*devicev1.Series{
		{BaseTimeUnixNs: at, TimeDeltaNs: []int64{0, -9, 0}, Columns: []*devicev1.Column{
			{Name: "a", Doubles: []float64{1.5, -0.5}, Rows: []uint32{0, 2}},
			{Name: "s", Strings: []string{"", "x", "y"}},
			{Name: "b", Floats: []float32{0.1}, Rows: []uint32{1}},
		}},
		{Measurement: "motor", BaseTimeUnixNs: at, Columns: []*devicev1.Column{{Name: "rpm", Ints: []int64{math.MinInt64}}}},
		{Measurement: "motor", BaseTimeUnixNs: at + 1, Columns: []*devicev1.Column{
			{Name: "rpm", Doubles: []float64{2}}, {Name: "on", Bools: []bool{true}},
		}},
	}}
	if !proto.Equal(&got, want) {
		t.Fatalf("got  %v\nwant %v", &got, want)
	}
	if !compare(t, msg) {
		t.Fatal("Check rejects what Encode made")
	}
}

func TestEncodeRefuses(t *testing.T) {
	one := f("a", telemetry.IntValue(1))
	for name, rows := range map[string][]telemetry.Row{
		"no fields":   {row("m", 0)},
		"later one":   {row("m", 0, one), row("m", 1)},
		"no value":    {row("m", 0, f("a", telemetry.Value{}))},
		"field twice": {row("m", 0, one, f("b", telemetry.IntValue(1)), one)},
		"two kinds":   {row("m", 0, one, f("a", telemetry.BoolValue(true)))},
	} {
		if _, err := wire.Encode(1, rows); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := wire.Encode(0, []telemetry.Row{row("m", 0, one)}); err == nil {
		t.Error("seq 0: no error")
	}
}

// sorted puts rows into the order that Encode promises, and their fields into
// order by name: Encode keeps neither the interleaving of measurements nor
// that of fields.
func sorted(rows []telemetry.Row) []telemetry.Row {
	first := map[string]int{}
	for i, r := range rows {
		if _, ok := first[r.Measurement]; !ok {
			first[r.Measurement] = i
		}
	}
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Fields = slices.Clone(rows[i].Fields)
		slices.SortFunc(rows[i].Fields, func(a, b telemetry.Field) int { return compareStrings(a.Name, b.Name) })
	}
	slices.SortStableFunc(rows, func(a, b telemetry.Row) int { return first[a.Measurement] - first[b.Measurement] })
	return rows
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func TestExtract(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		msg := oddEncoder{rnd}.telemetry(generator{Rand: rnd}.telemetry())
		info, err := wire.Check(msg, testNow, new(wire.FieldSet))
		if err != nil {
			t.Fatal(err)
		}
		whole := telemetry.NewBatch([]telemetry.Entry{entryOf(msg, info.Rows)})
		i := rnd.IntN(info.Rows)
		part := whole.Slice(i, i+1+rnd.IntN(info.Rows-i))
		want := rowsOf(t, part)
		e, err := wire.Extract(part)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := wire.Check(e.Telemetry, testNow, new(wire.FieldSet)); err != nil || again.Rows != e.Rows || again.Seq != 1 {
			t.Fatalf("seed %d: extracted entry: %+v, %v", seed, again, err)
		}
		if e.Rows != part.Rows || e.Received != 1 {
			t.Fatalf("seed %d: entry %+v", seed, e)
		}
		sameRows(t, sorted(rowsOf(t, telemetry.NewBatch([]telemetry.Entry{e}))), sorted(want))
	}
}

func TestExtractRefuses(t *testing.T) {
	other, relabeled := entryOf(good, 1), entryOf(good, 1)
	other.Device = "other"
	relabeled.Labels = ""
	for name, b := range map[string]telemetry.Batch{
		"no rows":     {},
		"two devices": telemetry.NewBatch([]telemetry.Entry{entryOf(good, 1), other}),
		"two labels":  telemetry.NewBatch([]telemetry.Entry{entryOf(good, 1), relabeled}),
		"corrupt":     telemetry.NewBatch([]telemetry.Entry{entryOf(good[:9], 1)}),
	} {
		if _, err := wire.Extract(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestExtractShares: what is extracted outlives the chunk it came from.
func TestExtractShares(t *testing.T) {
	chunk := []byte("devXlabelsX")
	e := entryOf(slices.Clone(good), 1)
	e.Device = unsafe.String(&chunk[0], 3)
	got, err := wire.Extract(telemetry.NewBatch([]telemetry.Entry{e}))
	if err != nil {
		t.Fatal(err)
	}
	clear(chunk)
	clear(e.Telemetry)
	if got.Device != "dev" || !compare(t, got.Telemetry) {
		t.Fatalf("extracted entry changed: %+v", got)
	}
}
