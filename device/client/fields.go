package client

import (
	"fmt"
	"hash/maphash"
	"slices"
)

// fieldSet is the hashes of every field that the client has published. The
// hub rejects whole frames of a device that has more than MaxFields.
type fieldSet []uint64

var fieldSeed = maphash.MakeSeed()

// admit adds the row's fields, or returns an error that wraps ErrInvalidRow
// and adds none. Fields that the open batch has are known already.
func (s *fieldSet) admit(b *batch, r *Row) error {
	measurement := r.Measurement
	if measurement == DefaultMeasurement {
		measurement = ""
	}
	var open *series
	if b != nil {
		open = b.newest(measurement)
	}
	known := len(*s)
	for i := range r.Fields {
		name := r.Fields[i].name
		if open != nil && open.column(name, i) != nil {
			continue
		}
		var h maphash.Hash
		h.SetSeed(fieldSeed)
		_, _ = h.WriteString(measurement)
		_ = h.WriteByte(0)
		_, _ = h.WriteString(name)
		sum := h.Sum64()
		if slices.Contains(*s, sum) {
			continue
		}
		if len(*s) == MaxFields {
			*s = (*s)[:known]
			return fmt.Errorf("%w: field %s: the device has %d fields already, the most it may", ErrInvalidRow, name, MaxFields)
		}
		*s = append(*s, sum)
	}
	return nil
}

// newest series of a measurement; nil: none.
func (b *batch) newest(measurement string) *series {
	for i := len(b.series) - 1; i >= 0; i-- {
		if b.series[i].measurement == measurement {
			return &b.series[i]
		}
	}
	return nil
}
