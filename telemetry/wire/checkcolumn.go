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
			return reject(malformed, "column %s is broken off", quote(c.name))
		}
		body = rest
		switch f.num {
		case columnName:
			if f.typ != protowire.BytesType {
				continue
			}
			if !utf8.Valid(f.raw) {
				return reject(malformed, "name of a column is not UTF-8")
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
				return reject(malformed, "column %s uses two kinds of values", quote(c.name))
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
		return c.readVarints(f.raw)
	case f.num == columnStrings && f.typ == protowire.BytesType:
		if !utf8.Valid(f.raw) {
			return 0, reject(malformed, "column %s has a string that is not UTF-8", quote(c.name))
		}
		if len(f.raw) > telemetry.MaxStringBytes {
			return 0, reject(tooLarge, "column %s has a string of %d bytes; a string has at most %d",
				quote(c.name), len(f.raw), telemetry.MaxStringBytes)
		}
		return 1, nil
	}
	return 0, nil // of another wire type: an unknown field
}

func (c *checkedColumn) readDoubles(part []byte) (int, *Rejection) {
	if len(part)%8 != 0 {
		return 0, c.brokenList()
	}
	const exponent = 0x7ff << 52
	n := len(part) / 8
	for ; len(part) >= 8; part = part[8:] {
		if binary.LittleEndian.Uint64(part)&exponent == exponent {
			return 0, c.infinite()
		}
	}
	return n, nil
}

func (c *checkedColumn) readFloats(part []byte) (int, *Rejection) {
	if len(part)%4 != 0 {
		return 0, c.brokenList()
	}
	const exponent = 0xff << 23
	n := len(part) / 4
	for ; len(part) >= 4; part = part[4:] {
		if binary.LittleEndian.Uint32(part)&exponent == exponent {
			return 0, c.infinite()
		}
	}
	return n, nil
}

func (c *checkedColumn) readVarints(part []byte) (int, *Rejection) {
	n := 0
	for ; len(part) > 0; n++ {
		_, size := protowire.ConsumeVarint(part)
		if size < 0 {
			return 0, c.brokenList()
		}
		part = part[size:]
	}
	return n, nil
}

func (c *checkedColumn) readRows(part []byte) *Rejection {
	for len(part) > 0 {
		v, size := protowire.ConsumeVarint(part)
		if size < 0 {
			return c.brokenList()
		}
		part = part[size:]
		row := uint32(v) // as protobuf reads a uint32
		if c.listed > 0 && row <= c.last {
			return reject(malformed, "rows of column %s do not rise", quote(c.name))
		}
		c.last = row
		c.listed++
	}
	return nil
}

func (c *checkedColumn) brokenList() *Rejection {
	return reject(malformed, "column %s has a broken list", quote(c.name))
}

func (c *checkedColumn) infinite() *Rejection {
	return reject(notFinite, "column %s has a value that is NaN or infinite", quote(c.name))
}

// fit checks the column against the number of rows of its series.
func (c *checkedColumn) fit(rows int) *Rejection {
	if !validName(c.name) {
		return reject(badName, "column %s: %s", quote(c.name), nameRule)
	}
	if why, reserved := reservedColumns[string(c.name)]; reserved {
		return reject(badName, "column %s is reserved: %s", quote(c.name), why)
	}
	if c.listed == 0 {
		if c.values != rows {
			return reject(malformed, "column %s has %d values for %d rows", quote(c.name), c.values, rows)
		}
		return nil
	}
	if c.values != c.listed {
		return reject(malformed, "column %s has %d values for %d listed rows", quote(c.name), c.values, c.listed)
	}
	if uint64(c.last) >= uint64(rows) {
		return reject(malformed, "column %s lists row %d; the series has %d rows", quote(c.name), c.last, rows)
	}
	return nil
}

// fixed64 of the payload of a field of Fixed64Type.
func fixed64(raw []byte) uint64 { return binary.LittleEndian.Uint64(raw) }
