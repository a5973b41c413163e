package profile

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/influxdata/influxdb/models"

	"github.com/tetherline/tetherline/telemetry"
)

// influxSettings are the settings of the kind influx.
type influxSettings struct {
	Source sourceSettings `yaml:",inline"`

	// Precision of timestamps is ns, us, ms, s, m or h; "": ns.
	Precision string `yaml:"precision"`
	// Tags say what becomes of a tag, by its key: measurement, field or drop;
	// "*" is for those that are not named, which are measurement otherwise.
	//
	// A row of Tetherline is known by device, measurement and time. So
	// "cpu,cpu=cpu0 idle=9" and "cpu,cpu=cpu1 idle=8" of one time would
	// overwrite each other as long as their measurement is the same: the
	// values of tags go behind it, "cpu_cpu0" and "cpu_cpu1". Use field or
	// drop for tags that are the same for all lines of a piece of gear. A tag
	// whose value is the gear's name says nothing new and is dropped.
	Tags map[string]string `yaml:"tags"`
}

// influxKind is gear that sends InfluxDB line protocol, as Telegraf does.
func influxKind() Kind {
	return Kind{
		Name:    "influx",
		Summary: "InfluxDB line protocol, as Telegraf sends it",
		New: func(settings func(any) error) (Profile, error) {
			var s influxSettings
			if err := settings(&s); err != nil {
				return nil, err
			}
			return newInflux(s)
		},
		Recognise: recogniseInflux,
		Silence:   sourceSilence,
	}
}

// influx is the profile. The parser is that of InfluxDB 1.8 itself: what it
// takes here is what the server takes.
type influx struct {
	*source
	named     bool // the settings name the measurement, lines do not
	precision string
	tags      map[string]string
	made      map[madeKey]madeOf // measurements, of all gear
	seed      maphash.Seed       // of madeOf.hash
}

var precisions = map[string]string{"": "n", "ns": "n", "us": "u", "ms": "ms", "s": "s", "m": "m", "h": "h"}

func newInflux(s influxSettings) (Profile, error) {
	src, err := newSource("influx", s.Source, "gear")
	if err != nil {
		return nil, err
	}
	p := &influx{source: src, named: s.Source.Measurement != "", tags: s.Tags, seed: maphash.MakeSeed()}
	var ok bool
	if p.precision, ok = precisions[s.Precision]; !ok {
		return nil, fmt.Errorf("precision: %s is none of ns, us, ms, s, m, h", quoted(s.Precision))
	}
	for key, what := range s.Tags {
		if what != "measurement" && what != "field" && what != "drop" {
			return nil, fmt.Errorf("tags: %s: %s is none of measurement, field, drop", key, quoted(what))
		}
	}
	return p, nil
}

// Decode lines: one row each. Lines that are wrong are left out, which the
// report's problem says; a message without a good line is refused.
func (p *influx) Decode(m Message, reports []Report) ([]Report, error) {
	c, done, ok, err := p.from(m, reports)
	if !ok || err != nil {
		return done, err
	}
	r := Report{Gear: c.gear, Describe: p.describe, NotAlive: m.Retained}
	var trouble troubles
	if !utf8.Valid(m.Payload) {
		return reports, refusedOf(c.gear, Refuse("not UTF-8", ""))
	}
	if n := bytes.Count(m.Payload, []byte("\n")); n > telemetry.MaxFrameRows {
		return reports, refusedOf(c.gear, Refuse("too many rows", "over %d", telemetry.MaxFrameRows))
	}
	// The parser changes what it is given where it unescapes.
	points, err := models.ParsePointsWithPrecision(bytes.Clone(m.Payload), time.Time{}, p.precision)
	if err != nil {
		if len(points) == 0 {
			return reports, refusedOf(c.gear, Refuse("not line protocol", "%s", cut(err.Error())))
		}
		trouble.add(cut(err.Error()))
	}
	for _, point := range points {
		row := p.row(c.gear, point, m.Received, &trouble)
		if len(row.Fields) > 0 && (!m.Retained || row.Time != 0) {
			r.Rows = p.join(r.Rows, row, &trouble)
		}
	}
	if len(r.Rows) == 0 && trouble.n > 0 && !m.Retained {
		return reports, refusedOf(c.gear, Refuse("not line protocol", "%s", trouble.String()))
	}
	r.Problem = trouble.String()
	return append(reports, r), nil
}

