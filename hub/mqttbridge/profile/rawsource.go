package profile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// sourceSettings are what the kinds raw, json and influx have in common: where
// messages come from, presence and commands.
type sourceSettings struct {
	// Topic, or Topics, are patterns with named levels: "sensors/{gear}/#".
	Topic  string   `yaml:"topic"`
	Topics []string `yaml:"topics"`
	// Gear is the name of the gear where its topics have no {gear}.
	Gear         string                `yaml:"gear"`
	Measurement  string                `yaml:"measurement"` // of the rows; "": the kind; of influx: as the lines have it
	Availability *availabilitySettings `yaml:"availability"`
	Commands     []commandSettings     `yaml:"commands"`
}

// availabilitySettings name a topic on which gear, or its last will, tells
// whether it is there.
type availabilitySettings struct {
	Topic   string   `yaml:"topic"`   // a pattern with {gear}
	Path    string   `yaml:"path"`    // of the value in a JSON payload; "": the payload is the value
	Online  wordList `yaml:"online"`  // none: online, true, 1
	Offline wordList `yaml:"offline"` // none: offline, false, 0
}

// source is what becomes of sourceSettings.
type source struct {
	patterns     []*pattern
	gear         string // "": of the topic
	measurement  string
	availability *availability
	commands     []*command
	filters      []string
	describe     *devicev1.Describe // what the settings say of every piece of gear; nil: nothing
	rows         []telemetry.Row    // scratch
}

type availability struct {
	pattern         *pattern
	path            string
	online, offline wordList
	flattener       Flattener
}

func newSource(kind string, s sourceSettings, names ...string) (*source, error) {
	src := &source{gear: s.Gear}
	var err error
	if src.measurement, err = measurementOf(s.Measurement, kind); err != nil {
		return nil, err
	}
	topics := s.Topics
	if s.Topic != "" {
		topics = append([]string{s.Topic}, topics...)
	}
	if len(topics) == 0 {
		return nil, fmt.Errorf("topic: it takes a pattern with the levels {%s}, as \"sensors/{gear}/state\"", names[0])
	}
	if s.Gear != "" {
		if err := checkGear(s.Gear); err != nil {
			return nil, fmt.Errorf("gear: %w", err)
		}
	}
	for _, topic := range topics {
		p, err := src.pattern("topic", topic, names)
		if err != nil {
			return nil, err
		}
		src.patterns = append(src.patterns, p)
	}
	if err := src.setAvailability(s.Availability); err != nil {
		return nil, err
	}
	return src, src.setCommands(s.Commands)
}

