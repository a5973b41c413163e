package profile

import (
	"fmt"
	"strings"
	"time"
)

// shellySettings are the settings of the kind.
type shellySettings struct {
	// Topics are the topic prefixes of devices from generation 2 on, as they
	// are set on the devices; '+' stands for one level. None: "+", of which
	// those that begin with "shelly" are taken, as the devices have it from
	// the factory.
	Topics []string `yaml:"topics"`
	// ReplyTo is where those devices send answers: to this topic + "/rpc". It
	// must not be below the prefix that the hub publishes under.
	ReplyTo     string `yaml:"reply-to"`
	Measurement string `yaml:"measurement"` // of the rows; "": shelly
}

const (
	shellyPrefix  = "shellies" // of generation 1
	shellyReplyTo = "tetherline-shelly"
)

// shellyKind is Shelly gear of generation 1 (shelly-api-docs.shelly.cloud/gen1:
// one value a topic below shellies/<id>) and from 2 on (…/gen2: JSON-RPC). The
// gear's name is the id, from generation 2 on the topic prefix of the device.
func shellyKind() Kind {
	return Kind{
		Name:    "shelly",
		Summary: "Shelly: topics of generation 1, RPC from generation 2 on",
		New: func(settings func(any) error) (Profile, error) {
			s := shellySettings{ReplyTo: shellyReplyTo}
			if err := settings(&s); err != nil {
				return nil, err
			}
			if err := s.check(); err != nil {
				return nil, err
			}
			return newShelly(s)
		},
		Recognise: recogniseShelly,
		// Generation 1 tells its state every 30 s, later ones less often.
		Silence: 15 * time.Minute,
	}
}

func (s shellySettings) check() error {
	for i, topic := range s.Topics {
		for _, level := range strings.Split(topic, "/") {
			if level == "+" {
				continue
			}
			if err := checkLevel(fmt.Sprintf("topics[%d]", i), level); err != nil {
				return err
			}
		}
	}
	for _, level := range strings.Split(s.ReplyTo, "/") {
		if err := checkLevel("reply-to", level); err != nil {
			return err
		}
	}
	return nil
}

func recogniseShelly(m Message) (map[string]any, bool) {
	levels := strings.Split(m.Topic, "/")
	n := len(levels)
	switch {
	case n >= 3 && levels[0] == shellyPrefix && levels[n-1] != "command":
		return nil, true
	case n < 2 || !strings.HasPrefix(levels[0], "shelly"):
		return nil, false
	case n == 2 && levels[1] == "online",
		n == 3 && levels[1] == "events" && levels[2] == "rpc",
		n == 3 && levels[1] == "status":
		return nil, true
	}
	return nil, false
}

// shelly is the profile: the gear that was heard, with its generation.
type shelly struct {
	settings shellySettings
	measure  string
	filters  []string
	devices  map[string]*shellyDevice // by gear name
	fields   shellyFields
	flat     Flattener
}

// shellyDevice is one device. Its generation never changes, so that the topics
// of one generation cannot speak for gear of the other.
type shellyDevice struct {
	rpc       bool              // generation 2 or later
	events    bool              // it sends events: the topics of its status say the same again
	relays    map[string]string // generation 1: the last word on "relay/0", "light/0", "roller/0"
	fields    []uint16          // of shellyFields, sorted
	changed   bool              // fields, since described
	described time.Time
}

func newShelly(s shellySettings) (*shelly, error) {
	measure, err := measurementOf(s.Measurement, "shelly")
	if err != nil {
		return nil, err
	}
	p := &shelly{settings: s, measure: measure, devices: map[string]*shellyDevice{}}
	p.filters = []string{shellyPrefix + "/#"}
	for _, topic := range p.topics() {
		p.filters = append(p.filters, topic+"/online", topic+"/events/rpc", topic+"/status/+")
	}
	p.filters = append(p.filters, s.ReplyTo+"/rpc")
	return p, nil
}

