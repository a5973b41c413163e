package profile

import (
	"fmt"
	"math"
	"unicode/utf8"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
	"github.com/tetherline/tetherline/telemetry"
)

type (
	sparkplugMessage = sparkplugv1.Payload
	sparkplugWire    = sparkplugv1.Payload_Metric
)

// sparkplugKindOf is the kind in which values of a data type are stored; 0:
// they are not. A DateTime is stored as its number of milliseconds.
func sparkplugKindOf(datatype uint32) telemetry.Kind {
	switch sparkplugv1.DataType(datatype) {
	case sparkplugv1.DataType_Int8, sparkplugv1.DataType_Int16, sparkplugv1.DataType_Int32, sparkplugv1.DataType_Int64,
		sparkplugv1.DataType_UInt8, sparkplugv1.DataType_UInt16, sparkplugv1.DataType_UInt32, sparkplugv1.DataType_UInt64,
		sparkplugv1.DataType_DateTime:
		return telemetry.Int
	case sparkplugv1.DataType_Float:
		return telemetry.Float
	case sparkplugv1.DataType_Double:
		return telemetry.Double
	case sparkplugv1.DataType_Boolean:
		return telemetry.Bool
	case sparkplugv1.DataType_String, sparkplugv1.DataType_Text, sparkplugv1.DataType_UUID:
		return telemetry.String
	}
	return 0
}

// dataTypeName is for people.
func dataTypeName(datatype uint32) string {
	if name, ok := sparkplugv1.DataType_name[int32(datatype)]; ok && datatype <= math.MaxInt32 {
		return name
	}
	return fmt.Sprintf("data type %d", datatype)
}

// sparkplugReading is the value of a metric of a data type that is stored.
// The error says why it is none: a value in another member of the oneof, out
// of the range of its type or, for a UInt64, of an int64.
func sparkplugReading(m *sparkplugWire, datatype uint32) (telemetry.Value, error) {
	switch sparkplugKindOf(datatype) {
	case telemetry.Int:
		n, err := sparkplugInteger(m, sparkplugv1.DataType(datatype))
		return telemetry.IntValue(n), err
	case telemetry.Float:
		v, ok := m.GetValue().(*sparkplugv1.Payload_Metric_FloatValue)
		if !ok {
			return telemetry.Value{}, wrongMember(m, datatype)
		}
		return telemetry.FloatValue(v.FloatValue), finite(float64(v.FloatValue))
	case telemetry.Double:
		v, ok := m.GetValue().(*sparkplugv1.Payload_Metric_DoubleValue)
		if !ok {
			return telemetry.Value{}, wrongMember(m, datatype)
		}
		return telemetry.DoubleValue(v.DoubleValue), finite(v.DoubleValue)
	case telemetry.Bool:
		v, ok := m.GetValue().(*sparkplugv1.Payload_Metric_BooleanValue)
		if !ok {
			return telemetry.Value{}, wrongMember(m, datatype)
		}
		return telemetry.BoolValue(v.BooleanValue), nil
	case telemetry.String:
		v, ok := m.GetValue().(*sparkplugv1.Payload_Metric_StringValue)
		if !ok {
			return telemetry.Value{}, wrongMember(m, datatype)
		}
		return telemetry.StringValue(v.StringValue), checkText(v.StringValue)
	}
	return telemetry.Value{}, fmt.Errorf("%s is not stored", dataTypeName(datatype))
}

func wrongMember(m *sparkplugWire, datatype uint32) error {
	member := "no value"
	if of := m.ProtoReflect(); m.GetValue() != nil {
		member = string(of.WhichOneof(of.Descriptor().Oneofs().ByName("value")).Name()) // as the specification has it
	}
	return fmt.Errorf("%s where a %s belongs", member, dataTypeName(datatype))
}

func finite(v float64) error {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("%v is not finite", v)
	}
	return nil
}

// checkText says why a text cannot be stored.
func checkText(s string) error {
	switch {
	case len(s) > telemetry.MaxStringBytes:
		return fmt.Errorf("a text of %d bytes, the limit is %d", len(s), telemetry.MaxStringBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("a text that is not UTF-8")
	}
	return nil
}

// sparkplugInteger reads an integer from int_value or long_value. Signed ones
// are two's complement; encoders differ in whether an Int8 of -1 is 0xff or
// 0xffffffff, and both are taken.
func sparkplugInteger(m *sparkplugWire, datatype sparkplugv1.DataType) (int64, error) {
	var raw uint64
	width := 64
	switch v := m.GetValue().(type) {
	case *sparkplugv1.Payload_Metric_IntValue:
		raw, width = uint64(v.IntValue), 32
	case *sparkplugv1.Payload_Metric_LongValue:
		raw = v.LongValue
	default:
		return 0, wrongMember(m, uint32(datatype))
	}
	signed, bits := integerOf(datatype)
	if !signed {
		if bits < 64 && raw>>bits != 0 || raw > math.MaxInt64 {
			return 0, fmt.Errorf("%d is out of the range of %s as it is stored", raw, datatype)
		}
		return int64(raw), nil
	}
	if width == 32 && bits == 64 && raw > math.MaxInt32 {
		return 0, fmt.Errorf("int_value %d where an Int64 belongs: its sign is not known", raw)
	}
	if width == 32 && bits < 64 {
		raw = uint64(int64(int32(raw)))
	}
	n := int64(raw)
	if bits < 64 {
		if raw>>bits == 0 { // not extended by its sign
			n = int64(raw<<(64-bits)) >> (64 - bits)
		}
		if n < -1<<(bits-1) || n >= 1<<(bits-1) {
			return 0, fmt.Errorf("%d is out of the range of %s", n, datatype)
		}
	}
	return n, nil
}

// integerOf is the sign and width of an integer type; a DateTime counts
// milliseconds from 1970 on.
func integerOf(datatype sparkplugv1.DataType) (signed bool, bits int) {
	switch datatype {
	case sparkplugv1.DataType_Int8:
		return true, 8
	case sparkplugv1.DataType_Int16:
		return true, 16
	case sparkplugv1.DataType_Int32:
		return true, 32
	case sparkplugv1.DataType_Int64:
		return true, 64
	case sparkplugv1.DataType_UInt8:
		return false, 8
	case sparkplugv1.DataType_UInt16:
		return false, 16
	case sparkplugv1.DataType_UInt32:
		return false, 32
	}
	return false, 64 // UInt64, DateTime
}
