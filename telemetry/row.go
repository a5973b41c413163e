// Package telemetry is the domain of readings: what a row is, where rows wait
// (Buffer), where they end (Sink), how they are read back (Reader), and the
// Pump that carries them from the one to the other. It knows no technology;
// one folder below it stands for each.
package telemetry

import (
	"math"
	"time"
)

// DefaultMeasurement is the name that an empty measurement stands for.
const DefaultMeasurement = "telemetry"

// Limits of the device protocol. A frame that is over one of them is refused
// as a whole, before any of it is stored.
const (
	MaxFrameBytes  = 64 << 10 // one DeviceFrame
	MaxFrameRows   = 1000     // rows in one Telemetry frame, over all its series
	MaxFields      = 256      // distinct fields of one device, over all its measurements
	MaxStringBytes = 4 << 10  // one string value
	MaxNameBytes   = 64       // measurement or field
)

// Past and Future bound the time of a row, counted from the hub's clock.
const (
	MaxPast   = 10 * 365 * 24 * time.Hour
	MaxFuture = time.Hour
)

// Kind is the type of a field's values. The zero Kind is no type.
type Kind uint8

// The kinds that the device protocol carries. A Float is stored as a float64
// of the same value.
const (
	Double Kind = iota + 1
	Float
	Int
	Bool
	String
)

func (k Kind) String() string {
	switch k {
	case Double:
		return "double"
	case Float:
		return "float"
	case Int:
		return "int"
	case Bool:
		return "bool"
	case String:
		return "string"
	}
	return "unknown"
}

// Value is one value of one field. Its zero value has no kind and is not a
// value.
type Value struct {
	kind Kind
	num  uint64 // float64 bits, int64 or 0/1
	str  string
}

// DoubleValue, FloatValue, IntValue, BoolValue and StringValue make Values.
func DoubleValue(v float64) Value { return Value{kind: Double, num: math.Float64bits(v)} }

// FloatValue keeps v's float32 precision: it is stored as float64(v).
func FloatValue(v float32) Value { return Value{kind: Float, num: math.Float64bits(float64(v))} }

// IntValue makes a Value of kind Int.
func IntValue(v int64) Value { return Value{kind: Int, num: uint64(v)} }

// BoolValue makes a Value of kind Bool.
func BoolValue(v bool) Value {
	if v {
		return Value{kind: Bool, num: 1}
	}
	return Value{kind: Bool}
}

// StringValue makes a Value of kind String; v is UTF-8 of at most
// MaxStringBytes.
func StringValue(v string) Value { return Value{kind: String, str: v} }

// Kind of the value; 0 for the zero Value.
func (v Value) Kind() Kind { return v.kind }

// Float64 of a Double or Float; 0 for other kinds.
func (v Value) Float64() float64 {
	if v.kind != Double && v.kind != Float {
		return 0
	}
	return math.Float64frombits(v.num)
}

// Int64 of an Int; 0 for other kinds.
func (v Value) Int64() int64 {
	if v.kind != Int {
		return 0
	}
	return int64(v.num)
}

// Bool of a Bool; false for other kinds.
func (v Value) Bool() bool { return v.kind == Bool && v.num == 1 }

// Str of a String; "" for other kinds. It may share memory with the bytes the
// row was decoded from: copy it (strings.Clone) to keep it beyond them.
func (v Value) Str() string { return v.str }

// Field is a named value.
type Field struct {
	Name  string
	Value Value
}

// Row is one reading: everything one device measured at one time under one
// measurement. Its identity is (Device, Measurement, Time): storing a row
// again overwrites it with the same values.
type Row struct {
	Device      string
	Measurement string // never ""
	Time        int64  // Unix time in ns
	Fields      []Field
	Labels      string // of the device, as Entry.Labels
}
