package profile

import (
	"fmt"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// measurementOf is the measurement of a profile's rows: the one of the
// settings, or else the name of the kind. InfluxDB has one type for a field of
// a measurement, over all devices; so what one kind of gear calls by a name,
// and what devices on wss do in telemetry.DefaultMeasurement, do not meet.
func measurementOf(settings, kind string) (string, error) {
	if settings == "" {
		return kind, nil
	}
	if err := wire.CheckMeasurementName(settings); err != nil {
		return "", fmt.Errorf("measurement: %w", err)
	}
	return settings, nil
}

// measuredAs gives rows their measurement.
func measuredAs(measurement string, rows []telemetry.Row) []telemetry.Row {
	for i := range rows {
		rows[i].Measurement = measurement
	}
	return rows
}

// oneRow is a row with one field, of the time of arrival. It has no
// measurement yet.
func oneRow(field string, value telemetry.Value) []telemetry.Row {
	return []telemetry.Row{{Fields: []telemetry.Field{{Name: field, Value: value}}}}
}