// pattern of a key, in which {gear} must be unless the settings name it.
func (s *source) pattern(key, text string, names []string) (*pattern, error) {
	p, err := newPattern(text, names...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	switch {
	case p.gears == 0 && s.gear == "":
		return nil, fmt.Errorf("%s: %q has no level {gear}: it takes one, or the key gear a name", key, text)
	case p.gears > 0 && s.gear != "":
		return nil, fmt.Errorf("%s: %q has a level {gear} though the key gear names it: it takes one of them", key, text)
	}
	s.listen(p.filter())
	return p, nil
}

func (s *source) listen(filter string) {
	if !slices.Contains(s.filters, filter) {
		s.filters = append(s.filters, filter)
	}
}

// gearLevels is of how many levels the names of gear are.
func (s *source) gearLevels() int {
	most := 1
	for _, p := range s.patterns {
		most = max(most, p.gears)
	}
	return most
}

func (s *source) setAvailability(a *availabilitySettings) error {
	if a == nil {
		return nil
	}
	p, err := s.pattern("availability: topic", a.Topic, []string{"gear"})
	if err != nil {
		return err
	}
	s.availability = &availability{pattern: p, path: a.Path, online: a.Online, offline: a.Offline}
	if len(a.Online) == 0 {
		s.availability.online = wordList{"online", "Online", "ONLINE", "true", "1"}
	}
	if len(a.Offline) == 0 {
		s.availability.offline = wordList{"offline", "Offline", "OFFLINE", "false", "0"}
	}
	return nil
}

// Filters of the data, of availability and of answers to commands.
func (s *source) Filters() []string { return s.filters }

// Connected has nothing to ask for.
func (s *source) Connected() []Publish { return nil }

// from finds what a topic says. ok is false where the message is no data:
// then done is what Decode returns.
func (s *source) from(m Message, reports []Report) (c captured, done []Report, ok bool, err error) {
	if s.availability != nil {
		if c, ok := s.availability.pattern.match(m.Topic); ok {
			reports, err := s.present(s.named(c), m, reports)
			return c, reports, false, err
		}
	}
	for _, p := range s.patterns {
		if c, ok = p.match(m.Topic); ok {
			c = s.named(c)
			break
		}
	}
	if !ok || len(m.Payload) == 0 {
		return c, reports, false, nil // an answer to a command; a retained message that was taken away
	}
	if len(m.Payload) > MaxPayloadBytes {
		return c, reports, false, refusedOf(c.gear, Refuse("too large", "%d bytes, the limit is %d", len(m.Payload), MaxPayloadBytes))
	}
	return c, reports, true, checkGear(c.gear)
}

func (s *source) named(c captured) captured {
	if s.gear != "" {
		c.gear = s.gear
	}
	return c
}

// present tells what an availability topic says.
func (s *source) present(c captured, m Message, reports []Report) ([]Report, error) {
	if len(m.Payload) == 0 {
		return reports, nil
	}
	if err := checkGear(c.gear); err != nil {
		return reports, err
	}
	text, err := s.availability.text(m.Payload)
	if err != nil {
		return reports, refusedOf(c.gear, err)
	}
	r := Report{Gear: c.gear, NotAlive: m.Retained, Describe: s.describe}
	switch {
	case slices.Contains(s.availability.online, text):
		r.Status = Online
	case slices.Contains(s.availability.offline, text):
		r.Status, r.Reason, r.NotAlive = Offline, "it said "+quoted(text)+" on its availability topic", true
	default:
		return reports, refusedOf(c.gear, Refuse("unknown availability", "%s", quoted(text)))
	}
	return append(reports, r), nil
}

func (a *availability) text(payload []byte) (string, error) {
	if a.path == "" {
		if len(payload) > telemetry.MaxStringBytes {
			return "", Refuse("unknown availability", "%d bytes", len(payload))
		}
		return string(bytes.TrimSpace(payload)), nil
	}
	leaves, _, err := a.flattener.Flatten(payload)
	if err != nil {
		return "", err
	}
	for _, l := range leaves {
		if l.Path == a.path {
			return l.text(), nil
		}
	}
	return "", Refuse("unknown availability", "the payload has no %q", a.path)
}

// stored makes the report of one row. A retained message is as old as the
// broker likes: without a time of its own it is no reading, and it is no sign
// of life.
func (s *source) stored(c captured, m Message, row telemetry.Row, problem string) Report {
	r := Report{Gear: c.gear, Describe: s.describe, NotAlive: m.Retained, Problem: problem}
	if len(row.Fields) > 0 && (!m.Retained || row.Time != 0) {
		s.rows = append(s.rows[:0], row)
		r.Rows = s.rows
	}
	return r
}

// wordList is one word or a list of words in the settings; numbers and
// booleans are the words that they are written as.
type wordList []string

// UnmarshalYAML takes a scalar or a list of scalars.
func (w *wordList) UnmarshalYAML(unmarshal func(any) error) error {
	var v any
	if err := unmarshal(&v); err != nil {
		return err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	*w = nil
	for _, v := range list {
		switch v.(type) {
		case string, bool, uint64, int64, float64, int:
			*w = append(*w, fmt.Sprint(v))
		default:
			return errors.New("it takes a word or a list of words")
		}
	}
	return nil
}
