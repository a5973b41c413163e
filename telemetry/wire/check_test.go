package wire_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// with is a good message after a change.
func with(change func(*devicev1.Telemetry)) []byte {
	m := oneSeries([]int64{0, 1000}, doubles("a", 1, 2))
	change(m)
	return marshal(m)
}

// timed is a message whose rows have these times, in ns from testNow.
func timed(offsets ...time.Duration) []byte {
	m := oneSeries(nil, &devicev1.Column{Name: "a"})
	s := m.Series[0]
	s.BaseTimeUnixNs = testNow.Add(offsets[0]).UnixNano()
	for i, o := range offsets {
		if len(offsets) > 1 {
			d := time.Duration(0)
			if i > 0 {
				d = o - offsets[i-1]
			}
			s.TimeDeltaNs = append(s.TimeDeltaNs, int64(d))
		}
		s.Columns[0].Doubles = append(s.Columns[0].Doubles, 1)
	}
	return marshal(m)
}

// summed is a message with this base time and these deltas.
func summed(base int64, deltas ...int64) []byte {
	m := oneSeries(deltas, doubles("a", make([]float64, max(1, len(deltas)))...))
	m.Series[0].BaseTimeUnixNs = base
	return marshal(m)
}

// rowsOver is a message with that many rows in each series.
func rowsOver(counts ...int) []byte {
	m := &devicev1.Telemetry{Seq: 7}
	for _, n := range counts {
		s := oneSeries(make([]int64, n), doubles("a", make([]float64, n)...)).Series[0]
		m.Series = append(m.Series, s)
	}
	return marshal(m)
}

// columnsOver is a message of one row whose series have that many columns
// each, all named apart.
func columnsOver(counts ...int) []byte {
	m := &devicev1.Telemetry{Seq: 7}
	for k, n := range counts {
		var columns []*devicev1.Column
		for i := range n {
			columns = append(columns, doubles(fmt.Sprintf("f%d_%d", k, i), 1))
		}
		m.Series = append(m.Series, oneSeries(nil, columns...).Series...)
	}
	return marshal(m)
}

func named(column string) []byte { return marshal(oneSeries(nil, doubles(column, 1))) }

func measured(measurement string) []byte {
	return with(func(m *devicev1.Telemetry) { m.Series[0].Measurement = measurement })
}

func column(rows int, c *devicev1.Column) []byte {
	return marshal(oneSeries(make([]int64, rows), c))
}

var good = marshal(oneSeries(nil, doubles("a", 1)))

const tenYears = 10 * 365 * 24 * time.Hour

