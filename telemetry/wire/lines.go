package wire

import (
	"math"
	"strconv"

	"github.com/tetherline/tetherline/telemetry"
)

// AppendLines appends the rows of b to dst as InfluxDB line protocol, one line
// a row, with all fields of the row and its time in ns:
//
//	measurement,device=ID<Labels> f1=1.5,f2=3i,f3=t,f4="s" 1700000000000000000\n
//
// The stores of InfluxDB 1.8 and 2 read back from it the very values of the
// row: floats are written with as many digits as tell them apart, a Float as
// the float64 of its value, and a string keeps every byte. In strings only the
// quote and the backslash are escaped; a line break stands as it is, as the
// server's parser reads lines by their quotes. Names and device ids need no
// escapes: what they are made of is restricted.
//
// On an error, as Rows gives it, it returns dst as it was.
func AppendLines(dst []byte, b telemetry.Batch) ([]byte, error) {
	out := dst
	err := Rows(b, func(r *telemetry.Row) error {
		out = appendLine(out, r)
		return nil
	})
	if err != nil {
		return dst, err
	}
	return out, nil
}

func appendLine(dst []byte, r *telemetry.Row) []byte {
	dst = append(dst, r.Measurement...)
	dst = append(dst, ",device="...)
	dst = append(dst, r.Device...)
	dst = append(dst, r.Labels...)
	separator := byte(' ')
	for i := range r.Fields {
		f := &r.Fields[i]
		dst = append(dst, separator)
		dst = append(dst, f.Name...)
		dst = append(dst, '=')
		dst = appendValue(dst, f.Value)
		separator = ','
	}
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, r.Time, 10)
	return append(dst, '\n')
}

func appendValue(dst []byte, v telemetry.Value) []byte {
	switch v.Kind() {
	case telemetry.Double, telemetry.Float:
		return appendFloat(dst, v.Float64())
	case telemetry.Int:
		return append(strconv.AppendInt(dst, v.Int64(), 10), 'i')
	case telemetry.Bool:
		if v.Bool() {
			return append(dst, 't')
		}
		return append(dst, 'f')
	default:
		return appendString(dst, v.Str())
	}
}

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	plain := 0
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, s[plain:i]...)
			dst = append(dst, '\\')
			plain = i
		}
	}
	dst = append(dst, s[plain:]...)
	return append(dst, '"')
}

// appendFloat appends v, which is finite, so that it reads back as v.
//
// Sensors mostly send numbers of few decimals, and those need not pay for the
// search of the shortest form. An integer below 2^53 and a power of ten up to
// 10^22 are both exact, so their quotient, rounded once, is by definition what
// the decimal reads as (Clinger, How to Read Floating Point Numbers
// Accurately, 1990).
func appendFloat(dst []byte, v float64) []byte {
	const decimals, scale, most = 4, 1e4, 1 << 53 / 1e4
	if !(math.Abs(v) < most) || v == 0 {
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	}
	scaled := math.Round(v * scale)
	if scaled/scale != v {
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	}
	n := int64(scaled)
	if n < 0 {
		dst = append(dst, '-')
		n = -n
	}
	whole, part := n/scale, n%scale
	dst = strconv.AppendInt(dst, whole, 10)
	if part == 0 {
		return dst
	}
	var digits [decimals]byte
	for i := decimals - 1; i >= 0; i-- {
		digits[i] = byte('0' + part%10)
		part /= 10
	}
	end := decimals
	for digits[end-1] == '0' {
		end--
	}
	dst = append(dst, '.')
	return append(dst, digits[:end]...)
}