func (p *shelly) topics() []string {
	if len(p.settings.Topics) == 0 {
		return []string{"+"}
	}
	return p.settings.Topics
}

// Filters are those of both generations, and of the answers.
func (p *shelly) Filters() []string { return p.filters }

// Connected asks generation 1 to tell of itself.
func (p *shelly) Connected() []Publish {
	return []Publish{{Topic: shellyPrefix + "/command", Payload: []byte("announce")}}
}

// shellyTopic says what a topic is of.
type shellyTopic struct {
	gear string
	rpc  bool     // generation 2 or later
	rest []string // levels behind the gear
}

// parse a topic; false: it is of no gear.
func (p *shelly) parse(topic string) (shellyTopic, bool) {
	topic = strings.Clone(topic)
	for _, prefix := range p.topics() {
		for _, suffix := range []string{"/online", "/events/rpc", "/status/+"} {
			if !TopicMatches(prefix+suffix, topic) {
				continue
			}
			levels := strings.Split(topic, "/")
			n := strings.Count(prefix, "/") + 1
			t := shellyTopic{gear: strings.Join(levels[:n], "/"), rpc: true, rest: levels[n:]}
			if len(p.settings.Topics) > 0 || strings.HasPrefix(t.gear, "shelly") && t.gear != shellyPrefix {
				return t, true
			}
		}
	}
	levels := strings.Split(topic, "/")
	if len(levels) < 3 || levels[0] != shellyPrefix {
		return shellyTopic{}, false // shellies/announce, shellies/command, an answer
	}
	for _, level := range levels[2:] {
		if level == "command" || level == "set" {
			return shellyTopic{}, false // to the gear
		}
	}
	return shellyTopic{gear: levels[1], rest: levels[2:]}, true
}

// Decode a state, a reading or an event.
func (p *shelly) Decode(m Message, reports []Report) ([]Report, error) {
	t, ok := p.parse(m.Topic)
	if !ok {
		return reports, nil
	}
	if err := checkGear(t.gear); err != nil {
		return reports, err
	}
	if len(m.Payload) > MaxPayloadBytes {
		return reports, at(Refuse("too large", "%d bytes, the limit is %d", len(m.Payload), MaxPayloadBytes), t.gear)
	}
	d, err := p.device(t)
	if err != nil {
		return reports, at(err, t.gear)
	}
	report, unit := Report{Gear: t.gear, NotAlive: m.Retained}, ""
	switch {
	case len(t.rest) == 1 && t.rest[0] == "online":
		err = shellyOnline(m, &report)
	case t.rpc:
		err = p.status(d, t, m, &report)
	default:
		unit, err = d.reading(&p.flat, t, m, &report)
	}
	if err != nil {
		return reports, at(err, t.gear)
	}
	if m.Retained {
		report.Rows = nil // when they were taken is not known
	}
	report.Rows = measuredAs(p.measure, report.Rows)
	report.Describe = p.describe(d, unit, report.Rows, m.Received)
	return append(reports, report), nil
}

// device finds gear, or begins to remember it.
func (p *shelly) device(t shellyTopic) (*shellyDevice, error) {
	d := p.devices[t.gear]
	switch {
	case d == nil && len(p.devices) >= MaxGear:
		return nil, Refuse("too much gear", "over %d devices", MaxGear)
	case d == nil:
		d = &shellyDevice{rpc: t.rpc}
		p.devices[t.gear] = d
	case d.rpc != t.rpc:
		return nil, Refuse("two generations", "%s is there as gear of generation 1 and of a later one", quoted(t.gear))
	}
	return d, nil
}

// shellyOnline is the topic with the last will.
func shellyOnline(m Message, report *Report) error {
	switch string(m.Payload) {
	case "true":
		report.Status = Online
	case "false":
		report.Status, report.Reason, report.NotAlive = Offline, "last will", true
	default:
		return Refuse("unknown presence", "%s is neither true nor false", quoted(m.Payload))
	}
	return nil
}
