package profile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
)

// jsonSettings are the settings of the kind json.
type jsonSettings struct {
	Source sourceSettings `yaml:",inline"`

	// Fields are those that are renamed, or have a unit or a type. A path is
	// the keys joined by '.', an array's elements by their number from 0; '*'
	// is any one key: "ENERGY.Power", "sensors.*.temp".
	Fields []jsonFieldSettings `yaml:"fields"`
	// Only says that other fields are left out.
	Only bool `yaml:"only"`
	// Omit are paths that are left out.
	Omit []string `yaml:"omit"`
	// Time is where the time of a message stands; absent: its arrival.
	Time *timeSettings `yaml:"time"`
}

type jsonFieldSettings struct {
	Path string `yaml:"path"`
	Name string `yaml:"name"` // "": made of the path; not with '*'
	// Type is number, integer, bool or text; "": as JSON has it, every number
	// a double. A text that is a number, and a bool written as on or off, are
	// taken as such.
	Type        string `yaml:"type"`
	Unit        string `yaml:"unit"`
	Description string `yaml:"description"`
}

// jsonKind is gear that sends JSON documents.
func jsonKind() Kind {
	return Kind{
		Name:    "json",
		Summary: "JSON documents: nested objects are flattened, fields chosen, renamed and typed",
		New: func(settings func(any) error) (Profile, error) {
			var s jsonSettings
			if err := settings(&s); err != nil {
				return nil, err
			}
			return newJSON(s)
		},
		Recognise: recogniseJSON,
		Silence:   sourceSilence,
	}
}

// jsonProfile is the profile of the kind json.
type jsonProfile struct {
	*source
	rules     []jsonRule
	only      bool
	time      *timeField // nil: arrival
	flattener Flattener
	fields    []telemetry.Field // scratch
}

// jsonRule is what the settings say of the paths that match.
type jsonRule struct {
	keys []string
	omit bool
	name string
	parse
}

// jsonField is what becomes of one path: remembered, because the same paths
// come again and again.
type jsonField struct {
	omit bool
	time bool
	name string
	parse
}

func newJSON(s jsonSettings) (Profile, error) {
	src, err := newSource("json", s.Source, "gear", "measurement")
	if err != nil {
		return nil, err
	}
	p := &jsonProfile{source: src, only: s.Only}
	if s.Only && len(s.Fields) == 0 {
		return nil, errors.New("only: there are no fields, so nothing would be stored")
	}
	for i, path := range s.Omit {
		if path == "" {
			return nil, fmt.Errorf("omit[%d]: it takes a path as \"wifi.rssi\"", i)
		}
		p.rules = append(p.rules, jsonRule{keys: splitPath(path), omit: true})
	}
	d := describing(src.measurement)
	for i, f := range s.Fields {
		rule, err := f.rule()
		if err != nil {
			return nil, fmt.Errorf("fields[%d]: %w", i, err)
		}
		if slices.ContainsFunc(p.rules, func(r jsonRule) bool { return rule.name != "" && r.name == rule.name }) {
			return nil, fmt.Errorf("fields[%d]: the name %s is there twice", i, rule.name)
		}
		p.rules = append(p.rules, rule)
		if rule.name != "" {
			d.field(rule.name, f.Unit, rule.described(), f.Description)
		}
	}
	p.describeFields(&d)
	if len(s.Omit) > 0 || s.Only {
		p.flattener.omitted = func(path string) bool { return p.newField(Leaf{Path: path}).omit }
	}
	if p.time, err = newTimeField(s.Time); err != nil {
		return nil, fmt.Errorf("time: %w", err)
	}
	return p, nil
}

func (f jsonFieldSettings) rule() (r jsonRule, err error) {
	if f.Path == "" {
		return r, errors.New("path: it takes the keys down to the value, as \"ENERGY.Power\"")
	}
	r.keys = splitPath(f.Path)
	many := slices.Contains(r.keys, "*")
	switch {
	case f.Name != "" && many:
		return r, errors.New("name: several fields would have it, because the path has a '*'")
	case f.Name != "" && FieldName(f.Name) != f.Name:
		return r, fmt.Errorf("name: %s is no name of a field: it takes a letter or '_', then up to 63 letters, digits and '_', and no word of the store", quoted(f.Name))
	case f.Name != "":
		r.name = f.Name
	case !many:
		r.name = FieldName(r.keys...)
	}
	if f.Type == "auto" {
		return r, errors.New("type: auto is for the kind raw: JSON says what a value is")
	}
	r.parse, err = valueSettings{Type: f.Type}.parse("auto")
	if f.Type == "" {
		r.kind = ""
	}
	return r, err
}

