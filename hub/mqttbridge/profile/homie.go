package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// homieSettings are the settings of the kind.
type homieSettings struct {
	// Prefix is the base topic: one or more levels; "": "homie".
	Prefix      string   `yaml:"prefix"`
	Measurement string   `yaml:"measurement"` // of the rows; "": homie
	Integers    integers `yaml:"integers"`
}

// homieKind is the Homie convention, 3, 4 and 5 (homieiot.github.io). Every
// device is a piece of gear with its id as the name; a property is a field,
// "node_property".
//
// Values and attributes are retained on the broker. A retained message says
// how a property is to be read and whether the device is there, but it is no
// reading: when it was taken is not known.
func homieKind() Kind {
	return Kind{
		Name:    "homie",
		Summary: "Homie convention 3, 4 and 5: properties with types and units, $state, set",
		New: func(settings func(any) error) (Profile, error) {
			s := homieSettings{Prefix: "homie"}
			if err := settings(&s); err != nil {
				return nil, err
			}
			for _, level := range strings.Split(s.Prefix, "/") {
				if err := checkLevel("prefix", level); err != nil {
					return nil, err
				}
			}
			return newHomie(s)
		},
		Recognise: recogniseHomie,
	}
}

func recogniseHomie(m Message) (map[string]any, bool) {
	levels := strings.Split(m.Topic, "/")
	n := len(levels)
	switch {
	case n < 3:
		return nil, false
	case levels[0] == "homie":
		return nil, true
	case levels[n-1] == "$homie" && len(m.Payload) > 1 && len(m.Payload) < 16 &&
		(m.Payload[0] == '3' || m.Payload[0] == '4') && m.Payload[1] == '.':
		return map[string]any{"prefix": strings.Join(levels[:n-2], "/")}, true
	}
	return nil, false
}

// homie is the profile: the devices with their properties.
type homie struct {
	prefix   string
	measure  string
	integers integers
	devices  map[string]*homieDevice // by id
	memory   int                     // bytes of all properties
	descriptions
}

// Bounds of Homie.
const (
	maxHomieProperties = 256      // of a device
	maxHomieMemory     = 64 << 20 // of all properties, as homieProperty.size counts
	maxHomieFormat     = 1024     // bytes of $format
)

func newHomie(s homieSettings) (*homie, error) {
	measure, err := measurementOf(s.Measurement, "homie")
	if err == nil {
		err = s.Integers.check()
	}
	return &homie{prefix: s.Prefix, measure: measure, integers: s.Integers, devices: map[string]*homieDevice{}}, err
}

// Filters is the one of the base topic.
func (p *homie) Filters() []string { return []string{p.prefix + "/#"} }

// Connected has nothing to ask: the broker keeps what describes the devices.
// Values that come before it are early.
func (p *homie) Connected() []Publish { return nil }

// homieTopic is a topic below the base topic.
type homieTopic struct {
	device string
	v5     bool
	levels []string // behind the device
}

// parse a topic; false: it is of no device.
func (p *homie) parse(topic string) (homieTopic, bool) {
	rest, ok := strings.CutPrefix(strings.Clone(topic), p.prefix+"/")
	if !ok {
		return homieTopic{}, false
	}
	levels := strings.Split(rest, "/")
	t := homieTopic{}
	if t.v5 = levels[0] == "5"; t.v5 {
		levels = levels[1:]
	}
	if len(levels) < 2 || strings.HasPrefix(levels[0], "$") {
		return homieTopic{}, false // $broadcast
	}
	t.device, t.levels = levels[0], levels[1:]
	return t, true
}

// Decode an attribute, a state or a value.
func (p *homie) Decode(m Message, reports []Report) ([]Report, error) {
	t, ok := p.parse(m.Topic)
	if !ok {
		return reports, nil
	}
	if err := checkGear(t.device); err != nil {
		return reports, err
	}
	if len(m.Payload) > MaxPayloadBytes {
		return reports, at(Refuse("too large", "%d bytes, the limit is %d", len(m.Payload), MaxPayloadBytes), t.device)
	}
	report := Report{Gear: t.device, NotAlive: m.Retained}
	used, err := p.message(t, m, &report)
	if early := (*Early)(nil); errors.As(err, &early) {
		return append(reports, report), early
	}
	if err != nil || !used {
		return reports, at(err, t.device)
	}
	p.describes(t)
	report.Rows = measuredAs(p.measure, report.Rows)
	return append(reports, report), nil
}

