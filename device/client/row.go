package client

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// Limits of the device protocol.
const (
	MaxFrameBytes  = 64 << 10 // one frame
	MaxFrameRows   = 1000     // rows in one frame
	MaxFields      = 256      // distinct fields of one device, over all its measurements
	MaxStringBytes = 4 << 10  // one string value
	MaxNameBytes   = 64       // a measurement's or a field's name
)

// MaxPast and MaxFuture bound the time of a row, counted from now.
const (
	MaxPast   = 10 * 365 * 24 * time.Hour
	MaxFuture = time.Hour
)

// DefaultMeasurement is the name that an empty measurement stands for.
const DefaultMeasurement = "telemetry"

// Row is everything that was measured at one time. Device, measurement and
// time identify it: a second row with the same three overwrites the first.
type Row struct {
	Measurement string // "": DefaultMeasurement
	// Time of the measurement. Zero: now, and never the time of another row
	// without a time.
	Time   time.Time
	Fields []Field // from 1 to MaxFields, each name once
}

// Reading is a row of the default measurement, taken now.
func Reading(fields ...Field) Row { return Row{Fields: fields} }

// Field is a named value. Make it with Double, Float, Int, Bool or String.
type Field struct {
	name string
	kind kind
	num  uint64 // float64 bits, float32 bits, int64 or 0/1
	str  string
}

type kind uint8

const (
	kindDouble kind = iota + 1
	kindFloat
	kindInt
	kindBool
	kindString
)

// Double is a field of a finite float64.
func Double(name string, v float64) Field {
	return Field{name: name, kind: kindDouble, num: math.Float64bits(v)}
}

// Float is a field of a finite float32; half the bytes of a Double.
func Float(name string, v float32) Field {
	return Field{name: name, kind: kindFloat, num: uint64(math.Float32bits(v))}
}

// Int is a field of a whole number.
func Int(name string, v int64) Field { return Field{name: name, kind: kindInt, num: uint64(v)} }

// Bool is a field of true or false.
func Bool(name string, v bool) Field {
	f := Field{name: name, kind: kindBool}
	if v {
		f.num = 1
	}
	return f
}

// String is a field of UTF-8 text of at most MaxStringBytes.
func String(name, v string) Field { return Field{name: name, kind: kindString, str: v} }

// Name of the field.
func (f Field) Name() string { return f.name }

// check returns nil, or an error that wraps ErrInvalidRow and names the
// culprit.
func (r *Row) check() error {
	if r.Measurement != "" && !validName(r.Measurement) {
		return fmt.Errorf("%w: measurement %.80q is not [A-Za-z_][A-Za-z0-9_]{0,63}", ErrInvalidRow, r.Measurement)
	}
	if len(r.Fields) == 0 {
		return fmt.Errorf("%w: no fields", ErrInvalidRow)
	}
	if len(r.Fields) > MaxFields {
		return fmt.Errorf("%w: %d fields; a device has at most %d", ErrInvalidRow, len(r.Fields), MaxFields)
	}
	for i := range r.Fields {
		if err := r.Fields[i].check(); err != nil {
			return err
		}
	}
	return checkDistinct(r.Fields)
}

func (f *Field) check() error {
	if !validName(f.name) {
		return fmt.Errorf("%w: field name %.80q is not [A-Za-z_][A-Za-z0-9_]{0,63}", ErrInvalidRow, f.name)
	}
	var v float64
	switch f.kind {
	case kindDouble:
		v = math.Float64frombits(f.num)
	case kindFloat:
		v = float64(math.Float32frombits(uint32(f.num)))
	case kindString:
		if len(f.str) > MaxStringBytes {
			return fmt.Errorf("%w: field %s: %d bytes; a string has at most %d", ErrInvalidRow, f.name, len(f.str), MaxStringBytes)
		}
		if !utf8.ValidString(f.str) {
			return fmt.Errorf("%w: field %s: not UTF-8", ErrInvalidRow, f.name)
		}
	case kindInt, kindBool:
	default:
		return fmt.Errorf("%w: field %s: no value", ErrInvalidRow, f.name)
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("%w: field %s: %v is not finite", ErrInvalidRow, f.name, v)
	}
	return nil
}

// checkDistinct wants each name once. Few fields are compared pair by pair,
// which costs no allocation.
func checkDistinct(fields []Field) error {
	var seen map[string]struct{}
	if len(fields) > 32 {
		seen = make(map[string]struct{}, len(fields))
	}
	for i := range fields {
		name := fields[i].name
		if seen != nil {
			if _, twice := seen[name]; twice {
				return fmt.Errorf("%w: field %s: twice", ErrInvalidRow, name)
			}
			seen[name] = struct{}{}
			continue
		}
		for j := range i {
			if fields[j].name == name {
				return fmt.Errorf("%w: field %s: twice", ErrInvalidRow, name)
			}
		}
	}
	return nil
}

func validName(s string) bool {
	if len(s) == 0 || len(s) > MaxNameBytes {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return true
}