// Decode a document: one row of its fields.
func (p *jsonProfile) Decode(m Message, reports []Report) ([]Report, error) {
	c, done, ok, err := p.from(m, reports)
	if !ok || err != nil {
		return done, err
	}
	leaves, problem, err := p.flattener.Flatten(m.Payload)
	if err != nil {
		return reports, refusedOf(c.gear, err)
	}
	row := telemetry.Row{Measurement: p.measurementOf(c), Fields: p.fields[:0]}
	trouble := troubles{}
	if problem != "" {
		trouble.add(problem)
	}
	renamed := len(p.rules) > 0
	for i := range leaves {
		l := &leaves[i]
		f := p.field(l)
		switch {
		case f.omit:
		case f.time:
			if row.Time, err = p.time.of(*l, m.Received); err != nil {
				trouble.add(err.Error())
			}
		default:
			value, err := f.of(l)
			if err != nil {
				trouble.add("field " + l.Path + ": " + err.Error())
				continue
			}
			if renamed && slices.ContainsFunc(row.Fields, func(other telemetry.Field) bool { return other.Name == f.name }) {
				trouble.add("field " + l.Path + ": another one has the name " + f.name + " too and is kept")
				continue
			}
			row.Fields = append(row.Fields, telemetry.Field{Name: f.name, Value: value})
		}
	}
	p.fields = row.Fields
	if p.time != nil && row.Time == 0 && trouble.n == 0 {
		trouble.add("there is no time at " + p.time.path + ": the time of arrival is used")
	}
	return append(reports, p.stored(c, m, row, trouble.String())), nil
}

// field finds what the settings say of a leaf.
func (p *jsonProfile) field(l *Leaf) *jsonField {
	if l.known.field == nil {
		f := p.newField(*l)
		l.known.field = &f
	}
	return l.known.field
}

func (p *jsonProfile) newField(l Leaf) jsonField {
	if p.time != nil && l.Path == p.time.path {
		return jsonField{time: true}
	}
	keys := splitPath(l.Path)
	for _, r := range p.rules {
		if !r.matches(keys) {
			continue
		}
		f := jsonField{omit: r.omit, name: r.name, parse: r.parse}
		if f.name == "" {
			f.name = l.Name
		}
		return f
	}
	return jsonField{omit: p.only, name: l.Name}
}

// matches tells whether the rule is about the path, or about an object or
// array that it is in when all of that is to be left out.
func (r jsonRule) matches(keys []string) bool {
	if len(keys) < len(r.keys) || len(keys) > len(r.keys) && !r.omit {
		return false
	}
	for i, key := range r.keys {
		if key != "*" && key != keys[i] {
			return false
		}
	}
	return true
}

// of is the value that a leaf has by the settings.
func (f *jsonField) of(l *Leaf) (telemetry.Value, error) {
	switch {
	case f.kind == "":
		return l.Value, nil
	case f.kind == "number" && l.Value.Kind() == telemetry.Double:
		return l.Value, nil
	case f.kind == "bool" && l.Value.Kind() == telemetry.Bool:
		return l.Value, nil
	case f.kind == "text" && l.Value.Kind() == telemetry.String:
		return l.Value, nil
	}
	return f.value([]byte(l.text()))
}

// levelsBehind are last levels of topics that say what a message is, not
// which gear it is from.
var levelsBehind = []string{
	"state", "status", "data", "json", "telemetry", "tele", "sensor", "sensors", "values", "value", "report", "reports", "readings", "attributes",
	"info", "up", "update", "event", "events", "measurement", "measurements", "metrics", "out", "output", "result", "payload", "message", "rx",
}

// recogniseJSON takes a JSON object. The gear is the last level of the topic
// or, where that says what the message is, the one before.
func recogniseJSON(m Message) (map[string]any, bool) {
	if !bytes.HasPrefix(bytes.TrimSpace(m.Payload), []byte("{")) || !plainTopic(m.Topic) {
		return nil, false
	}
	var f Flattener
	leaves, _, err := f.Flatten(m.Payload)
	if err != nil || len(leaves) == 0 {
		return nil, false
	}
	levels := strings.Split(m.Topic, "/")
	gear := len(levels) - 1
	if gear > 0 && slices.Contains(levelsBehind, strings.ToLower(levels[gear])) {
		gear--
	}
	levels[gear] = "{gear}"
	settings := map[string]any{"topic": strings.Join(levels, "/")}
	if path, format := recogniseTime(leaves, m.Received); path != "" {
		settings["time"] = map[string]any{"path": path, "format": format}
	}
	return settings, true
}
