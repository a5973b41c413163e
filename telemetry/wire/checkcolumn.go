package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tetherline/tetherline/telemetry"
)

// checkedColumn is what one pass over a Column has found.
type checkedColumn struct {
	name   []byte
	valid  bool   // the name, by its letters
	hash   uint64 // of measurement and name
	list   protowire.Number
	values int // elements of list; 0: no list has any
	rows   cursor
	listed int    // elements of rows
	last   uint32 // of them
}

// read passes over the bytes of a Column. It checks all that does not depend
// on the rest of the series.
func (c *checkedColumn) read(body []byte) *Rejection {
	for len(body) > 0 {
		f, rest, ok := nextField(body)
		if !ok {
			return reject(malformed, "it is broken off")
		}
		body = rest
		switch f.num {
		case columnName:
			if f.typ != protowire.BytesType {
				continue
			}
			c.valid = validName(f.raw)
			if !c.valid && !utf8.Valid(f.raw) {
				return reject(malformed, "its name is not UTF-8")
			}
			c.name = f.raw
		case columnRows:
			if !f.list(protowire.VarintType) {
				continue
			}
			c.rows.saw(f, protowire.VarintType, rest)
			if r := c.readRows(f.raw); r != nil {
				return r
			}
		case columnDoubles, columnFloats, columnInts, columnBools, columnStrings:
			n, r := c.readValues(f)
			if r != nil {
				return r
			}
			if n == 0 {
				continue
			}
			if c.values > 0 && c.list != f.num {
				return reject(malformed, "it uses two kinds of values")
			}
			c.list = f.num
			c.values += n
		}
	}
	c.rows.settle()
	return nil
}

// readValues counts and checks the values in one part of a list.
func (c *checkedColumn) readValues(f field) (int, *Rejection) {
	switch {
	case f.num == columnDoubles && f.list(protowire.Fixed64Type):
		return c.readDoubles(f.raw)
	case f.num == columnFloats && f.list(protowire.Fixed32Type):
		return c.readFloats(f.raw)
	case (f.num == columnInts || f.num == columnBools) && f.list(protowire.VarintType):
		return countVarints(f.raw)
	case f.num == columnStrings && f.typ == protowire.BytesType:
		if !utf8.Valid(f.raw) {
			return 0, reject(malformed, "value %d is not UTF-8", c.values)
		}
		if len(f.raw) > telemetry.MaxStringBytes {
			return 0, reject(tooLarge, "value %d has %d bytes; a string has at most %d",
				c.values, len(f.raw), telemetry.MaxStringBytes)
		}
		return 1, nil
	}
	return 0, nil // of another wire type: an unknown field
}

func (c *checkedColumn) readDoubles(part []byte) (int, *Rejection) {
	if len(part)%8 != 0 {
		return 0, brokenList()
	}
	const exponent = 0x7ff << 52
	n := 0
	for ; len(part) >= 8; part = part[8:] {
		if binary.LittleEndian.Uint64(part)&exponent == exponent {
			return 0, c.infinite(n)
		}
		n++
	}
	return n, nil
}

func (c *checkedColumn) readFloats(part []byte) (int, *Rejection) {
	if len(part)%4 != 0 {
		return 0, brokenList()
	}
	const exponent = 0xff << 23
	n := 0
	for ; len(part) >= 4; part = part[4:] {
		if binary.LittleEndian.Uint32(part)&exponent == exponent {
			return 0, c.infinite(n)
		}
		n++
	}
	return n, nil
}

func countVarints(part []byte) (int, *Rejection) {
	n := 0
	for ; len(part) > 0; n++ {
		_, size := protowire.ConsumeVarint(part)
		if size < 0 {
			return 0, brokenList()
		}
		part = part[size:]
	}
	return n, nil
}

func (c *checkedColumn) readRows(part []byte) *Rejection {
	for len(part) > 0 {
		v, size := protowire.ConsumeVarint(part)
		if size < 0 {
			return brokenList()
		}
		part = part[size:]
		row := uint32(v) // as protobuf reads a uint32
		if c.listed > 0 && row <= c.last {
			return reject(malformed, "its rows do not rise")
		}
		c.last = row
		c.listed++
	}
	return nil
}

func brokenList() *Rejection { return reject(malformed, "a list of it is broken") }

func (c *checkedColumn) infinite(i int) *Rejection {
	return reject(notFinite, "value %d is NaN or infinite", c.values+i)
}

// fit checks the column against the number of rows of its series.
func (c *checkedColumn) fit(rows int) *Rejection {
	if !c.valid {
		return reject(badName, "%s", nameRule)
	}
	if why, reserved := reservedColumn(string(c.name)); reserved {
		return reject(badName, "the name is reserved: %s", why)
	}
	if c.listed == 0 {
		if c.values != rows {
			return reject(malformed, "it has %d values for %d rows", c.values, rows)
		}
		return nil
	}
	if c.values != c.listed {
		return reject(malformed, "it has %d values for %d listed rows", c.values, c.listed)
	}
	if uint64(c.last) >= uint64(rows) {
		return reject(malformed, "it lists row %d; the series has %d rows", c.last, rows)
	}
	return nil
}

// fixed64 of the payload of a field of Fixed64Type.
func fixed64(raw []byte) uint64 { return binary.LittleEndian.Uint64(raw) }
