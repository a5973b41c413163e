package wire_test

import (
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// testNow is the hub's clock in these tests.
var testNow = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func marshal(m *devicev1.Telemetry) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// oneSeries is a message with seq 7 and one series at testNow; without deltas
// it has one row.
func oneSeries(deltas []int64, columns ...*devicev1.Column) *devicev1.Telemetry {
	return &devicev1.Telemetry{Seq: 7, Series: []*devicev1.Series{{
		BaseTimeUnixNs: testNow.UnixNano(), TimeDeltaNs: deltas, Columns: columns,
	}}}
}

func doubles(name string, v ...float64) *devicev1.Column {
	return &devicev1.Column{Name: name, Doubles: v}
}

func bytesField(num protowire.Number, raw []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), raw)
}

func varintField(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

func fixed64Field(num protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(nil, num, protowire.Fixed64Type), v)
}

func fixed32Field(num protowire.Number, v uint32) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(nil, num, protowire.Fixed32Type), v)
}

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// oddEncoder encodes messages in ways that protobuf allows and no encoder
// chooses: lists in parts, packed or not, fields in any order, scalars that
// are overridden later, unknown fields and known numbers of a wrong type.
type oddEncoder struct{ *rand.Rand }

func (o oddEncoder) telemetry(m *devicev1.Telemetry) []byte {
	parts := [][]byte{varintField(1, m.Seq)}
	if m.DroppedRows != 0 {
		parts = append(parts, varintField(3, m.DroppedRows))
	}
	o.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	for _, s := range m.Series {
		parts = append(parts, bytesField(2, o.series(s)))
	}
	if o.IntN(4) == 0 {
		parts = append([][]byte{varintField(1, o.Uint64())}, parts...)
	}
	return o.join(parts)
}

func (o oddEncoder) series(s *devicev1.Series) []byte {
	parts := [][]byte{fixed64Field(2, uint64(s.BaseTimeUnixNs))}
	if s.Measurement != "" {
		parts = append(parts, bytesField(1, []byte(s.Measurement)))
	}
	var deltas [][]byte
	for _, d := range s.TimeDeltaNs {
		deltas = append(deltas, o.varint(protowire.EncodeZigZag(d)))
	}
	parts = append(parts, o.list(3, protowire.VarintType, deltas)...)
	for _, c := range s.Columns {
		parts = append(parts, bytesField(4, o.column(c)))
	}
	return o.join(parts)
}

func (o oddEncoder) column(c *devicev1.Column) []byte {
	parts := [][]byte{bytesField(1, []byte(c.Name))}
	var list [][]byte
	for _, v := range c.Doubles {
		list = append(list, protowire.AppendFixed64(nil, math.Float64bits(v)))
	}
	parts = append(parts, o.list(2, protowire.Fixed64Type, list)...)
	list = nil
	for _, v := range c.Floats {
		list = append(list, protowire.AppendFixed32(nil, math.Float32bits(v)))
	}
	parts = append(parts, o.list(3, protowire.Fixed32Type, list)...)
	list = nil
	for _, v := range c.Ints {
		list = append(list, o.varint(protowire.EncodeZigZag(v)))
	}
	parts = append(parts, o.list(4, protowire.VarintType, list)...)
	list = nil
	for _, v := range c.Bools {
		n := protowire.EncodeBool(v)
		if v {
			n = 1 + o.Uint64()>>1
		}
		list = append(list, o.varint(n))
	}
	parts = append(parts, o.list(5, protowire.VarintType, list)...)
	for _, v := range c.Strings {
		parts = append(parts, bytesField(6, []byte(v)))
	}
	list = nil
	for _, v := range c.Rows {
		n := uint64(v)
		if o.IntN(8) == 0 {
			n |= o.Uint64() << 32 // a parser of uint32 drops these bits
		}
		list = append(list, o.varint(n))
	}
	return o.join(append(parts, o.list(7, protowire.VarintType, list)...))
}

// varint is v, sometimes with more bytes than it needs.
func (o oddEncoder) varint(v uint64) []byte {
	b := protowire.AppendVarint(nil, v)
	for len(b) < 9 && o.IntN(8) == 0 {
		b[len(b)-1] |= 0x80
		b = append(b, 0)
	}
	return b
}

// list encodes elements as one packed field, single fields, or a mixture.
func (o oddEncoder) list(num protowire.Number, typ protowire.Type, elements [][]byte) [][]byte {
	if len(elements) == 0 {
		if o.IntN(8) == 0 {
			return [][]byte{bytesField(num, nil)}
		}
		return nil
	}
	if o.IntN(2) == 0 {
		return [][]byte{bytesField(num, concat(elements...))}
	}
	var parts [][]byte
	for len(elements) > 0 {
		if o.IntN(2) == 0 {
			parts = append(parts, append(protowire.AppendTag(nil, num, typ), elements[0]...))
			elements = elements[1:]
			continue
		}
		n := o.IntN(len(elements) + 1)
		parts = append(parts, bytesField(num, concat(elements[:n]...)))
		elements = elements[n:]
	}
	return parts
}

// join puts the parts together: the order of parts of one number is kept,
// others are mixed, with unknown fields in between.
func (o oddEncoder) join(parts [][]byte) []byte {
	if o.IntN(2) == 0 {
		for i := len(parts) - 1; i > 0; i-- {
			// Swapping neighbours of different numbers keeps the order within each.
			j := o.IntN(i) + 1
			a, _, _ := protowire.ConsumeTag(parts[j-1])
			b, _, _ := protowire.ConsumeTag(parts[j])
			if a != b {
				parts[j-1], parts[j] = parts[j], parts[j-1]
			}
		}
	}
	var b []byte
	for _, p := range parts {
		switch o.IntN(12) {
		case 0:
			b = append(b, varintField(protowire.Number(8+o.IntN(9000)), o.Uint64())...)
		case 1:
			b = append(b, fixed32Field(protowire.Number(1+o.IntN(2)), o.Uint32())...)
		case 2:
			b = append(b, bytesField(15, []byte("unknown"))...)
		}
		b = append(b, p...)
	}
	return b
}