func TestCheck(t *testing.T) {
	const ok = 0
	seq, series := varintField(1, 7), bytesField(2, nil)
	oneRow := concat(fixed64Field(2, uint64(testNow.UnixNano())), bytesField(4, concat(bytesField(1, []byte("a")), fixed64Field(2, 0))))
	tests := []struct {
		name string
		msg  []byte
		want devicev1.RejectCode
	}{
		{"one row", good, ok},
		{"no bytes", nil, malformed},
		{"truncated", good[:len(good)-1], malformed},
		{"a group", concat(good, []byte{9<<3 | 3, 9<<3 | 4}), malformed},
		{"field number 0", concat(good, []byte{0, 0}), malformed},
		{"field number too high", concat(good, []byte{0x80, 0x80, 0x80, 0x80, 0x10, 0}), malformed},
		{"length beyond the end", concat(seq, []byte{2<<3 | 2, 5, 0}), malformed},
		{"length beyond int", concat(seq, []byte{2<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}), malformed},
		{"unknown fields", concat(good, varintField(99, 1), bytesField(100, []byte("x")), fixed32Field(101, 1)), ok},
		{"group in a series", concat(seq, bytesField(2, concat(oneRow, []byte{9<<3 | 3, 9<<3 | 4}))), malformed},
		{"broken series", concat(seq, bytesField(2, concat(oneRow, []byte{2<<3 | 1, 0}))), malformed},
		{"broken column", concat(seq, bytesField(2, bytesField(4, []byte{1<<3 | 2}))), malformed},
		{"broken doubles", concat(seq, bytesField(2, bytesField(4, bytesField(2, make([]byte, 7))))), malformed},
		{"broken floats", concat(seq, bytesField(2, bytesField(4, bytesField(3, make([]byte, 6))))), malformed},
		{"broken ints", concat(seq, bytesField(2, bytesField(4, bytesField(4, []byte{0x80})))), malformed},
		{"broken bools", concat(seq, bytesField(2, bytesField(4, bytesField(5, []byte{0x80})))), malformed},
		{"broken rows", concat(seq, bytesField(2, bytesField(4, bytesField(7, []byte{0x80})))), malformed},
		{"broken deltas", concat(seq, bytesField(2, concat(oneRow, bytesField(3, []byte{0x80})))), malformed},
		{"measurement not UTF-8", concat(seq, bytesField(2, concat(bytesField(1, []byte{0xff}), oneRow))), malformed},
		{"overridden measurement not UTF-8", concat(seq, bytesField(2, concat(bytesField(1, []byte{0xff}), bytesField(1, []byte("m")), oneRow))), malformed},
		{"name not UTF-8", concat(seq, bytesField(2, bytesField(4, bytesField(1, []byte{0xff})))), malformed},
		{"string not UTF-8", concat(seq, bytesField(2, bytesField(4, bytesField(6, []byte{0xff})))), malformed},

		{"no series", varintField(1, 7), empty},
		{"a series of nothing, out of time", concat(seq, series), badTime},
		{"a row without columns", marshal(oneSeries(nil)), empty},
		{"a row that no sparse column has", column(3, &devicev1.Column{Name: "a", Ints: []int64{1, 2}, Rows: []uint32{0, 2}}), empty},
		{"rows shared by sparse columns", marshal(oneSeries(make([]int64, 3),
			&devicev1.Column{Name: "a", Ints: []int64{1, 2}, Rows: []uint32{0, 2}},
			&devicev1.Column{Name: "b", Bools: []bool{true}, Rows: []uint32{1}})), ok},
		{"sparse column of all rows", column(2, &devicev1.Column{Name: "a", Ints: []int64{1, 2}, Rows: []uint32{0, 1}}), ok},

		{"too few values", column(3, doubles("a", 1, 2)), malformed},
		{"too many values", column(1, doubles("a", 1, 2)), malformed},
		{"no values", column(1, doubles("a")), malformed},
		{"two lists", column(1, &devicev1.Column{Name: "a", Doubles: []float64{1}, Ints: []int64{1}}), malformed},
		{"two lists that add up", column(2, &devicev1.Column{Name: "a", Doubles: []float64{1}, Floats: []float32{1}}), malformed},
		{"column twice", marshal(oneSeries(nil, doubles("a", 1), doubles("b", 1), doubles("a", 1))), malformed},
		{"column in two series", with(func(m *devicev1.Telemetry) { m.Series = append(m.Series, m.Series[0]) }), ok},
		{"rows equal", column(3, &devicev1.Column{Name: "a", Ints: []int64{1, 2, 3}, Rows: []uint32{0, 1, 1}}), malformed},
		{"rows falling", column(3, &devicev1.Column{Name: "a", Ints: []int64{1, 2}, Rows: []uint32{1, 0}}), malformed},
		{"row behind the last", column(3, &devicev1.Column{Name: "a", Ints: []int64{1, 2}, Rows: []uint32{1, 3}}), malformed},
		{"row far away", column(1, &devicev1.Column{Name: "a", Ints: []int64{1}, Rows: []uint32{math.MaxUint32}}), malformed},
		{"more rows than values", column(3, &devicev1.Column{Name: "a", Ints: []int64{1}, Rows: []uint32{0, 1}}), malformed},
		{"more values than rows", column(3, &devicev1.Column{Name: "a", Ints: []int64{1, 2, 3}, Rows: []uint32{0, 1}}), malformed},

		{"NaN", column(2, doubles("a", 1, math.NaN())), notFinite},
		{"infinity", column(1, doubles("a", math.Inf(1))), notFinite},
		{"negative infinity", column(1, doubles("a", math.Inf(-1))), notFinite},
		{"greatest double", column(2, doubles("a", math.MaxFloat64, -math.MaxFloat64)), ok},
		{"float NaN", column(1, &devicev1.Column{Name: "a", Floats: []float32{float32(math.NaN())}}), notFinite},
		{"float infinity", column(1, &devicev1.Column{Name: "a", Floats: []float32{float32(math.Inf(-1))}}), notFinite},
		{"greatest float", column(1, &devicev1.Column{Name: "a", Floats: []float32{math.MaxFloat32}}), ok},

		{"oldest", timed(-tenYears), ok},
		{"too old", timed(-tenYears - 1), badTime},
		{"newest", timed(time.Hour), ok},
		{"too new", timed(time.Hour + 1), badTime},
		{"row from oldest to newest", timed(-tenYears, time.Hour, 0), ok},
		{"later row too new", timed(0, time.Hour+1), badTime},
		{"later row too old", timed(0, -tenYears-1), badTime},
		{"back in range after leaving it", timed(0, time.Hour+1, 0), badTime},
		{"base out of range, rows not", summed(0, testNow.UnixNano()), ok},
		{"base out of range, no rows", summed(0), badTime},
		{"sum overflows", summed(math.MaxInt64, math.MaxInt64, 2), badTime},
		{"sum underflows into the range", summed(math.MinInt64, math.MinInt64+testNow.UnixNano()), badTime},
		{"later sum overflows", summed(testNow.UnixNano(), 0, math.MaxInt64), badTime},
		{"sum underflows", summed(math.MinInt64, math.MinInt64), badTime},
		{"delta overflows at once", summed(math.MinInt64, -1), badTime},
		{"extreme base", summed(math.MinInt64, math.MaxInt64, testNow.UnixNano()+1), badTime},

		{"name of 64", named(strings.Repeat("n", 64)), ok},
		{"name of 65", named(strings.Repeat("n", 65)), badName},
		{"no name", named(""), badName},
		{"digit first", named("1a"), badName},
		{"underscore", named("_"), ok},
		{"space", named("a b"), badName},
		{"line break", named("a\nb"), badName},
		{"umlaut", named("ü"), badName},
		{"time", named("time"), badName},
		{"Time", named("Time"), ok},
		{"device", named("device"), badName},
		{"_field", named("_field"), badName},
		{"_value", named("_value"), badName},
		{"_other", named("_other"), ok},
		{"measurement of 64", measured(strings.Repeat("n", 64)), ok},
		{"measurement of 65", measured(strings.Repeat("n", 65)), badName},
		{"measurement time", measured("time"), ok},
		{"measurement with a comma", measured("a,b"), badName},

		{"1000 rows", rowsOver(1000), ok},
		{"1001 rows", rowsOver(1001), tooLarge},
		{"1000 rows in two series", rowsOver(400, 600), ok},
		{"1001 rows in two series", rowsOver(400, 601), tooLarge},
		{"1000 rows and one without deltas", concat(rowsOver(1000), good), tooLarge},
		{"256 fields", columnsOver(256), ok},
		{"257 columns", columnsOver(257), tooLarge},
		{"256 fields in two series", columnsOver(200, 56), ok},
		{"257 fields in two series", columnsOver(200, 57), tooLarge},
		{"string of 4 KiB", column(1, &devicev1.Column{Name: "a", Strings: []string{strings.Repeat("s", 4096)}}), ok},
		{"string over 4 KiB", column(1, &devicev1.Column{Name: "a", Strings: []string{strings.Repeat("s", 4097)}}), tooLarge},
		{"frame of 64 KiB", padded(64 << 10), ok},
		{"frame over 64 KiB", padded(64<<10 + 1), tooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var fields wire.FieldSet
			info, err := wire.Check(tt.msg, testNow, &fields)
			if code := codeOf(t, err); code != tt.want {
				t.Fatalf("code %v (%v), want %v", code, err, tt.want)
			}
			if err != nil && (info.Rows != 0 || info.DroppedRows != 0) {
				t.Fatalf("info %+v of a rejected message", info)
			}
			compare(t, tt.msg)
		})
	}
}

