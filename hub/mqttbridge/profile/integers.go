package profile

import (
	"fmt"

	"github.com/tetherline/tetherline/telemetry"
)

// integers is the setting of kinds whose gear declares types: "" stores what is
// declared an integer as one, "number" as a Double, exact up to 2^53, so that
// gear that declares a field of one name otherwise makes no field of two types.
type integers string

func (i integers) check() error {
	if i != "" && i != "number" {
		return fmt.Errorf("integers: %s is neither absent nor number", quoted(string(i)))
	}
	return nil
}

// kind in which values of a declared kind are stored.
func (i integers) kind(declared telemetry.Kind) telemetry.Kind {
	if i != "" && declared == telemetry.Int {
		return telemetry.Double
	}
	return declared
}

func (i integers) value(v telemetry.Value) telemetry.Value {
	if i != "" && v.Kind() == telemetry.Int {
		return telemetry.DoubleValue(float64(v.Int64()))
	}
	return v
}
