package wire

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tetherline/tetherline/telemetry"
)

var (
	errBrokenOff = errors.New("it is broken off")
	errTimes     = errors.New("a time delta is broken")
	errNoValue   = errors.New("a row has no value")
)

// column is one column of the present series on the way from row to row.
type column struct {
	name   string
	kind   telemetry.Kind
	values cursor
	rows   cursor
	sparse bool
	row    uint32 // sparse: the next row that has a value
	ended  bool   // sparse: there is none
}

// text is b as a string that shares its memory.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// open prepares to read the rows of a series.
func (d *decoder) open(body []byte) error {
	d.row.Measurement = telemetry.DefaultMeasurement
	clear(d.columns)
	d.time, d.deltas, d.columns = 0, cursor{}, d.columns[:0]
	for len(body) > 0 {
		f, rest, ok := nextField(body)
		if !ok {
			return errBrokenOff
		}
		body = rest
		switch {
		case f.num == seriesMeasurement && f.typ == protowire.BytesType:
			d.row.Measurement = text(f.raw)
			if len(f.raw) == 0 {
				d.row.Measurement = telemetry.DefaultMeasurement
			}
		case f.num == seriesBaseTime && f.typ == protowire.Fixed64Type:
			d.time = int64(fixed64(f.raw))
		case f.num == seriesTimeDelta && f.list(protowire.VarintType):
			d.deltas.saw(f, protowire.VarintType, rest)
		case f.num == seriesColumns && f.typ == protowire.BytesType:
			d.columns = append(d.columns, column{})
			if err := d.columns[len(d.columns)-1].open(f.raw); err != nil {
				return err
			}
		}
	}
	d.deltas.settle()
	if d.deltas.done() {
		// A series without deltas is one row, as if it had one delta of 0.
		d.deltas = cursor{chunk: zeroDelta}
	}
	return nil
}

var zeroDelta = []byte{0}

// next reads row i of the series into d.row; false behind the last one.
func (d *decoder) next(i uint32) (bool, error) {
	if d.deltas.done() {
		return false, nil
	}
	delta, ok := d.deltas.uvarint()
	if !ok {
		return false, errTimes
	}
	d.time += protowire.DecodeZigZag(delta)
	d.row.Time = d.time
	fields := d.row.Fields[:0]
	for k := range d.columns {
		c := &d.columns[k]
		if c.sparse && (c.ended || c.row != i) {
			continue
		}
		v, ok := c.next()
		if !ok {
			return false, fmt.Errorf("column %s has too few values", quote(c.name))
		}
		fields = append(fields, telemetry.Field{Name: c.name, Value: v})
	}
	d.row.Fields = fields
	if len(fields) == 0 {
		return false, errNoValue
	}
	return true, nil
}

// wireTypes of the elements of each list of values.
var wireTypes = [...]protowire.Type{
	columnDoubles: protowire.Fixed64Type,
	columnFloats:  protowire.Fixed32Type,
	columnInts:    protowire.VarintType,
	columnBools:   protowire.VarintType,
}

// kinds of the values of each list.
var kinds = [...]telemetry.Kind{
	columnDoubles: telemetry.Double,
	columnFloats:  telemetry.Float,
	columnInts:    telemetry.Int,
	columnBools:   telemetry.Bool,
	columnStrings: telemetry.String,
}

// open prepares to read the values of a Column. Its kind is that of the list
// that has values; Check saw to it that there is only one.
func (c *column) open(body []byte) error {
	for len(body) > 0 {
		f, rest, ok := nextField(body)
		if !ok {
			return errBrokenOff
		}
		switch f.num {
		case columnName:
			if f.typ == protowire.BytesType {
				c.name = text(f.raw)
			}
		case columnRows:
			if f.list(protowire.VarintType) {
				c.rows.saw(f, protowire.VarintType, rest)
			}
		case columnStrings:
			if f.typ == protowire.BytesType && c.values.seen == 0 {
				// Each string is a part of its own, and may be empty: the
				// cursor stands before the first one.
				c.kind = telemetry.String
				c.values = cursor{rest: body, num: f.num, seen: 1}
			}
		case columnDoubles, columnFloats, columnInts, columnBools:
			if typ := wireTypes[f.num]; f.list(typ) && len(f.raw) > 0 {
				c.kind = kinds[f.num]
				c.values.saw(f, typ, rest)
			}
		}
		body = rest
	}
	c.rows.settle()
	if c.kind != telemetry.String {
		c.values.settle()
	}
	c.sparse = !c.rows.done()
	c.advance()
	return nil
}

// advance to the next listed row of a sparse column.
func (c *column) advance() {
	if !c.sparse {
		return
	}
	row, ok := c.rows.uvarint()
	c.row, c.ended = uint32(row), !ok
}

// next is the next value; false where there is none.
func (c *column) next() (telemetry.Value, bool) {
	if c.sparse {
		c.advance()
	}
	switch c.kind {
	case telemetry.Double:
		bits, ok := c.values.fixed64()
		return telemetry.DoubleValue(math.Float64frombits(bits)), ok
	case telemetry.Float:
		bits, ok := c.values.fixed32()
		return telemetry.FloatValue(math.Float32frombits(bits)), ok
	case telemetry.Int:
		v, ok := c.values.uvarint()
		return telemetry.IntValue(protowire.DecodeZigZag(v)), ok
	case telemetry.Bool:
		v, ok := c.values.uvarint()
		return telemetry.BoolValue(protowire.DecodeBool(v)), ok
	case telemetry.String:
		s, ok := c.values.bytes()
		return telemetry.StringValue(text(s)), ok
	}
	return telemetry.Value{}, false
}
