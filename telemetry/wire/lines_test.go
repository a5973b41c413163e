package wire_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

func linesOf(t *testing.T, m *devicev1.Telemetry) string {
	t.Helper()
	msg := marshal(m)
	info, err := wire.Check(msg, testNow, new(wire.FieldSet))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := wire.AppendLines(nil, telemetry.NewBatch([]telemetry.Entry{entryOf(msg, info.Rows)}))
	if err != nil {
		t.Fatal(err)
	}
	return string(lines)
}

func TestLines(t *testing.T) {
	m := oneSeries([]int64{0, 5_000_000, -7},
		doubles("temp", 21.5, -0.25, 1e300),
		&devicev1.Column{Name: "rssi", Ints: []int64{-70, math.MinInt64}, Rows: []uint32{0, 2}},
		&devicev1.Column{Name: "on", Bools: []bool{true, false, true}},
		&devicev1.Column{Name: "small", Floats: []float32{0.1}, Rows: []uint32{1}},
		&devicev1.Column{Name: "state", Strings: []string{`say "hi" \ bye`, ""}, Rows: []uint32{1, 2}})
	m.Series = append(m.Series, &devicev1.Series{
		Measurement: "motor", BaseTimeUnixNs: testNow.UnixNano(), Columns: []*devicev1.Column{doubles("rpm", 1500)},
	})
	want := `telemetry,device=dev,site=north temp=21.5,rssi=-70i,on=t 1782907200000000000
telemetry,device=dev,site=north temp=-0.25,on=f,small=0.10000000149011612,state="say \"hi\" \\ bye" 1782907200005000000
telemetry,device=dev,site=north temp=1e+300,rssi=-9223372036854775808i,on=t,state="" 1782907200004999993
motor,device=dev,site=north rpm=1500 1782907200000000000
`
	if got := linesOf(t, m); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

// TestStrings puts everything into a string that line protocol cares about.
// Line breaks stay as they are: the parsers of InfluxDB 1.8 and 2 keep them
// within quotes, and would store a backslash and an "n" for an escape.
func TestStrings(t *testing.T) {
	texts := []string{
		"", " ", `"`, `\`, `\\`, `\"`, `"\`, "\n", "\r\n", `\n`, "a\\\nb", "x,y=z", "a \"b", "#", "ends in \\",
		"\x00\x01\x7f", "\u2028", "日本語", strings.Repeat(`\"`, 2048),
	}
	m := oneSeries(make([]int64, len(texts)), &devicev1.Column{Name: "s", Strings: texts}, doubles("after", make([]float64, len(texts))...))
	rows := parseLines(t, []byte(linesOf(t, m)))
	if len(rows) != len(texts) {
		t.Fatalf("%d rows, want %d", len(rows), len(texts))
	}
	for i, r := range rows {
		if got := r.Fields[0].Value.Str(); got != texts[i] {
			t.Errorf("%q came back as %q", texts[i], got)
		}
		if len(r.Fields) != 2 {
			t.Errorf("%d fields after %q", len(r.Fields), texts[i])
		}
	}
	if want := "s=\"a\\\\\nb\""; !strings.Contains(linesOf(t, m), want) {
		t.Errorf("a line break does not stand as it is")
	}
}

// TestFloats: every float64 reads back bit for bit, and what has few decimals
// is written with no more than those.
func TestFloats(t *testing.T) {
	written := map[float64]string{
		0: "0", 1: "1", -1: "-1", 0.5: "0.5", -21.25: "-21.25", 100: "100", 1e4: "10000", 3.0001: "3.0001", 0.0001: "0.0001",
		1e21: "1e+21", 1e-7: "1e-07", math.MaxFloat64: "1.7976931348623157e+308", 5e-324: "5e-324", 0.00001: "1e-05",
		1.00005: "1.00005", 0.30000000000000004: "0.30000000000000004", 123456.7891: "123456.7891", 900719925474: "900719925474",
		1 << 53: "9.007199254740992e+15", 1<<53/1e4 + 1: "9.007199254750992e+11",
	}
	values := []float64{math.Copysign(0, -1), math.Nextafter(0.1, 1), math.Nextafter(1<<53/1e4, 0), -900719925473.9999, 900719925474.0991}
	for v, want := range written {
		if got := linesOf(t, oneSeries(nil, doubles("v", v))); !strings.Contains(got, " v="+want+" ") {
			t.Errorf("%g is written in %s, want %s", v, got, want)
		}
	}
	rnd := rand.New(rand.NewPCG(3, 3))
	for len(values) < 1000 {
		switch v := math.Float64frombits(rnd.Uint64()); rnd.IntN(3) {
		case 0:
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				values = append(values, v)
			}
		case 1:
			values = append(values, math.Round(rnd.NormFloat64()*1e6)/math.Pow10(rnd.IntN(8)))
		case 2:
			v = float64(rnd.Int64N(1<<53)) / 1e4
			values = append(values, v, math.Nextafter(v, 0))
		}
	}
	values = values[:1000]
	rows := parseLines(t, []byte(linesOf(t, oneSeries(make([]int64, len(values)), doubles("v", values...)))))
	for i, r := range rows {
		if got := r.Fields[0].Value.Float64(); math.Float64bits(got) != math.Float64bits(values[i]) {
			t.Errorf("%v (%x) came back as %v", values[i], math.Float64bits(values[i]), got)
		}
	}
}

