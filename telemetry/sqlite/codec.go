package sqlite

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/tetherline/tetherline/telemetry"
)

// The fields of a reading as a blob: for each, in rising order of field ids,
// a varint of id<<3 | form, then the value in that form.
const (
	formDouble = iota // 8 bytes, little endian
	formSingle        // 4 bytes: a number that float32 holds exactly
	formInt           // varint, zigzag
	formFalse         // nothing
	formTrue          // nothing
	formString        // varint length, bytes

	formBits = 3
	formMask = 1<<formBits - 1
)

var errBadBlob = errors.New("a stored reading cannot be read: the file is damaged")

// cell is one field of a reading.
type cell struct {
	field uint64
	value telemetry.Value
}

// appendCells encodes cells, which it sorts. Of two values for one field the
// later one counts.
func appendCells(dst []byte, cells []cell) []byte {
	slices.SortStableFunc(cells, func(a, b cell) int {
		switch {
		case a.field < b.field:
			return -1
		case a.field > b.field:
			return 1
		}
		return 0
	})
	for i := range cells {
		if i+1 < len(cells) && cells[i+1].field == cells[i].field {
			continue
		}
		dst = appendCell(dst, &cells[i])
	}
	return dst
}

func appendCell(dst []byte, c *cell) []byte {
	head := func(form uint64) { dst = binary.AppendUvarint(dst, c.field<<formBits|form) }
	switch c.value.Kind() {
	case telemetry.Int:
		head(formInt)
		dst = binary.AppendVarint(dst, c.value.Int64())
	case telemetry.Bool:
		if c.value.Bool() {
			head(formTrue)
		} else {
			head(formFalse)
		}
	case telemetry.String:
		head(formString)
		dst = binary.AppendUvarint(dst, uint64(len(c.value.Str())))
		dst = append(dst, c.value.Str()...)
	default:
		v := c.value.Float64()
		if single := float32(v); math.Float64bits(float64(single)) == math.Float64bits(v) {
			head(formSingle)
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(single))
		} else {
			head(formDouble)
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
		}
	}
	return dst
}

// nextCell takes the first field off blob. Strings are copies.
func nextCell(blob []byte) (c cell, rest []byte, err error) {
	field, form, size, err := cellSize(blob)
	if err != nil {
		return cell{}, nil, err
	}
	_, n := binary.Uvarint(blob)
	c.field = field
	switch value := blob[n:size]; form {
	case formDouble:
		c.value = telemetry.DoubleValue(math.Float64frombits(binary.LittleEndian.Uint64(value)))
	case formSingle:
		c.value = telemetry.DoubleValue(float64(math.Float32frombits(binary.LittleEndian.Uint32(value))))
	case formInt:
		v, _ := binary.Varint(value)
		c.value = telemetry.IntValue(v)
	case formFalse, formTrue:
		c.value = telemetry.BoolValue(form == formTrue)
	case formString:
		_, m := binary.Uvarint(value)
		c.value = telemetry.StringValue(string(value[m:]))
	}
	return c, blob[size:], nil
}

// cellSize is the id and form of the first field of blob and the bytes it
// takes.
func cellSize(blob []byte) (field, form uint64, size int, err error) {
	head, n := binary.Uvarint(blob)
	if n <= 0 {
		return 0, 0, 0, errBadBlob
	}
	field, form, size = head>>formBits, head&formMask, n
	switch form {
	case formDouble:
		size += 8
	case formSingle:
		size += 4
	case formInt:
		_, m := binary.Varint(blob[n:])
		if m <= 0 {
			return 0, 0, 0, errBadBlob
		}
		size += m
	case formFalse, formTrue:
	case formString:
		length, m := binary.Uvarint(blob[n:])
		if m <= 0 || length > uint64(len(blob)) {
			return 0, 0, 0, errBadBlob
		}
		size += m + int(length)
	default:
		return 0, 0, 0, errBadBlob
	}
	if size > len(blob) {
		return 0, 0, 0, errBadBlob
	}
	return field, form, size, nil
}

// appendMerged appends the fields of both blobs; where both have a field, that
// of over.
func appendMerged(dst, under, over []byte) ([]byte, error) {
	for len(under) > 0 && len(over) > 0 {
		f1, _, n1, err := cellSize(under)
		if err != nil {
			return nil, err
		}
		f2, _, n2, err := cellSize(over)
		if err != nil {
			return nil, err
		}
		if f1 < f2 {
			dst = append(dst, under[:n1]...)
		} else {
			dst = append(dst, over[:n2]...)
			over = over[n2:]
		}
		if f1 <= f2 {
			under = under[n1:]
		}
	}
	return append(append(dst, under...), over...), nil
}
