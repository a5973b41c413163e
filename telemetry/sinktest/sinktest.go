// Package sinktest is the contract of telemetry.Sink and telemetry.Reader as
// tests. Every store passes the same ones.
package sinktest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of the tests, wherever they run

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// Open gives the store under test. It may hand out the same one again, as far
// as fields of one name may have several types: each test uses devices of its
// own.
type Open func(t *testing.T) (telemetry.Sink, telemetry.Reader)

// Run runs the contract.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"Empty", (*suite).empty},
		{"Kinds", (*suite).kinds},
		{"Numbers", (*suite).numbers},
		{"Strings", (*suite).strings},
		{"Times", (*suite).times},
		{"Upsert", (*suite).upsert},
		{"Merge", (*suite).merge},
		{"LabelsChange", (*suite).labelsChange},
		{"SparseColumns", (*suite).sparse},
		{"Measurements", (*suite).measurements},
		{"Isolation", (*suite).isolation},
		{"NamesOfTags", (*suite).namesOfTags},
		{"BatchSlices", (*suite).slices},
		{"LargeFrames", (*suite).largeFrames},
		{"Latest", (*suite).latest},
		{"RawPages", (*suite).rawPages},
		{"PagesWhileWriting", (*suite).pagesWhileWriting},
		{"PageBytes", (*suite).pageBytes},
		{"Aggregates", (*suite).aggregates},
		{"WindowPages", (*suite).windowPages},
		{"WindowsAcrossClockChanges", (*suite).clockChanges},
		{"WholeRange", (*suite).wholeRange},
		{"OpenRanges", (*suite).openRanges},
		{"Count", (*suite).count},
		{"BadQueries", (*suite).badQueries},
		{"BadPageTokens", (*suite).badPageTokens},
		{"CanceledContext", (*suite).canceled},
		{"Concurrent", (*suite).concurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			sink, reader := open(t)
			c.run(&suite{T: t, sink: sink, reader: reader, prefix: strings.ToLower(c.name)})
		})
	}
}

// suite is one test with its store.
type suite struct {
	*testing.T

	sink   telemetry.Sink
	reader telemetry.Reader
	prefix string
	seq    uint64
}

// base is the time of most rows: an ordinary Wednesday.
var base = time.Date(2024, 5, 15, 10, 0, 0, 0, time.UTC)

// device is an id that no other test uses.
func (s *suite) device(name string) string { return s.prefix + "_" + name }

func (s *suite) ctx() context.Context { return s.T.Context() }

// row makes a row of DefaultMeasurement; fields are pairs of a name and a
// float64, float32, int, int64, bool or string.
func row(t time.Time, fields ...any) telemetry.Row {
	r := telemetry.Row{Measurement: telemetry.DefaultMeasurement, Time: t.UnixNano()}
	for i := 0; i < len(fields); i += 2 {
		r.Fields = append(r.Fields, telemetry.Field{Name: fields[i].(string), Value: value(fields[i+1])})
	}
	return r
}

func value(v any) telemetry.Value {
	switch v := v.(type) {
	case float64:
		return telemetry.DoubleValue(v)
	case float32:
		return telemetry.FloatValue(v)
	case int:
		return telemetry.IntValue(int64(v))
	case int64:
		return telemetry.IntValue(v)
	case bool:
		return telemetry.BoolValue(v)
	case string:
		return telemetry.StringValue(v)
	}
	panic(fmt.Sprintf("sinktest: %T is no value", v))
}

// entry is one frame with the rows of a device.
func (s *suite) entry(device, labels string, rows ...telemetry.Row) telemetry.Entry {
	s.Helper()
	for i := range rows {
		rows[i].Device = device
	}
	s.seq++
	bytes, err := wire.Encode(s.seq, rows)
	if err != nil {
		s.Fatal(err)
	}
	return telemetry.Entry{Device: device, Labels: labels, Rows: len(rows), Telemetry: bytes}
}

// write stores rows of a device in frames of at most MaxFrameRows.
func (s *suite) write(device string, rows ...telemetry.Row) {
	s.Helper()
	var entries []telemetry.Entry
	for part := range slices.Chunk(rows, telemetry.MaxFrameRows) {
		entries = append(entries, s.entry(device, "", part...))
	}
	s.store(telemetry.NewBatch(entries))
}

