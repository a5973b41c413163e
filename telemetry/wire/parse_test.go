package wire_test

import (
	"testing"

	"github.com/influxdata/influxdb/models"

	"github.com/tetherline/tetherline/telemetry"
)

// parseLines reads lines with the parser of InfluxDB itself, the one that a
// 1.8 server has behind /write and /api/v2/write.
func parseLines(t *testing.T, lines []byte) []telemetry.Row {
	t.Helper()
	points, err := models.ParsePoints(lines)
	if err != nil {
		t.Fatalf("%v in %q", err, lines)
	}
	var rows []telemetry.Row
	for _, point := range points {
		row := telemetry.Row{Measurement: string(point.Name()), Time: point.Time().UnixNano()}
		for _, tag := range point.Tags() {
			if string(tag.Key) == "device" {
				row.Device = string(tag.Value)
			} else {
				row.Labels += "," + string(tag.Key) + "=" + string(tag.Value)
			}
		}
		for it := point.FieldIterator(); it.Next(); {
			row.Fields = append(row.Fields, telemetry.Field{Name: string(it.FieldKey()), Value: parsed(t, it)})
		}
		rows = append(rows, row)
	}
	return rows
}

func parsed(t *testing.T, it models.FieldIterator) telemetry.Value {
	t.Helper()
	var value telemetry.Value
	var err error
	switch it.Type() {
	case models.Float:
		var v float64
		v, err = it.FloatValue()
		value = telemetry.DoubleValue(v)
	case models.Integer:
		var v int64
		v, err = it.IntegerValue()
		value = telemetry.IntValue(v)
	case models.Boolean:
		var v bool
		v, err = it.BooleanValue()
		value = telemetry.BoolValue(v)
	case models.String:
		value = telemetry.StringValue(it.StringValue())
	default:
		t.Fatalf("a value of type %v", it.Type())
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
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
