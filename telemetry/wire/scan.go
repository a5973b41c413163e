package wire

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of device.v1 Telemetry, Series and Column.
const (
	telemetrySeq         = 1
	telemetrySeries      = 2
	telemetryDroppedRows = 3

	seriesMeasurement = 1
	seriesBaseTime    = 2
	seriesTimeDelta   = 3
	seriesColumns     = 4

	columnName    = 1
	columnDoubles = 2
	columnFloats  = 3
	columnInts    = 4
	columnBools   = 5
	columnStrings = 6
	columnRows    = 7
)

// field is one field of a message as it stands on the wire. raw is the
// payload: the content of a length-delimited field, else the bytes of the
// number.
type field struct {
	num protowire.Number
	typ protowire.Type
	raw []byte
}

// nextField takes the first field off b. It is false where b is no message or
// the field is a group.
func nextField(b []byte) (f field, rest []byte, ok bool) {
	if f, rest, ok = shortField(b); ok {
		return f, rest, true
	}
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || num > protowire.MaxValidNumber {
		return field{}, nil, false
	}
	b = b[n:]
	start, end := 0, 0
	switch typ {
	case protowire.VarintType:
		_, end = protowire.ConsumeVarint(b)
	case protowire.Fixed64Type:
		end = 8
	case protowire.Fixed32Type:
		end = 4
	case protowire.BytesType:
		size, n := protowire.ConsumeVarint(b)
		if n < 0 || size > uint64(len(b)-n) {
			return field{}, nil, false
		}
		start, end = n, n+int(size)
	default:
		return field{}, nil, false
	}
	if end < 0 || end > len(b) {
		return field{}, nil, false
	}
	return field{num: num, typ: typ, raw: b[start:end]}, b[end:], true
}

// shortField is nextField for the common case: length-delimited, a tag of one
// byte, a length of one byte.
func shortField(b []byte) (f field, rest []byte, ok bool) {
	const typeBits = 7
	if len(b) < 2 || b[0]&typeBits != byte(protowire.BytesType) || b[0] < 1<<3 || b[0] >= 0x80 || b[1] >= 0x80 {
		return field{}, nil, false
	}
	end := 2 + int(b[1])
	if end > len(b) {
		return field{}, nil, false
	}
	return field{num: protowire.Number(b[0] >> 3), typ: protowire.BytesType, raw: b[2:end]}, b[end:], true
}

// list reports whether f is a part of a repeated scalar of the given wire
// type, packed or not. Its raw is then a run of elements either way.
func (f *field) list(native protowire.Type) bool {
	return f.typ == protowire.BytesType || f.typ == native
}

// uvarint of a field of VarintType.
func (f *field) uvarint() uint64 {
	v, _ := protowire.ConsumeVarint(f.raw)
	return v
}

// cursor reads the elements of one repeated field of a message, joining its
// parts. The zero cursor is at the end.
type cursor struct {
	chunk []byte // elements of the present part that are still unread
	rest  []byte // of the message, behind the present part; nil: no more parts
	num   protowire.Number
	typ   protowire.Type // of one element
	seen  int            // parts
}

// saw tells the cursor of a part of its field, and what comes behind it.
func (c *cursor) saw(f field, typ protowire.Type, rest []byte) {
	if c.seen == 0 {
		c.num, c.typ, c.chunk, c.rest = f.num, typ, f.raw, rest
	}
	c.seen++
}

// settle ends the saws, so that a field of one part is not searched for more.
func (c *cursor) settle() {
	if c.seen == 1 {
		c.rest = nil
	}
}

// refill goes on to the next part that has elements; false at the end.
func (c *cursor) refill() bool {
	for len(c.rest) > 0 {
		f, rest, ok := nextField(c.rest)
		c.rest = rest
		if !ok {
			return false
		}
		if f.num == c.num && f.list(c.typ) {
			c.chunk = f.raw
			if len(c.chunk) > 0 {
				return true
			}
		}
	}
	return false
}

// uvarint is the next element of a list of varints; false at the end or at a
// broken element.
func (c *cursor) uvarint() (uint64, bool) {
	if len(c.chunk) == 0 && !c.refill() {
		return 0, false
	}
	if c.chunk[0] < 0x80 {
		v := c.chunk[0]
		c.chunk = c.chunk[1:]
		return uint64(v), true
	}
	v, n := protowire.ConsumeVarint(c.chunk)
	if n < 0 {
		return 0, false
	}
	c.chunk = c.chunk[n:]
	return v, true
}

// fixed64 is the next element of a list of 8-byte numbers; false at the end.
func (c *cursor) fixed64() (uint64, bool) {
	if len(c.chunk) < 8 && (len(c.chunk) > 0 || !c.refill() || len(c.chunk) < 8) {
		return 0, false
	}
	v := binary.LittleEndian.Uint64(c.chunk)
	c.chunk = c.chunk[8:]
	return v, true
}

// fixed32 is the next element of a list of 4-byte numbers; false at the end.
func (c *cursor) fixed32() (uint32, bool) {
	if len(c.chunk) < 4 && (len(c.chunk) > 0 || !c.refill() || len(c.chunk) < 4) {
		return 0, false
	}
	v := binary.LittleEndian.Uint32(c.chunk)
	c.chunk = c.chunk[4:]
	return v, true
}

// done reports whether every element has been read.
func (c *cursor) done() bool { return len(c.chunk) == 0 && !c.refill() }

// bytes is the next string of a list of strings; false at the end. The cursor
// has no chunk, only a rest.
func (c *cursor) bytes() ([]byte, bool) {
	for len(c.rest) > 0 {
		f, rest, ok := nextField(c.rest)
		c.rest = rest
		if !ok {
			return nil, false
		}
		if f.num == c.num && f.typ == protowire.BytesType {
			return f.raw, true
		}
	}
	return nil, false
}
