package wire

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tetherline/tetherline/telemetry"
)

// Encode makes a device.v1 Telemetry message of the rows of one device. Their
// Device and Labels are not part of it. Rows of one measurement keep their
// order; measurements come in the order in which they first occur. A field
// that changes its kind from one row to another begins a new series there.
//
// An error says that the rows cannot be expressed: seq is 0, a row has no
// fields, a field has no value or occurs twice in a row. The limits of the
// protocol are left to Check.
func Encode(seq uint64, rows []telemetry.Row) ([]byte, error) {
	if seq == 0 {
		return nil, errors.New("encode telemetry: seq counts from 1")
	}
	if len(rows) == 1 {
		if msg, ok := encodeOne(seq, &rows[0]); ok {
			return msg, nil
		}
	}
	msg := protowire.AppendTag(nil, telemetrySeq, protowire.VarintType)
	msg = protowire.AppendVarint(msg, seq)
	var scratch []byte
	for _, group := range byMeasurement(rows) {
		for len(group) > 0 {
			s, n, err := gather(group)
			if err != nil {
				return nil, fmt.Errorf("encode telemetry: %w", err)
			}
			group = group[n:]
			scratch = s.append(scratch[:0])
			msg = protowire.AppendTag(msg, telemetrySeries, protowire.BytesType)
			msg = protowire.AppendBytes(msg, scratch)
		}
	}
	return msg, nil
}

// byMeasurement groups rows, in the order of each measurement's first row.
func byMeasurement(rows []telemetry.Row) [][]*telemetry.Row {
	var groups [][]*telemetry.Row
	index := make(map[string]int, 1)
	for i := range rows {
		name := rows[i].Measurement
		if name == "" {
			name = telemetry.DefaultMeasurement
		}
		g, ok := index[name]
		if !ok {
			g = len(groups)
			index[name] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], &rows[i])
	}
	return groups
}

// gathered is a series by columns.
type gathered struct {
	rows    []*telemetry.Row
	columns []gatheredColumn
	index   map[string]int // of columns, by name
}

type gatheredColumn struct {
	name   string
	kind   telemetry.Kind
	values []telemetry.Value
	rows   []uint32
}

// gather the leading rows that fit one series, at least one, and return how
// many they are.
func gather(rows []*telemetry.Row) (*gathered, int, error) {
	s := &gathered{index: make(map[string]int, len(rows[0].Fields))}
	for n, row := range rows {
		if !s.fits(row) {
			return s, n, nil
		}
		if err := s.add(row); err != nil {
			return nil, 0, err
		}
	}
	return s, len(rows), nil
}

// fits reports whether no field of the row has another kind than its column.
func (s *gathered) fits(row *telemetry.Row) bool {
	if len(s.rows) == 0 {
		return true
	}
	for i := range row.Fields {
		f := &row.Fields[i]
		if k, ok := s.index[f.Name]; ok && s.columns[k].kind != f.Value.Kind() {
			return false
		}
	}
	return true
}

func (s *gathered) add(row *telemetry.Row) error {
	n := uint32(len(s.rows))
	if len(row.Fields) == 0 {
		return fmt.Errorf("a row of measurement %s has no fields", quote(row.Measurement))
	}
	for i := range row.Fields {
		f := &row.Fields[i]
		if f.Value.Kind() == 0 {
			return fmt.Errorf("field %s has no value", quote(f.Name))
		}
		k, ok := s.index[f.Name]
		if !ok {
			k = len(s.columns)
			s.index[f.Name] = k
			s.columns = append(s.columns, gatheredColumn{name: f.Name, kind: f.Value.Kind()})
		}
		c := &s.columns[k]
		if last := len(c.rows) - 1; last >= 0 && c.rows[last] == n {
			return fmt.Errorf("field %s occurs twice in a row", quote(f.Name))
		}
		c.values = append(c.values, f.Value)
		c.rows = append(c.rows, n)
	}
	s.rows = append(s.rows, row)
	return nil
}

func (s *gathered) append(b []byte) []byte {
	if m := s.rows[0].Measurement; m != "" && m != telemetry.DefaultMeasurement {
		b = protowire.AppendTag(b, seriesMeasurement, protowire.BytesType)
		b = protowire.AppendString(b, m)
	}
	b = protowire.AppendTag(b, seriesBaseTime, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, uint64(s.rows[0].Time))
	var scratch []byte
	if len(s.rows) > 1 {
		last := s.rows[0].Time
		for _, row := range s.rows {
			scratch = protowire.AppendVarint(scratch, protowire.EncodeZigZag(row.Time-last))
			last = row.Time
		}
		b = protowire.AppendTag(b, seriesTimeDelta, protowire.BytesType)
		b = protowire.AppendBytes(b, scratch)
	}
	for i := range s.columns {
		scratch = s.columns[i].append(scratch[:0], len(s.rows))
		b = protowire.AppendTag(b, seriesColumns, protowire.BytesType)
		b = protowire.AppendBytes(b, scratch)
	}
	return b
}

func (c *gatheredColumn) append(b []byte, rows int) []byte {
	b = protowire.AppendTag(b, columnName, protowire.BytesType)
	b = protowire.AppendString(b, c.name)
	if c.kind == telemetry.String {
		for _, v := range c.values {
			b = protowire.AppendTag(b, columnStrings, protowire.BytesType)
			b = protowire.AppendString(b, v.Str())
		}
	} else {
		var list []byte
		for _, v := range c.values {
			list = appendElement(list, v)
		}
		b = protowire.AppendTag(b, numbers[c.kind], protowire.BytesType)
		b = protowire.AppendBytes(b, list)
	}
	if len(c.rows) < rows {
		var list []byte
		for _, row := range c.rows {
			list = protowire.AppendVarint(list, uint64(row))
		}
		b = protowire.AppendTag(b, columnRows, protowire.BytesType)
		b = protowire.AppendBytes(b, list)
	}
	return b
}

// numbers of the lists of values.
var numbers = [...]protowire.Number{
	telemetry.Double: columnDoubles,
	telemetry.Float:  columnFloats,
	telemetry.Int:    columnInts,
	telemetry.Bool:   columnBools,
}

func appendElement(list []byte, v telemetry.Value) []byte {
	switch v.Kind() {
	case telemetry.Double:
		return protowire.AppendFixed64(list, math.Float64bits(v.Float64()))
	case telemetry.Float:
		return protowire.AppendFixed32(list, math.Float32bits(float32(v.Float64())))
	case telemetry.Int:
		return protowire.AppendVarint(list, protowire.EncodeZigZag(v.Int64()))
	default:
		return protowire.AppendVarint(list, protowire.EncodeBool(v.Bool()))
	}
}
