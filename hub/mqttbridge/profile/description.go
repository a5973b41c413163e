package profile

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// Bounds of a description: those that hold for devices of the hub's own
// protocol, with some room.
const (
	maxDescriptionBytes = 15 << 10
	maxUnitBytes        = 32
	maxTextBytes        = 128
)

// description puts a Describe together, within bounds: a field or command
// that is over them is left out, which costs its unit in displays and nothing
// else.
type description struct {
	of          devicev1.Describe
	measurement string // of the fields; "": telemetry.DefaultMeasurement
	bytes       int
}

// describing begins the description of gear whose rows have a measurement.
func describing(measurement string) description {
	if measurement == telemetry.DefaultMeasurement {
		measurement = ""
	}
	return description{measurement: measurement}
}

func (d *description) field(name, unit string, kind telemetry.Kind, text string) {
	if len(d.of.Fields) == telemetry.MaxFields {
		return
	}
	f := &devicev1.FieldDescription{Name: name, Measurement: d.measurement, Unit: unitName(unit), Kind: KindNumber(kind), Description: clean(text, maxTextBytes)}
	if d.fits(f) {
		d.of.Fields = append(d.of.Fields, f)
	}
}

func (d *description) command(name, text string, arguments ...*devicev1.ArgumentDescription) {
	c := &devicev1.CommandDescription{Name: name, Description: text, Arguments: arguments}
	if d.fits(c) {
		d.of.Commands = append(d.of.Commands, c)
	}
}

func (d *description) fits(m proto.Message) bool {
	n := proto.Size(m) + 4
	if d.bytes+n > maxDescriptionBytes {
		return false
	}
	d.bytes += n
	return true
}

func (d *description) done() *devicev1.Describe { return &d.of }

func argument(name string, kind telemetry.Kind, required bool, text string) *devicev1.ArgumentDescription {
	return &devicev1.ArgumentDescription{Name: name, Kind: KindNumber(kind), Required: required, Description: clean(text, maxTextBytes)}
}

// describeAgain is after how long a description is told again though it has
// not changed: the gear may have been allowed meanwhile.
const describeAgain = time.Minute

// due tells whether it is time, and notes that it was told.
func due(told *time.Time, now time.Time) bool {
	if since := now.Sub(*told); since >= 0 && since < describeAgain {
		return false
	}
	*told = now
	return true
}

// anyKind is for an argument that takes values of several kinds.
const anyKind = telemetry.Kind(0)

// KindNumber is the same kind by its name in the device protocol.
func KindNumber(kind telemetry.Kind) devicev1.Kind {
	switch kind {
	case telemetry.Double:
		return devicev1.Kind_KIND_DOUBLE
	case telemetry.Float:
		return devicev1.Kind_KIND_FLOAT
	case telemetry.Int:
		return devicev1.Kind_KIND_INT
	case telemetry.Bool:
		return devicev1.Kind_KIND_BOOL
	case telemetry.String:
		return devicev1.Kind_KIND_STRING
	}
	return devicev1.Kind_KIND_UNSPECIFIED
}

// clean makes text of gear fit to be shown: valid UTF-8 of at most most bytes.
func clean(text string, most int) string {
	text = strings.ToValidUTF8(text, "")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return text
}

// ucum are the units that gear writes otherwise than UCUM does (ucum.org).
var ucum = map[string]string{
	"°C": "Cel", "ºC": "Cel", "℃": "Cel",
	"°F": "[degF]", "ºF": "[degF]", "℉": "[degF]",
	"°": "deg", "gal": "[gal_us]", "psi": "[psi]", "ft": "[ft_i]",
	"dBm": "dB[mW]", "VA": "V.A", "Wh": "W.h", "kWh": "kW.h",
	"Ah": "A.h", "mAh": "mA.h", "mph": "[mi_i]/h", "m³": "m3", "m²": "m2", "m/s²": "m/s2",
	"µg/m³": "ug/m3", "μg/m³": "ug/m3", "m³/h": "m3/h", "ppm": "[ppm]", "ppb": "[ppb]",
	"rpm": "{rpm}", "lqi": "{lqi}", "#": "1",
}

// unitName is a unit in UCUM where gear writes it otherwise and the two are
// known to be the same, else as it is. A unit that is too long is left out.
func unitName(unit string) string {
	unit = strings.TrimSpace(unit)
	if known, ok := ucum[unit]; ok {
		return known
	}
	if len(unit) > maxUnitBytes || clean(unit, maxUnitBytes) != unit {
		return ""
	}
	return unit
}
