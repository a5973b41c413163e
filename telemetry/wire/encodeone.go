package wire

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tetherline/tetherline/telemetry"
)

// oneFields is up to how many fields a row is encoded straight: each name is
// compared with all others.
const oneFields = 32

// encodeOne is Encode for one row of few fields, without gathering columns:
// the same bytes with one allocation. ok is false where Encode has to look at
// it.
func encodeOne(seq uint64, row *telemetry.Row) (msg []byte, ok bool) {
	if len(row.Fields) == 0 || len(row.Fields) > oneFields {
		return nil, false
	}
	size := protowire.SizeTag(seriesBaseTime) + protowire.SizeFixed64()
	named := row.Measurement != "" && row.Measurement != telemetry.DefaultMeasurement
	if named {
		size += protowire.SizeTag(seriesMeasurement) + protowire.SizeBytes(len(row.Measurement))
	}
	for i := range row.Fields {
		f := &row.Fields[i]
		if f.Value.Kind() == 0 {
			return nil, false
		}
		for j := range row.Fields[:i] {
			if row.Fields[j].Name == f.Name {
				return nil, false
			}
		}
		size += protowire.SizeTag(seriesColumns) + protowire.SizeBytes(oneColumn(f))
	}
	msg = make([]byte, 0, size+2*(1+10))
	msg = protowire.AppendTag(msg, telemetrySeq, protowire.VarintType)
	msg = protowire.AppendVarint(msg, seq)
	msg = protowire.AppendTag(msg, telemetrySeries, protowire.BytesType)
	msg = protowire.AppendVarint(msg, uint64(size))
	if named {
		msg = protowire.AppendTag(msg, seriesMeasurement, protowire.BytesType)
		msg = protowire.AppendString(msg, row.Measurement)
	}
	msg = protowire.AppendTag(msg, seriesBaseTime, protowire.Fixed64Type)
	msg = protowire.AppendFixed64(msg, uint64(row.Time))
	for i := range row.Fields {
		msg = appendOneColumn(msg, &row.Fields[i])
	}
	return msg, true
}

func appendOneColumn(msg []byte, f *telemetry.Field) []byte {
	msg = protowire.AppendTag(msg, seriesColumns, protowire.BytesType)
	msg = protowire.AppendVarint(msg, uint64(oneColumn(f)))
	msg = protowire.AppendTag(msg, columnName, protowire.BytesType)
	msg = protowire.AppendString(msg, f.Name)
	if f.Value.Kind() == telemetry.String {
		msg = protowire.AppendTag(msg, columnStrings, protowire.BytesType)
		return protowire.AppendString(msg, f.Value.Str())
	}
	msg = protowire.AppendTag(msg, numbers[f.Value.Kind()], protowire.BytesType)
	msg = protowire.AppendVarint(msg, uint64(oneElement(f.Value)))
	return appendElement(msg, f.Value)
}

// oneColumn is the size of the column of one value, without its own head.
func oneColumn(f *telemetry.Field) int {
	size := protowire.SizeTag(columnName) + protowire.SizeBytes(len(f.Name))
	if f.Value.Kind() == telemetry.String {
		return size + protowire.SizeTag(columnStrings) + protowire.SizeBytes(len(f.Value.Str()))
	}
	return size + protowire.SizeTag(numbers[f.Value.Kind()]) + protowire.SizeBytes(oneElement(f.Value))
}

// oneElement is the size of what appendElement appends.
func oneElement(v telemetry.Value) int {
	switch v.Kind() {
	case telemetry.Double:
		return protowire.SizeFixed64()
	case telemetry.Float:
		return protowire.SizeFixed32()
	case telemetry.Int:
		return protowire.SizeVarint(protowire.EncodeZigZag(v.Int64()))
	}
	return 1
}
