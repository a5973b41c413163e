package profile

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tetherline/tetherline/telemetry"
)

// sourceSilence is after how long gear that tells nothing of its presence is
// offline, unless the config says otherwise.
const sourceSilence = 15 * time.Minute

// rawSettings are the settings of the kind raw.
type rawSettings struct {
	Source sourceSettings `yaml:",inline"`

	Value valueSettings `yaml:",inline"`
	// Fields are those that differ from the rest.
	Fields []rawFieldSettings `yaml:"fields"`
}

// valueSettings say how values are read.
type valueSettings struct {
	// Type is number, integer, bool, text or auto; "": number. With auto a
	// number, true and false are what they look like and all else is text: a
	// sensor that says "n/a" for once then changes the type of its field,
	// which a store may refuse.
	Type string `yaml:"type"`
	Unit string `yaml:"unit"`
	// On and Off are the payloads of a bool; none: true, on, yes, 1 and
	// false, off, no, 0 in small, capital or initial capital letters.
	On  wordList `yaml:"on"`
	Off wordList `yaml:"off"`
}

type rawFieldSettings struct {
	Field       string        `yaml:"field"` // as the topic has it, levels joined by '/'
	Name        string        `yaml:"name"`  // that it gets; "": made of Field
	Value       valueSettings `yaml:",inline"`
	Description string        `yaml:"description"`
}

// rawKind is gear that sends one value a topic: a number, a bool or a text.
func rawKind() Kind {
	return Kind{
		Name:    "raw",
		Summary: "one value a topic: a number, a bool or a text",
		New: func(settings func(any) error) (Profile, error) {
			var s rawSettings
			if err := settings(&s); err != nil {
				return nil, err
			}
			return newRaw(s)
		},
		Recognise: recogniseRaw,
		Silence:   sourceSilence,
	}
}

type raw struct {
	*source
	rest   rawField // for fields that the settings do not name
	fields map[string]rawField
	// names are the topic's words that a field was made of first.
	names map[rawName]string
}

type rawField struct {
	name string // "": made of the topic
	parse
}

// parse makes values of payloads.
type parse struct {
	kind     string // number, integer, bool, text or auto
	yes, not wordList
}

func newRaw(s rawSettings) (Profile, error) {
	src, err := newSource("raw", s.Source, "gear", "field", "measurement")
	if err != nil {
		return nil, err
	}
	p := &raw{source: src, fields: map[string]rawField{}}
	if p.rest.parse, err = s.Value.parse("number"); err != nil {
		return nil, err
	}
	d := describing(src.measurement)
	for i, f := range s.Fields {
		if f.Value.Unit == "" {
			f.Value.Unit = s.Value.Unit
		}
		field, err := f.field(p.rest.kind)
		if err != nil {
			return nil, fmt.Errorf("fields[%d]: %w", i, err)
		}
		p.fields[f.Field] = field
		d.field(field.name, f.Value.Unit, field.described(), f.Description)
	}
	p.describeFields(&d)
	return p, nil
}

func (f rawFieldSettings) field(kind string) (field rawField, err error) {
	if f.Field == "" {
		return field, fmt.Errorf("field: it takes the level of the topic that names it")
	}
	field.name = f.Name
	if f.Name == "" {
		field.name = FieldName(strings.Split(f.Field, "/")...)
	} else if FieldName(f.Name) != f.Name {
		return field, fmt.Errorf("name: %s is no name of a field: it takes a letter or '_', then up to 63 letters, digits and '_', and no word of the store", quoted(f.Name))
	}
	field.parse, err = f.Value.parse(kind)
	return field, err
}

// describeFields puts fields before the commands of the description.
func (s *source) describeFields(d *description) {
	if s.describe != nil {
		d.of.Commands = s.describe.Commands
	}
	if len(d.of.Fields)+len(d.of.Commands) == 0 {
		return
	}
	s.describe = d.done()
}

func (v valueSettings) parse(kind string) (parse, error) {
	if v.Type != "" {
		kind = v.Type
	}
	p := parse{kind: kind, yes: v.On, not: v.Off}
	switch kind {
	case "number", "integer", "bool", "text", "auto":
	default:
		return p, fmt.Errorf("type: %s is none of number, integer, bool, text, auto", quoted(kind))
	}
	if len(p.yes) == 0 {
		p.yes = wordList{"true", "on", "yes", "1", "TRUE", "ON", "YES", "True", "On", "Yes"}
	}
	if len(p.not) == 0 {
		p.not = wordList{"false", "off", "no", "0", "FALSE", "OFF", "NO", "False", "Off", "No"}
	}
	return p, nil
}

// described is the kind that a description tells; 0 for auto.
func (p parse) described() telemetry.Kind {
	switch p.kind {
	case "number":
		return telemetry.Double
	case "integer":
		return telemetry.Int
	case "bool":
		return telemetry.Bool
	case "text":
		return telemetry.String
	}
	return anyKind
}