func TestAppendLinesKeepsDst(t *testing.T) {
	b := telemetry.NewBatch([]telemetry.Entry{entryOf(good, 1), entryOf(good[:len(good)-1], 1)})
	got, err := wire.AppendLines([]byte("before\n"), b)
	if err == nil || string(got) != "before\n" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestAppendLabel(t *testing.T) {
	tests := []struct{ key, value, want string }{
		{"site", "north", ",site=north"},
		{"site", "", ""},
		{"", "north", ""},
		{"a b", "c,d=e f", `,a\ b=c\,d\=e\ f`},
		{`back\slash`, `c:\dir`, `,back\slash=c:\dir`},
		{"k", `before\ space\,\\=\x\`, `,k=before\ space\,\=\x`},
		{`device\`, "other", ""},
		{"k", "before\\\nbreak", `,k=before\ break`},
		{"k", `ends\\`, `,k=ends`},
		{"k", `\`, ""},
		{"k", "line\nbreak\r\ttab\x00\x7f", `,k=line\ break\ \ tab\ \ `},
		{"k", "bad\xffutf8", ",k=bad\ufffdutf8"},
		{"k", `"quoted"`, `,k="quoted"`},
		{"größe", "日本", ",größe=日本"},
		{"device", "other", ""},
		{"time", "now", ""},
		{"_field", "x", ""},
		{"_time", "x", ""},
	}
	for _, tt := range tests {
		if got := string(wire.AppendLabel([]byte("x"), tt.key, tt.value)); got != "x"+tt.want {
			t.Errorf("label %q=%q is %s, want %s", tt.key, tt.value, got[1:], tt.want)
		}
	}
}

// TestLabelsReadBack: no such label breaks the line it is in, and all that InfluxDB
// can store is stored.
func TestLabelsReadBack(t *testing.T) {
	for _, value := range []string{"north", "a b", "a,b", "a=b", `a\b`, `\\a`, `\"`, `a\tb`, `"`, `a" b="`, "ä", "# x"} {
		e := entryOf(good, 1)
		e.Labels = string(wire.AppendLabel(wire.AppendLabel(nil, "first", value), value, "second"))
		lines, err := wire.AppendLines(nil, telemetry.NewBatch([]telemetry.Entry{e}))
		if err != nil {
			t.Fatal(err)
		}
		rows := parseLines(t, lines)
		// The server sorts tags by their keys.
		want := []string{",first=" + value + "," + value + "=second", "," + value + "=second,first=" + value}
		if len(rows) != 1 || !slices.Contains(want, rows[0].Labels) || len(rows[0].Fields) != 1 {
			t.Errorf("%q came back as %+v", value, rows)
		}
	}
}
