package client

import (
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// batch is the open frame: rows are appended to columns that are already in
// their wire form, so that sealing copies bytes and allocates once.
type batch struct {
	series []series
	rows   int
	// size is what the frame takes at most, without its seq.
	size int
}

// series is rows of one measurement whose columns have one kind each.
type series struct {
	measurement string // "" for the default
	base, last  int64  // Unix time in ns of the first and the newest row
	rows        int
	deltas      []byte // packed sint64, one a row
	columns     []column
}

type column struct {
	name   string
	kind   kind
	count  int    // of values
	sparse bool   // rows tells which rows the values belong to
	values []byte // packed; for strings, whole tagged fields
	rows   []byte // packed uint32
}

// Upper bounds of what parts of a frame take, for batch.size.
const (
	frameOverhead  = 64 // tags and lengths of DeviceFrame and Telemetry, seq, dropped_rows
	seriesOverhead = 40 // tags, lengths, base time
	columnOverhead = 20 // tags and lengths
	rowOverhead    = 10 // time delta
	valueOverhead  = 2  // row index
)

var batches = sync.Pool{New: func() any { return new(batch) }}

func newBatch() *batch { return batches.Get().(*batch) }

// release gives the batch's memory to the next one, unless it is unusually
// much.
func (b *batch) release() {
	if b.size > MaxFrameBytes || len(b.series) > 16 {
		return
	}
	for i := range b.series {
		s := &b.series[i]
		for j := range s.columns {
			c := &s.columns[j]
			*c = column{values: c.values[:0], rows: c.rows[:0]}
		}
		*s = series{deltas: s.deltas[:0], columns: s.columns[:0]}
	}
	b.series, b.rows, b.size = b.series[:0], 0, 0
	batches.Put(b)
}

// rowSize is what the row takes at most in any batch.
func rowSize(r *Row) int {
	n := seriesOverhead + len(r.Measurement) + rowOverhead
	for i := range r.Fields {
		f := &r.Fields[i]
		n += columnOverhead + len(f.name) + valueOverhead + valueSize(f)
	}
	return n
}

func valueSize(f *Field) int {
	switch f.kind {
	case kindDouble:
		return 8
	case kindFloat:
		return 4
	case kindBool:
		return 1
	case kindString:
		return 1 + protowire.SizeBytes(len(f.str))
	}
	return protowire.SizeVarint(protowire.EncodeZigZag(int64(f.num)))
}

// add appends a checked row. It keeps no reference to r.Fields.
func (b *batch) add(r *Row, at int64) {
	s := b.seriesFor(r)
	if s.rows == 0 {
		s.base, s.last = at, at
	}
	before := len(s.deltas)
	s.deltas = protowire.AppendVarint(s.deltas, protowire.EncodeZigZag(at-s.last))
	s.last = at
	b.size += len(s.deltas) - before
	for i := range r.Fields {
		b.size += s.add(&r.Fields[i], i)
	}
	s.rows++
	b.rows++
}

// seriesFor finds the newest series of the row's measurement, or begins one
// where there is none or where a column has another kind.
func (b *batch) seriesFor(r *Row) *series {
	name := r.Measurement
	if name == DefaultMeasurement {
		name = ""
	}
	if s := b.newest(name); s != nil && s.takes(r.Fields) {
		return s
	}
	if len(b.series) < cap(b.series) {
		b.series = b.series[:len(b.series)+1]
	} else {
		b.series = append(b.series, series{})
	}
	s := &b.series[len(b.series)-1]
	s.measurement = name
	b.size += seriesOverhead + len(name)
	return s
}

func (s *series) takes(fields []Field) bool {
	for i := range fields {
		if c := s.column(fields[i].name, i); c != nil && c.kind != fields[i].kind {
			return false
		}
	}
	return true
}

// column of that name, most likely the hint-th; nil: none.
func (s *series) column(name string, hint int) *column {
	if hint < len(s.columns) && s.columns[hint].name == name {
		return &s.columns[hint]
	}
	for i := range s.columns {
		if s.columns[i].name == name {
			return &s.columns[i]
		}
	}
	return nil
}

// add puts the value into the row s.rows, and returns by how much the frame
// grows at most.
func (s *series) add(f *Field, hint int) int {
	grown := valueOverhead + valueSize(f)
	c := s.column(f.name, hint)
	if c == nil {
		if len(s.columns) < cap(s.columns) {
			s.columns = s.columns[:len(s.columns)+1]
		} else {
			s.columns = append(s.columns, column{})
		}
		c = &s.columns[len(s.columns)-1]
		c.name, c.kind = f.name, f.kind
		grown += columnOverhead + len(f.name)
	}
	if !c.sparse && c.count < s.rows {
		c.makeSparse()
	}
	if c.sparse {
		c.rows = protowire.AppendVarint(c.rows, uint64(s.rows))
	}
	c.count++
	switch f.kind {
	case kindDouble:
		c.values = protowire.AppendFixed64(c.values, f.num)
	case kindFloat:
		c.values = protowire.AppendFixed32(c.values, uint32(f.num))
	case kindString:
		c.values = protowire.AppendTag(c.values, columnStrings, protowire.BytesType)
		c.values = protowire.AppendString(c.values, f.str)
	case kindBool:
		c.values = protowire.AppendVarint(c.values, f.num)
	case kindInt:
		c.values = protowire.AppendVarint(c.values, protowire.EncodeZigZag(int64(f.num)))
	}
	return grown
}

// makeSparse names the rows that a dense column has had so far.
func (c *column) makeSparse() {
	c.sparse = true
	for i := range c.count {
		c.rows = protowire.AppendVarint(c.rows, uint64(i))
	}
}
