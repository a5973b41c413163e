package client

import "google.golang.org/protobuf/encoding/protowire"

// Field numbers of proto/device/v1.
const (
	frameTelemetry    = 2
	telemetrySeq      = 1
	telemetrySeries   = 2
	telemetryDropped  = 3
	seriesMeasurement = 1
	seriesBase        = 2
	seriesDeltas      = 3
	seriesColumns     = 4
	columnName        = 1
	columnDoubles     = 2
	columnFloats      = 3
	columnInts        = 4
	columnBools       = 5
	columnStrings     = 6
	columnRows        = 7
)

// encode is the body of a Telemetry message: its series, without the seq that
// comes before them. The slice has room for dropped_rows.
func (b *batch) encode() []byte {
	size := maxDroppedBytes
	for i := range b.series {
		b.series[i].finish()
		size += 1 + protowire.SizeBytes(b.series[i].encodedSize())
	}
	body := make([]byte, 0, size)
	for i := range b.series {
		body = protowire.AppendTag(body, telemetrySeries, protowire.BytesType)
		body = protowire.AppendVarint(body, uint64(b.series[i].encodedSize()))
		body = b.series[i].append(body)
	}
	return body
}

func (s *series) finish() {
	for i := range s.columns {
		if c := &s.columns[i]; !c.sparse && c.count < s.rows {
			c.makeSparse()
		}
	}
}

func (s *series) encodedSize() int {
	n := 0
	if s.measurement != "" {
		n += 1 + protowire.SizeBytes(len(s.measurement))
	}
	if s.base != 0 {
		n += 1 + 8
	}
	if s.rows > 1 {
		n += 1 + protowire.SizeBytes(len(s.deltas))
	}
	for i := range s.columns {
		n += 1 + protowire.SizeBytes(s.columns[i].encodedSize())
	}
	return n
}

func (s *series) append(b []byte) []byte {
	if s.measurement != "" {
		b = protowire.AppendTag(b, seriesMeasurement, protowire.BytesType)
		b = protowire.AppendString(b, s.measurement)
	}
	if s.base != 0 {
		b = protowire.AppendTag(b, seriesBase, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, uint64(s.base))
	}
	if s.rows > 1 {
		b = protowire.AppendTag(b, seriesDeltas, protowire.BytesType)
		b = protowire.AppendBytes(b, s.deltas)
	}
	for i := range s.columns {
		c := &s.columns[i]
		b = protowire.AppendTag(b, seriesColumns, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(c.encodedSize()))
		b = c.append(b)
	}
	return b
}

func (c *column) encodedSize() int {
	n := 1 + protowire.SizeBytes(len(c.name))
	if c.kind == kindString {
		n += len(c.values)
	} else {
		n += 1 + protowire.SizeBytes(len(c.values))
	}
	if c.sparse {
		n += 1 + protowire.SizeBytes(len(c.rows))
	}
	return n
}

func (c *column) append(b []byte) []byte {
	b = protowire.AppendTag(b, columnName, protowire.BytesType)
	b = protowire.AppendString(b, c.name)
	if c.kind == kindString {
		b = append(b, c.values...)
	} else {
		b = protowire.AppendTag(b, c.list(), protowire.BytesType)
		b = protowire.AppendBytes(b, c.values)
	}
	if c.sparse {
		b = protowire.AppendTag(b, columnRows, protowire.BytesType)
		b = protowire.AppendBytes(b, c.rows)
	}
	return b
}

func (c *column) list() protowire.Number {
	switch c.kind {
	case kindDouble:
		return columnDoubles
	case kindFloat:
		return columnFloats
	case kindInt:
		return columnInts
	}
	return columnBools
}

// maxDroppedBytes is the most that dropped_rows takes.
const maxDroppedBytes = 11

// appendDropped ends a body. Zero is left out.
func appendDropped(body []byte, dropped uint64) []byte {
	if dropped == 0 {
		return body
	}
	body = protowire.AppendTag(body, telemetryDropped, protowire.VarintType)
	return protowire.AppendVarint(body, dropped)
}

// frameSize is the bytes of a whole frame.
func frameSize(seq uint64, bodyBytes int) int {
	inner := 1 + protowire.SizeVarint(seq) + bodyBytes
	return 1 + protowire.SizeBytes(inner)
}

// maxHeaderBytes is the most that frameHeader appends.
const maxHeaderBytes = 1 + 5 + 1 + 10

// frameHeader is everything of a DeviceFrame that comes before the body.
func frameHeader(b []byte, seq uint64, bodyBytes int) []byte {
	b = protowire.AppendTag(b, frameTelemetry, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(1+protowire.SizeVarint(seq)+bodyBytes))
	b = protowire.AppendTag(b, telemetrySeq, protowire.VarintType)
	return protowire.AppendVarint(b, seq)
}
