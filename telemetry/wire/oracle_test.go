package wire_test

import (
	"math"
	"math/big"
	"regexp"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

const (
	malformed = devicev1.RejectCode_REJECT_CODE_MALFORMED
	notFinite = devicev1.RejectCode_REJECT_CODE_NOT_FINITE
	badTime   = devicev1.RejectCode_REJECT_CODE_TIME_OUT_OF_RANGE
	badName   = devicev1.RejectCode_REJECT_CODE_BAD_NAME
	tooLarge  = devicev1.RejectCode_REJECT_CODE_TOO_LARGE
	empty     = devicev1.RejectCode_REJECT_CODE_EMPTY
)

// oracle judges a message after proto.Unmarshal, by the rules as proto/ and
// the design state them, in the plainest way.
type oracle struct {
	codes  map[devicev1.RejectCode]bool // everything that is wrong with it
	rows   []telemetry.Row
	fields map[[2]string]bool
}

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

func judge(msg []byte, m *devicev1.Telemetry, now time.Time) *oracle {
	o := &oracle{codes: map[devicev1.RejectCode]bool{}, fields: map[[2]string]bool{}}
	o.wrong(m.Seq == 0, malformed)
	o.wrong(len(msg) > 64*1024, tooLarge)
	o.wrong(hasGroup(msg, 0), malformed)
	for _, s := range m.Series {
		o.series(s, now)
	}
	o.wrong(len(m.Series) == 0, empty)
	o.wrong(len(o.rows) > 1000, tooLarge)
	o.wrong(len(o.fields) > 256, tooLarge)
	return o
}

func (o *oracle) wrong(is bool, code devicev1.RejectCode) {
	if is {
		o.codes[code] = true
	}
}

func (o *oracle) series(s *devicev1.Series, now time.Time) {
	measurement := s.Measurement
	if measurement == "" {
		measurement = "telemetry"
	}
	o.wrong(!namePattern.MatchString(measurement), badName)
	o.wrong(len(s.Columns) > 256, tooLarge)
	deltas := s.TimeDeltaNs
	if len(deltas) == 0 {
		deltas = []int64{0}
	}
	rows := make([]telemetry.Row, len(deltas))
	at := big.NewInt(s.BaseTimeUnixNs)
	oldest, newest := big.NewInt(now.Add(-87600*time.Hour).UnixNano()), big.NewInt(now.Add(time.Hour).UnixNano())
	for i, d := range deltas {
		at.Add(at, big.NewInt(d))
		o.wrong(at.Cmp(oldest) < 0 || at.Cmp(newest) > 0, badTime)
		rows[i] = telemetry.Row{Device: "dev", Measurement: measurement, Labels: ",site=north", Time: at.Int64()}
	}
	names := map[string]bool{}
	for _, c := range s.Columns {
		o.wrong(!namePattern.MatchString(c.Name) || wire.ReservedColumn(c.Name), badName)
		o.wrong(names[c.Name], malformed)
		names[c.Name] = true
		o.fields[[2]string{measurement, c.Name}] = true
		o.column(c, rows)
	}
	for _, r := range rows {
		o.wrong(len(r.Fields) == 0, empty)
	}
	o.rows = append(o.rows, rows...)
}

func (o *oracle) column(c *devicev1.Column, rows []telemetry.Row) {
	var values []telemetry.Value
	lists := 0
	for _, n := range []int{len(c.Doubles), len(c.Floats), len(c.Ints), len(c.Bools), len(c.Strings)} {
		if n > 0 {
			lists++
		}
	}
	o.wrong(lists != 1, malformed)
	for _, v := range c.Doubles {
		o.wrong(math.IsNaN(v) || math.IsInf(v, 0), notFinite)
		values = append(values, telemetry.DoubleValue(v))
	}
	for _, v := range c.Floats {
		o.wrong(math.IsNaN(float64(v)) || math.IsInf(float64(v), 0), notFinite)
		values = append(values, telemetry.FloatValue(v))
	}
	for _, v := range c.Ints {
		values = append(values, telemetry.IntValue(v))
	}
	for _, v := range c.Bools {
		values = append(values, telemetry.BoolValue(v))
	}
	for _, v := range c.Strings {
		o.wrong(len(v) > 4096, tooLarge)
		values = append(values, telemetry.StringValue(v))
	}
	if len(c.Rows) == 0 {
		o.wrong(len(values) != len(rows), malformed)
	} else {
		o.wrong(len(values) != len(c.Rows), malformed)
	}
	for i, v := range values {
		row := uint64(i)
		if len(c.Rows) > 0 && i < len(c.Rows) {
			row = uint64(c.Rows[i])
			o.wrong(i > 0 && c.Rows[i] <= c.Rows[i-1], malformed)
			o.wrong(row >= uint64(len(rows)), malformed)
		}
		if row < uint64(len(rows)) {
			rows[row].Fields = append(rows[row].Fields, telemetry.Field{Name: c.Name, Value: v})
		}
	}
}

// hasGroup reports whether there is a group at any level of a Telemetry
// message; depth 0 is the message, 1 a series, 2 a column.
func hasGroup(b []byte, depth int) bool {
	nested := []protowire.Number{2, 4, 0}[depth]
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		if typ == protowire.StartGroupType || typ == protowire.EndGroupType {
			return true
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return false
		}
		if typ == protowire.BytesType && num == nested {
			body, _ := protowire.ConsumeBytes(b)
			if hasGroup(body, depth+1) {
				return true
			}
		}
		b = b[n:]
	}
	return false
}

