package firmwaresim

import (
	"math/rand/v2"
	"time"

	"github.com/tetherline/tetherline/device/client"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// A model is one kind of simulated device: what it measures and what it
// tells the hub of itself.
type model struct {
	name     string
	firmware string
	describe *devicev1.Describe // shared by all devices
	start    func(rng *rand.Rand) sensors
}

// sensors of one device. sample appends the fields of one row.
type sensors func(fields []client.Field, t time.Time) []client.Field

const (
	double = devicev1.Kind_KIND_DOUBLE
	float  = devicev1.Kind_KIND_FLOAT
	whole  = devicev1.Kind_KIND_INT
	truth  = devicev1.Kind_KIND_BOOL
	text   = devicev1.Kind_KIND_STRING
)

func field(name string, kind devicev1.Kind, unit, description string) *devicev1.FieldDescription {
	return &devicev1.FieldDescription{Name: name, Kind: kind, Unit: unit, Description: description}
}

// describeModel is what a model tells of itself: its own fields, those of the
// board, and the commands.
func describeModel(own ...*devicev1.FieldDescription) *devicev1.Describe {
	return &devicev1.Describe{Fields: append(own, boardFields...), Commands: commandDescriptions}
}

// boardFields are what every model measures of itself.
var boardFields = []*devicev1.FieldDescription{
	field("battery", double, "V", "voltage of the cell"),
	field("rssi", whole, "dB[mW]", "signal strength"),
	field("uptime", whole, "s", "since the last start"),
	field("mode", text, "", "what the firmware is doing"),
}

// models that a fleet consists of, in turn.
var models = []model{climateModel, motorModel, trackerModel, gateModel}

var climateModel = model{
	name: "climate", firmware: "sim-climate 1.4.0",
	describe: describeModel(
		field("temperature", double, "Cel", "air temperature"),
		field("humidity", float, "%", "relative humidity")),
	start: func(rng *rand.Rand) sensors {
		temperature := &diurnal{rng: rng, mean: 14 + 4*rng.NormFloat64(), swing: 6, noise: 0.05, lo: -40, hi: 85}
		humidity := &diurnal{rng: rng, mean: 65, swing: -18, noise: 0.3, lo: 5, hi: 100}
		board := newBoard(rng, "measure", "sleep", "send")
		return func(fields []client.Field, t time.Time) []client.Field {
			fields = append(fields,
				client.Double("temperature", temperature.at(t)),
				client.Float("humidity", float32(humidity.at(t))))
			return board.sample(fields, t)
		}
	},
}

var motorModel = model{
	name: "motor", firmware: "sim-motor 2.0.3",
	describe: describeModel(
		field("vibration", double, "mm/s", "RMS velocity at the bearing"),
		field("rpm", whole, "/min", "speed of the shaft"),
		field("winding", double, "Cel", "temperature of the winding"),
		field("fault", truth, "", "vibration over the limit of ISO 10816 zone D")),
	start: func(rng *rand.Rand) sensors {
		bearing := &vibration{rng: rng, base: 0.9 + 0.2*rng.Float64()}
		board := newBoard(rng, "run", "idle", "ramp")
		winding := 40.0
		return func(fields []client.Field, t time.Time) []client.Field {
			v := bearing.at(t)
			winding += 0.05*(55+4*v-winding) + 0.1*rng.NormFloat64()
			fields = append(fields,
				client.Double("vibration", v),
				client.Int("rpm", int64(1480+6*rng.NormFloat64())),
				client.Double("winding", round(winding, 2)),
				client.Bool("fault", v > 4.5))
			return board.sample(fields, t)
		}
	},
}

var trackerModel = model{
	name: "tracker", firmware: "sim-tracker 0.9.1",
	describe: describeModel(
		field("lat", double, "deg", "WGS 84"),
		field("lon", double, "deg", "WGS 84"),
		field("speed", float, "m/s", "over ground")),
	start: func(rng *rand.Rand) sensors {
		lat, lon := 48+4*rng.Float64(), 8+5*rng.Float64()
		path := &walk{rng: rng, lat: lat, lon: lon, home: [2]float64{lat, lon}, speed: 5}
		board := newBoard(rng, "drive", "park", "no fix")
		return func(fields []client.Field, t time.Time) []client.Field {
			path.step(t)
			fields = append(fields,
				client.Double("lat", round(path.lat, 6)),
				client.Double("lon", round(path.lon, 6)),
				client.Float("speed", float32(round(path.speed, 1))))
			return board.sample(fields, t)
		}
	},
}

var gateModel = model{
	name: "gate", firmware: "sim-gate 3.2.0",
	describe: describeModel(
		field("open", truth, "", "the contact of the door"),
		field("cycles", whole, "", "times it was opened")),
	start: func(rng *rand.Rand) sensors {
		door := &contact{rng: rng}
		board := newBoard(rng, "auto", "manual", "locked")
		cycles := int64(rng.IntN(5000))
		return func(fields []client.Field, t time.Time) []client.Field {
			was := door.open
			if door.at(t) && !was {
				cycles++
			}
			fields = append(fields, client.Bool("open", door.open), client.Int("cycles", cycles))
			return board.sample(fields, t)
		}
	},
}

// board is what every simulated ESP32 reports of itself.
type board struct {
	rng     *rand.Rand
	cell    battery
	modes   []string
	mode    int
	rssi    float64
	started time.Time
}

func newBoard(rng *rand.Rand, modes ...string) *board {
	return &board{
		rng: rng, modes: modes, rssi: -55 - 25*rng.Float64(),
		cell: battery{rng: rng, charge: 0.2 + 0.8*rng.Float64(), drain: 1e-5},
	}
}

func (b *board) sample(fields []client.Field, t time.Time) []client.Field {
	if b.started.IsZero() {
		b.started = t
	}
	if b.rng.IntN(100) == 0 {
		b.mode = b.rng.IntN(len(b.modes))
	}
	return append(fields,
		client.Double("battery", b.cell.at(t)),
		client.Int("rssi", int64(b.rssi+3*b.rng.NormFloat64())),
		client.Int("uptime", int64(t.Sub(b.started).Seconds())),
		client.String("mode", b.modes[b.mode]))
}