// padded is a good message of that many bytes.
func padded(size int) []byte {
	const head = 2 + 3 // tag and length of an unknown field of that size
	return concat(good, bytesField(100, make([]byte, size-len(good)-head)))
}

func TestSeqOfRejected(t *testing.T) {
	bad := named("no name")
	seq := varintField(1, 7)
	rest := bad[len(seq):]
	tests := []struct {
		name string
		msg  []byte
		want uint64
	}{
		{"seq first", bad, 7},
		{"seq last", concat(rest, seq), 7},
		{"seq twice", concat(varintField(1, 8), rest, seq), 7},
		{"seq of another wire type", concat(bytesField(1, []byte("x")), bad), 7},
		{"seq absent", rest, 0},
		{"seq 0", concat(rest, varintField(1, 0)), 0},
		{"seq before the break", concat(seq, []byte{2<<3 | 2, 9}), 7},
		{"seq behind the break", concat([]byte{2<<3 | 2, 9}, seq), 0},
		{"seq broken", []byte{1 << 3, 0x80}, 0},
		{"too large", append(padded(64<<10), good...), 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var fields wire.FieldSet
			info, err := wire.Check(tt.msg, testNow, &fields)
			if err == nil {
				t.Fatal("accepted")
			}
			if info.Seq != tt.want {
				t.Fatalf("seq %d, want %d", info.Seq, tt.want)
			}
			if r := err.(*wire.Rejection); tt.want == 0 && r.Code != malformed {
				t.Fatalf("code %v without a seq", r.Code)
			}
		})
	}
}