func (p *influx) row(gear string, point models.Point, received time.Time, trouble *troubles) telemetry.Row {
	row := telemetry.Row{Measurement: p.measurement}
	parts := []string{string(point.Name())}
	if p.named {
		parts[0] = p.measurement
	}
	for _, tag := range point.Tags() {
		if string(tag.Value) == gear {
			continue
		}
		what, named := p.tags[string(tag.Key)]
		if !named {
			what = p.tags["*"]
		}
		switch what {
		case "", "measurement":
			parts = append(parts, string(tag.Value))
		case "field":
			p.add(&row, string(tag.Key), telemetry.StringValue(string(tag.Value)), trouble)
		}
	}
	row.Measurement = Name(parts...)
	p.sameMeasurement(gear, row.Measurement, parts, trouble)
	for it := point.FieldIterator(); it.Next(); {
		value, err := influxValue(it)
		if err != nil {
			trouble.add("field " + quoted(it.FieldKey()) + ": " + err.Error())
			continue
		}
		p.add(&row, string(it.FieldKey()), value, trouble)
	}
	if !point.Time().IsZero() {
		var err error
		if row.Time, err = checkTime(point.UnixNano(), received); err != nil {
			trouble.add(err.Error())
		}
	}
	return row
}

// join adds a row to those of the message. Fields of one measurement and time
// are one row, unless one has two values: what a line says otherwise than those
// before it is a row of its own, so that nothing is lost where lines differ in
// what no measurement tells, or one line contradicts another. Rows without a
// time each get their own.
func (p *influx) join(rows []telemetry.Row, row telemetry.Row, trouble *troubles) []telemetry.Row {
	for i := len(rows) - 1; i >= 0 && row.Time != 0; i-- {
		if rows[i].Time != row.Time || rows[i].Measurement != row.Measurement {
			continue
		}
		if otherwise(rows[i].Fields, row.Fields) {
			break
		}
		for _, f := range row.Fields {
			if !slices.ContainsFunc(rows[i].Fields, func(g telemetry.Field) bool { return g.Name == f.Name }) {
				p.add(&rows[i], f.Name, f.Value, trouble)
			}
		}
		return rows
	}
	return append(rows, row)
}

// otherwise reports whether a field has two values.
func otherwise(a, b []telemetry.Field) bool {
	for _, f := range b {
		if i := slices.IndexFunc(a, func(g telemetry.Field) bool { return g.Name == f.Name }); i >= 0 && a[i].Value != f.Value {
			return true
		}
	}
	return false
}

func (p *influx) add(row *telemetry.Row, key string, value telemetry.Value, trouble *troubles) {
	name := FieldName(key)
	switch {
	case slices.ContainsFunc(row.Fields, func(f telemetry.Field) bool { return f.Name == name }):
		trouble.add("field " + quoted(key) + ": the line has another " + name + ", which is kept")
	case len(row.Fields) == telemetry.MaxFields:
		trouble.add(fmt.Sprintf("a line has over %d fields: the first are kept", telemetry.MaxFields))
	case value.Kind() == telemetry.String && len(value.Str()) > telemetry.MaxStringBytes:
		trouble.add("field " + quoted(key) + ": a text over 4096 bytes")
	default:
		row.Fields = append(row.Fields, telemetry.Field{Name: name, Value: value})
	}
}

func influxValue(it models.FieldIterator) (telemetry.Value, error) {
	switch it.Type() {
	case models.Float:
		v, err := it.FloatValue()
		if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
			err = errors.New("not finite")
		}
		return telemetry.DoubleValue(v), err
	case models.Integer:
		v, err := it.IntegerValue()
		return telemetry.IntValue(v), err
	case models.Boolean:
		v, err := it.BooleanValue()
		return telemetry.BoolValue(v), err
	case models.String:
		return telemetry.StringValue(strings.Clone(it.StringValue())), nil
	}
	return telemetry.Value{}, errors.New("of a type that is not stored")
}

// recogniseInflux takes line protocol; the gear is the level before the last,
// as in Telegraf's "telegraf/HOST/PLUGIN", or the only one.
func recogniseInflux(m Message) (map[string]any, bool) {
	if !utf8.Valid(m.Payload) || bytes.HasPrefix(m.Payload, []byte("{")) || len(m.Payload) > MaxPayloadBytes || !plainTopic(m.Topic) {
		return nil, false
	}
	points, err := models.ParsePoints(bytes.Clone(m.Payload))
	if err != nil || len(points) == 0 {
		return nil, false
	}
	levels := strings.Split(m.Topic, "/")
	switch n := len(levels); n {
	case 1:
		levels[0] = "{gear}"
	case 2:
		levels[1] = "{gear}"
	default:
		levels[n-2], levels[n-1] = "{gear}", "+"
	}
	return map[string]any{"topic": strings.Join(levels, "/")}, true
}