// value of a text. The text is copied where it is kept.
func (p parse) value(text []byte) (telemetry.Value, error) {
	trimmed := bytes.TrimSpace(text)
	switch p.kind {
	case "number":
		if v, ok := parseNumber(trimmed); ok {
			return telemetry.DoubleValue(v), nil
		}
		return telemetry.Value{}, Refuse("not a number", "%s", quoted(text))
	case "integer":
		if v, ok := parseInt(trimmed); ok {
			return telemetry.IntValue(v), nil
		}
		return telemetry.Value{}, Refuse("not an integer", "%s", quoted(text))
	case "bool":
		for _, w := range p.yes {
			if string(trimmed) == w {
				return telemetry.BoolValue(true), nil
			}
		}
		for _, w := range p.not {
			if string(trimmed) == w {
				return telemetry.BoolValue(false), nil
			}
		}
		return telemetry.Value{}, Refuse("not a bool", "%s is none of %s", quoted(text), quoted(strings.Join(p.yes, " ")+" "+strings.Join(p.not, " ")))
	case "auto":
		if v, ok := parseNumber(trimmed); ok {
			return telemetry.DoubleValue(v), nil
		}
		switch string(trimmed) {
		case "true", "false":
			return telemetry.BoolValue(trimmed[0] == 't'), nil
		}
	}
	switch {
	case len(text) > telemetry.MaxStringBytes:
		return telemetry.Value{}, Refuse("text too long", "%d bytes, the limit is %d", len(text), telemetry.MaxStringBytes)
	case !utf8.Valid(text):
		return telemetry.Value{}, Refuse("not UTF-8", "")
	}
	return telemetry.StringValue(string(text)), nil
}

// parseNumber reads a decimal number; not the words and the hexadecimal
// numbers that strconv knows too.
func parseNumber[T string | []byte](text T) (float64, bool) {
	for i := range len(text) {
		switch c := text[i]; {
		case '0' <= c && c <= '9', c == '+', c == '-', c == '.', c == 'e', c == 'E':
		default:
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(string(text), 64)
	return v, err == nil && !math.IsInf(v, 0)
}

// Decode one value.
func (p *raw) Decode(m Message, reports []Report) ([]Report, error) {
	c, done, ok, err := p.from(m, reports)
	if !ok || err != nil {
		return done, err
	}
	field, known := p.fields[c.field]
	if !known {
		field = p.rest
	}
	made := field.name == ""
	if made {
		if field.name = "value"; c.field != "" {
			field.name = FieldName(strings.Split(c.field, "/")...)
		}
	}
	value, err := field.value(m.Payload)
	if err != nil {
		return reports, refusedOf(c.gear, err)
	}
	row := telemetry.Row{Measurement: p.measurementOf(c), Fields: []telemetry.Field{{Name: field.name, Value: value}}}
	problem := ""
	if made {
		problem = p.sameField(c, row.Measurement, field.name)
	}
	return append(reports, p.stored(c, m, row, problem)), nil
}

// maxRawNames is how many field names are remembered, of all gear.
const maxRawNames = 10_000

// rawName is a field name of gear.
type rawName struct{ gear, measurement, field string }

// sameField tells that another topic makes the same field of the same gear.
func (p *raw) sameField(c captured, measurement, field string) (problem string) {
	key := rawName{c.gear, measurement, field}
	first, known := p.names[key]
	if known && first == c.field {
		return ""
	}
	if known {
		return fmt.Sprintf("%s and %s in the topic make the field %s both, and are stored as one: give one another name under fields", quoted(first), quoted(c.field), field)
	}
	if p.names == nil || len(p.names) >= maxRawNames {
		p.names = make(map[rawName]string)
	}
	p.names[rawName{strings.Clone(c.gear), measurement, field}] = strings.Clone(c.field)
	return ""
}

func (s *source) measurementOf(c captured) string {
	if c.measurement == "" {
		return s.measurement
	}
	return Name(strings.Split(c.measurement, "/")...)
}

// recogniseRaw takes a topic of two levels or more whose payload is a number
// or a word: the last level is the field and the one before it the gear.
func recogniseRaw(m Message) (map[string]any, bool) {
	levels := strings.Split(m.Topic, "/")
	if len(levels) < 2 || len(m.Payload) == 0 || len(m.Payload) > 64 || !plainTopic(m.Topic) {
		return nil, false
	}
	if _, number := parseNumber(bytes.TrimSpace(m.Payload)); !number {
		for _, c := range m.Payload {
			if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte(" _-.", c) >= 0) {
				return nil, false
			}
		}
	}
	levels[len(levels)-2], levels[len(levels)-1] = "{gear}", "{field}"
	return map[string]any{"topic": strings.Join(levels, "/"), "type": "auto"}, true
}

// plainTopic tells whether a topic can stand in a pattern.
func plainTopic(topic string) bool {
	_, err := newPattern(topic)
	return err == nil && !strings.HasPrefix(topic, "$") && !strings.Contains("/"+topic+"/", "//") && len(topic) <= 256
}
