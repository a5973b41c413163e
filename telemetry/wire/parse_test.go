package wire_test

import (
	"testing"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"

	"github.com/tetherline/tetherline/telemetry"
)

// parseLines reads lines with github.com/influxdata/line-protocol/v2, the
// parser that InfluxData maintains for clients and for InfluxDB IOx. It is not
// the parser of the 1.8 and 2.x servers (models.ParsePoints); the round trip
// through a real 1.8 server is in the contract suite of the stores.
func parseLines(t *testing.T, lines []byte) []telemetry.Row {
	t.Helper()
	var rows []telemetry.Row
	dec := lineprotocol.NewDecoderWithBytes(lines)
	for dec.Next() {
		measurement, err := dec.Measurement()
		if err != nil {
			t.Fatalf("%v in %q", err, lines)
		}
		row := telemetry.Row{Measurement: string(measurement)}
		for {
			key, value, err := dec.NextTag()
			if err != nil {
				t.Fatalf("%v in %q", err, lines)
			}
			if key == nil {
				break
			}
			if string(key) == "device" {
				row.Device = string(value)
			} else {
				row.Labels += "," + string(key) + "=" + string(value)
			}
		}
		for {
			key, value, err := dec.NextField()
			if err != nil {
				t.Fatalf("%v in %q", err, lines)
			}
			if key == nil {
				break
			}
			row.Fields = append(row.Fields, telemetry.Field{Name: string(key), Value: parsed(t, value)})
		}
		at, err := dec.Time(lineprotocol.Nanosecond, time.Time{})
		if err != nil {
			t.Fatalf("%v in %q", err, lines)
		}
		row.Time = at.UnixNano()
		rows = append(rows, row)
	}
	if err := dec.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

func parsed(t *testing.T, v lineprotocol.Value) telemetry.Value {
	t.Helper()
	switch v.Kind() {
	case lineprotocol.Float:
		return telemetry.DoubleValue(v.FloatV())
	case lineprotocol.Int:
		return telemetry.IntValue(v.IntV())
	case lineprotocol.Bool:
		return telemetry.BoolValue(v.BoolV())
	case lineprotocol.String:
		return telemetry.StringValue(v.StringV())
	}
	t.Fatalf("a value of kind %v", v.Kind())
	return telemetry.Value{}
}

// stored is rows as a store has them: a Float is a float64 of its value.
func stored(rows []telemetry.Row) []telemetry.Row {
	out := make([]telemetry.Row, len(rows))
	for i, r := range rows {
		out[i] = r
		out[i].Fields = nil
		for _, f := range r.Fields {
			if f.Value.Kind() == telemetry.Float {
				f.Value = telemetry.DoubleValue(f.Value.Float64())
			}
			out[i].Fields = append(out[i].Fields, f)
		}
	}
	return out
}