// describes notes that an attribute may describe values which came before it.
func (p *homie) describes(t homieTopic) {
	if slices.ContainsFunc(t.levels, func(level string) bool { return strings.HasPrefix(level, "$") }) {
		p.note(t.device)
	}
}

// message decodes into a report; false: it is nothing of the device's.
func (p *homie) message(t homieTopic, m Message, report *Report) (used bool, err error) {
	n := len(t.levels)
	switch {
	case t.levels[n-1] == "set":
		return false, nil // from a controller
	case strings.HasPrefix(t.levels[0], "$"):
		return true, p.deviceAttribute(t, m, report)
	case n == 2 && t.levels[1] == "$array":
		return true, p.array(t, m, report)
	case n == 2 && strings.HasPrefix(t.levels[1], "$"):
		return true, nil // of a node: $name, $type, $properties
	case n == 3 && strings.HasPrefix(t.levels[2], "$"):
		if t.v5 {
			return true, nil // $target
		}
		return true, p.propertyAttribute(t, m, report)
	case n == 2:
		return true, p.value(t, m, report)
	}
	return false, nil
}

// homieStates are the values of $state.
var homieStates = map[string]Status{
	"init": Online, "ready": Online, "alert": Online,
	"disconnected": Offline, "sleeping": Offline, "lost": Offline,
}

func (p *homie) deviceAttribute(t homieTopic, m Message, report *Report) error {
	text := string(m.Payload)
	switch name := t.levels[0]; {
	case name == "$state" && text == "":
		return p.remove(t.device, report)
	case name == "$state":
		status, ok := homieStates[text]
		if !ok {
			return Refuse("unknown $state", "%s", quoted(text))
		}
		d, err := p.device(t)
		if err != nil {
			return err
		}
		report.Status, report.NotAlive = status, m.Retained || text == "lost"
		if status == Offline {
			report.Reason = map[string]string{"lost": "last will", "sleeping": "it sleeps", "disconnected": "it said goodbye"}[text]
		}
		d.ready = d.ready || text == "ready"
		report.Describe = p.description(d, m.Received)
		return nil
	case name == "$homie":
		d, err := p.device(t)
		if err != nil {
			return err
		}
		d.version = clean(text, 16)
		return nil
	case name == "$description":
		return p.describe5(t, m, report)
	case name == "$fw" && slices.Equal(t.levels[1:], []string{"version"}):
		report.Firmware = clean(text, 64)
	case name == "$stats" && len(t.levels) == 2:
		return p.statistic(t, m, report)
	}
	return nil
}

// remove a device whose topics are cleared.
func (p *homie) remove(id string, report *Report) error {
	if d := p.devices[id]; d != nil {
		p.memory -= d.memory
		delete(p.devices, id)
	}
	report.Status, report.Reason, report.NotAlive = Offline, "it was removed from the broker", true
	return nil
}

// statistics of the convention 3 and of the extension "legacy-stats" that are
// numbers.
var homieStatistics = map[string]string{
	"uptime": "s", "signal": "%", "cputemp": "Cel", "cpuload": "%", "battery": "%", "freeheap": "By", "supply": "V",
}

func (p *homie) statistic(t homieTopic, m Message, report *Report) error {
	if _, ok := homieStatistics[t.levels[1]]; !ok || m.Retained {
		return nil
	}
	value, err := homieReading("float", string(m.Payload))
	if err != nil {
		return Refuse("wrong type", "%s: %v", strings.Join(t.levels, "/"), err)
	}
	report.Rows = oneRow(FieldName("stats", t.levels[1]), value)
	return nil
}

func (t homieTopic) String() string { return fmt.Sprint(t.device, "/", strings.Join(t.levels, "/")) }