// compare is the property: Check accepts a message exactly where the oracle
// does, else for one of the oracle's reasons, and an accepted message decodes
// to the oracle's rows. It reports whether the message was accepted.
func compare(t *testing.T, msg []byte) bool {
	t.Helper()
	var fields wire.FieldSet
	info, err := wire.Check(msg, testNow, &fields)
	code := codeOf(t, err)
	var m devicev1.Telemetry
	if uerr := proto.Unmarshal(msg, &m); uerr != nil {
		if err == nil {
			t.Fatalf("Check accepts what proto.Unmarshal does not: %v", uerr)
		}
		wantUnused(t, &fields)
		return false
	}
	o := judge(msg, &m, testNow)
	if err != nil {
		if !o.codes[code] {
			t.Fatalf("Check rejects with %v (%v); the oracle finds %v", code, err, o.codes)
		}
		if info.Seq != m.Seq && !hasGroup(msg, 0) {
			t.Fatalf("seq %d of a rejected message, want %d", info.Seq, m.Seq)
		}
		wantUnused(t, &fields)
		return false
	}
	if len(o.codes) > 0 {
		t.Fatalf("Check accepts what the oracle refuses: %v", o.codes)
	}
	if want := (wire.Info{Seq: m.Seq, Rows: len(o.rows), DroppedRows: m.DroppedRows}); info != want {
		t.Fatalf("info %+v, want %+v", info, want)
	}
	if fields.Len() != len(o.fields) {
		t.Fatalf("%d fields remembered, want %d", fields.Len(), len(o.fields))
	}
	wantRows(t, entryOf(msg, len(o.rows)), o.rows)
	return true
}

func wantUnused(t *testing.T, fields *wire.FieldSet) {
	t.Helper()
	if fields.Len() != 0 {
		t.Fatalf("a rejected message left %d fields behind", fields.Len())
	}
}

func codeOf(t *testing.T, err error) devicev1.RejectCode {
	t.Helper()
	if err == nil {
		return 0
	}
	r, ok := err.(*wire.Rejection)
	if !ok {
		t.Fatalf("error is a %T", err)
	}
	if r.Code == 0 || r.Detail == "" || len(r.Detail) > 1024 {
		t.Fatalf("rejection without a code, or with a detail of %d bytes", len(r.Detail))
	}
	return r.Code
}

func entryOf(msg []byte, rows int) telemetry.Entry {
	return telemetry.Entry{Device: "dev", Labels: ",site=north", Received: 1, Rows: rows, Telemetry: msg}
}

// wantRows checks that Rows yields want from the entry, as a whole and in
// slices, and that AppendLines writes the same.
func wantRows(t *testing.T, e telemetry.Entry, want []telemetry.Row) {
	t.Helper()
	whole := telemetry.NewBatch([]telemetry.Entry{e})
	i, j := len(want)/3, (2*len(want)+2)/3
	for _, part := range []struct {
		b    telemetry.Batch
		want []telemetry.Row
	}{{whole, want}, {whole.Slice(i, j), want[i:j]}} {
		sameRows(t, rowsOf(t, part.b), part.want)
		lines, err := wire.AppendLines([]byte("# before\n"), part.b)
		if err != nil {
			t.Fatal(err)
		}
		sameRows(t, parseLines(t, lines), stored(part.want))
	}
}

// rowsOf are copies of the rows of b.
func rowsOf(t *testing.T, b telemetry.Batch) []telemetry.Row {
	t.Helper()
	var rows []telemetry.Row
	err := wire.Rows(b, func(r *telemetry.Row) error {
		c := *r
		c.Fields = append([]telemetry.Field(nil), r.Fields...)
		rows = append(rows, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func sameRows(t *testing.T, got, want []telemetry.Row) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		same := g.Device == w.Device && g.Measurement == w.Measurement && g.Time == w.Time &&
			g.Labels == w.Labels && len(g.Fields) == len(w.Fields)
		for k := 0; same && k < len(g.Fields); k++ {
			same = g.Fields[k] == w.Fields[k]
		}
		if !same {
			t.Fatalf("row %d is\n%+v, want\n%+v", i, g, w)
		}
	}
}