// TestDetails shows what a person gets to read, and that a peer can make it
// neither long nor dangerous to print.
func TestDetails(t *testing.T) {
	tests := []struct {
		msg  []byte
		want string
	}{
		{named("temp\x1b[31m"), `series 0: column 0, "temp\x1b[31m": a name is a letter or '_', then up to 63 letters, digits or '_'`},
		{named("time"), `series 0: column 0, "time": the name is reserved: it is the time of a row in InfluxDB`},
		{measured("ä"), `series 0: measurement "\u00e4": a name is a letter or '_', then up to 63 letters, digits or '_'`},
		{column(2, doubles("a", 1, math.NaN())), `series 0: column 0, "a": value 1 is NaN or infinite`},
		{column(3, doubles("a", 1, 2)), `series 0: column 0, "a": it has 2 values for 3 rows`},
		{timed(0, 2*time.Hour), `series 0: time of row 1 is more than 10 years back or 1 hour ahead`},
		{rowsOver(1, 1000), `series 1: more than 1000 rows in the frame`},
		{marshal(oneSeries(nil)), `series 0: row 0 has no value`},
	}
	for _, tt := range tests {
		_, err := wire.Check(tt.msg, testNow, new(wire.FieldSet))
		if err == nil || err.Error() != tt.want {
			t.Errorf("detail %v\nwant %s", err, tt.want)
		}
	}
	for _, name := range []string{strings.Repeat("\U0001f4a5", 15000), strings.Repeat("\x00", 60000)} {
		_, err := wire.Check(named(name), testNow, new(wire.FieldSet))
		if err == nil || len(err.Error()) > 600 {
			t.Errorf("detail of %d bytes for a name of %d", len(err.Error()), len(name))
		}
	}
}