func (s *suite) store(b telemetry.Batch) {
	s.Helper()
	if err := s.sink.Write(s.ctx(), b); err != nil {
		s.Fatalf("write: %v", err)
	}
}

// query is all pages of q.
func (s *suite) query(q telemetry.Query) []telemetry.ReadRow {
	s.Helper()
	rows, _ := s.pages(q)
	return rows
}

func (s *suite) pages(q telemetry.Query) (rows []telemetry.ReadRow, pages int) {
	s.Helper()
	for {
		page, err := s.reader.Query(s.ctx(), q)
		if err != nil {
			s.Fatalf("query: %v", err)
		}
		pages++
		rows = append(rows, page.Rows...)
		if page.NextPage == "" {
			return rows, pages
		}
		if len(page.Rows) == 0 {
			s.Fatal("an empty page that is not the last")
		}
		if len(page.NextPage) > 64 {
			s.Fatalf("a page token of %d bytes", len(page.NextPage))
		}
		q.Page = page.NextPage
	}
}

// wantRows compares rows by time and by fields.
func (s *suite) wantRows(got []telemetry.ReadRow, want ...telemetry.ReadRow) {
	s.Helper()
	if len(got) != len(want) {
		s.Fatalf("%d rows, want %d: %s", len(got), len(want), show(got))
	}
	for i := range want {
		if !got[i].Time.Equal(want[i].Time) {
			s.Fatalf("row %d has the time %v, want %v", i, got[i].Time, want[i].Time)
		}
		s.wantFields(got[i].Fields, want[i].Fields)
	}
}

func (s *suite) wantFields(got, want []telemetry.Field) {
	s.Helper()
	if len(got) != len(want) {
		s.Fatalf("fields %s, want %s", showFields(got), showFields(want))
	}
	for i := range want {
		if got[i].Name != want[i].Name || !same(got[i].Value, want[i].Value) {
			s.Fatalf("fields %s, want %s", showFields(got), showFields(want))
		}
	}
}

// stored is what reading r gives back.
func stored(r telemetry.Row) telemetry.ReadRow {
	fields := slices.Clone(r.Fields)
	slices.SortFunc(fields, func(a, b telemetry.Field) int { return cmp.Compare(a.Name, b.Name) })
	return telemetry.ReadRow{Time: time.Unix(0, r.Time), Fields: fields}
}

func storedAll(rows []telemetry.Row) []telemetry.ReadRow {
	out := make([]telemetry.ReadRow, len(rows))
	for i := range rows {
		out[i] = stored(rows[i])
	}
	return out
}

// same compares values bit by bit; a Float is stored as the Double of the
// same value.
func same(got, want telemetry.Value) bool {
	if want.Kind() == telemetry.Float {
		want = telemetry.DoubleValue(want.Float64())
	}
	return got.Kind() == want.Kind() &&
		math.Float64bits(got.Float64()) == math.Float64bits(want.Float64()) &&
		got.Int64() == want.Int64() && got.Bool() == want.Bool() && got.Str() == want.Str()
}

func (s *suite) wantCount(device string, want int64) {
	s.Helper()
	got, err := s.reader.Count(s.ctx(), device, "", time.Time{}, time.Time{})
	if err != nil {
		s.Fatal(err)
	}
	if got != want {
		s.Fatalf("%s has %d rows, want %d", device, got, want)
	}
}

func (s *suite) wantError(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error %v, want %v", err, want)
	}
}

func show(rows []telemetry.ReadRow) string {
	var b strings.Builder
	for i, r := range rows {
		if i == 20 {
			b.WriteString(" …")
			break
		}
		fmt.Fprintf(&b, "\n%s %s", r.Time.UTC().Format(time.RFC3339Nano), showFields(r.Fields))
	}
	return b.String()
}

func showFields(fields []telemetry.Field) string {
	var b strings.Builder
	for _, f := range fields {
		v := f.Value
		fmt.Fprintf(&b, " %s=%s:", f.Name, v.Kind())
		switch v.Kind() {
		case telemetry.Int:
			fmt.Fprint(&b, v.Int64())
		case telemetry.Bool:
			fmt.Fprint(&b, v.Bool())
		case telemetry.String:
			fmt.Fprintf(&b, "%.60q", v.Str())
		default:
			fmt.Fprint(&b, v.Float64())
		}
	}
	return b.String()
}
