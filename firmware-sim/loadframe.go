package firmwaresim

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxLoadFrame is the protocol's bound of a frame, in bytes.
const maxLoadFrame = 64 << 10

// Field numbers of device.v1.
const (
	frameTelemetry   = 2
	telemetrySeq     = 1
	telemetrySeries  = 2
	seriesBaseTime   = 2
	seriesTimeDelta  = 3
	seriesColumns    = 4
	columnName       = 1
	columnDoubles    = 2
	longestFrameHead = 32
)

// loadFrames makes the frames of a load: one series of equal steps, with
// dense columns f0, f1, … of doubles with two decimals. Only numbers change
// from frame to frame, so they are written over those of the one before.
// A frame depends on its seq and its device alone: sent again, it is the same.
type loadFrames struct {
	rows, fields int
	step         int64 // between rows, in ns
	buf          []byte
	body         int   // where the series begins in buf
	baseTime     int   // where the base time stands
	values       []int // where the values of each column stand
}

// newLoadFrames of rows that are step ns apart.
func newLoadFrames(rows, fields int, step int64) *loadFrames {
	f := &loadFrames{rows: rows, fields: fields, step: step, body: longestFrameHead}
	b := protowire.AppendTag(nil, seriesBaseTime, protowire.Fixed64Type)
	base := len(b)
	b = protowire.AppendFixed64(b, 0)
	if rows > 1 {
		deltas := protowire.AppendVarint(nil, 0)
		for range rows - 1 {
			deltas = protowire.AppendVarint(deltas, protowire.EncodeZigZag(step))
		}
		b = protowire.AppendTag(b, seriesTimeDelta, protowire.BytesType)
		b = protowire.AppendBytes(b, deltas)
	}
	for i := range fields {
		column := protowire.AppendTag(nil, columnName, protowire.BytesType)
		column = protowire.AppendString(column, fmt.Sprintf("f%d", i))
		column = protowire.AppendTag(column, columnDoubles, protowire.BytesType)
		column = protowire.AppendBytes(column, make([]byte, 8*rows))
		b = protowire.AppendTag(b, seriesColumns, protowire.BytesType)
		b = protowire.AppendBytes(b, column)
		f.values = append(f.values, len(b)-8*rows)
	}
	series := protowire.AppendTag(nil, telemetrySeries, protowire.BytesType)
	series = protowire.AppendVarint(series, uint64(len(b)))
	head := f.body + len(series)
	f.baseTime = head + base
	for i := range f.values {
		f.values[i] += head
	}
	f.buf = append(append(make([]byte, f.body, f.body+len(series)+len(b)), series...), b...)
	return f
}

// frame seq of the device with that index; epoch is the time of its first row.
// It is valid until the next call.
func (f *loadFrames) frame(seq uint64, epoch int64, device int) []byte {
	first := (seq - 1) * uint64(f.rows)
	binary.LittleEndian.PutUint64(f.buf[f.baseTime:], uint64(epoch+int64(first)*f.step))
	for i, at := range f.values {
		for row := range f.rows {
			v := LoadValue(device, first+uint64(row), i)
			binary.LittleEndian.PutUint64(f.buf[at+8*row:], math.Float64bits(v))
		}
	}
	// What stands before the series grows with seq: it is put right before it.
	telemetry := 1 + protowire.SizeVarint(seq) + len(f.buf) - f.body
	start := f.body - (1 + protowire.SizeVarint(uint64(telemetry)) + 1 + protowire.SizeVarint(seq))
	head := protowire.AppendTag(f.buf[start:start], frameTelemetry, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(telemetry))
	head = protowire.AppendTag(head, telemetrySeq, protowire.VarintType)
	protowire.AppendVarint(head, seq)
	return f.buf[start:]
}

// LoadValue is the value of a field in a row of a load, both counted from 0:
// what a sensor with two decimals might say.
func LoadValue(device int, row uint64, field int) float64 {
	return float64((uint64(device)*31+row*7+uint64(field)*1013)%10_000) / 100
}

// longest is how many bytes a frame has at most.
func (f *loadFrames) longest() int { return len(f.frame(1<<40, 0, 0)) }
