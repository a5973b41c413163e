package profile

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// Bounds of Sparkplug.
const (
	// maxSparkplugMetrics are in one message.
	maxSparkplugMetrics = 5000
	// maxSparkplugMemory is what the births of all nodes and devices of a
	// profile may take, in bytes as counted by sparkplugMetric.size.
	maxSparkplugMemory = 64 << 20
	// maxSparkplugDepth is of nested messages: templates may hold metrics.
	maxSparkplugDepth = 2*MaxDepth + 2
)

// sparkplugSettings are the settings of the kind.
type sparkplugSettings struct {
	// Groups are the group ids to listen to; none: all.
	Groups      []string `yaml:"groups"`
	Measurement string   `yaml:"measurement"` // of the rows; "": sparkplug
	Integers    integers `yaml:"integers"`
}

// sparkplugKind is Eclipse Sparkplug B (specification 3.0.0,
// sparkplug.eclipse.org). An edge node "group/node" and each of its devices
// "group/node/device" are gear of their own.
//
// The hub is a host application that asks for births when it needs one, and
// not a primary host: a primary host's STATE message has to be retained and
// the last will of the connection, and commands are never retained here.
func sparkplugKind() Kind {
	return Kind{
		Name:    "sparkplug",
		Summary: "Sparkplug B edge nodes and their devices: births, aliases, deaths, NCMD and DCMD",
		New: func(settings func(any) error) (Profile, error) {
			var s sparkplugSettings
			if err := settings(&s); err != nil {
				return nil, err
			}
			for _, group := range s.Groups {
				if err := checkLevel("groups", group); err != nil {
					return nil, err
				}
			}
			return newSparkplug(s)
		},
		Recognise: func(m Message) (map[string]any, bool) {
			if _, err := parseSparkplugTopic(m.Topic); err != nil {
				return nil, false
			}
			_, err := decodeSparkplug(m.Payload)
			return nil, err == nil
		},
	}
}

// sparkplug is the profile: the nodes with what their births told.
type sparkplug struct {
	filters  []string
	measure  string
	integers integers
	now      func() time.Time // commands carry the time at which they were made

	nodes  map[string]*sparkplugNode // by gear name
	gear   int                       // nodes and devices
	memory int                       // bytes of all metrics

	descriptions
	memories memories
}

func newSparkplug(s sparkplugSettings) (*sparkplug, error) {
	measure, err := measurementOf(s.Measurement, "sparkplug")
	if err == nil {
		err = s.Integers.check()
	}
	if err != nil {
		return nil, err
	}
	p := &sparkplug{measure: measure, integers: s.Integers, now: time.Now, nodes: map[string]*sparkplugNode{}}
	groups := s.Groups
	if len(groups) == 0 {
		groups = []string{"+"}
	}
	for _, group := range groups {
		p.filters = append(p.filters, sparkplugNamespace+"/"+group+"/#")
	}
	return p, nil
}

// Filters are one for all that the nodes of a group say: a broker keeps the
// order of messages within a subscription, and not every one between several
// (MQTT 3.1.1, section 4.6), while data before their birth are of no use.
func (p *sparkplug) Filters() []string { return p.filters }

// Connected lets every node be asked for a birth when it is heard next:
// messages may have been missed, and births that were asked for. What comes in
// sequence is still taken.
func (p *sparkplug) Connected() []Publish {
	for _, n := range p.nodes {
		n.doubted, n.away = true, true
		n.count.waitAnew(p.now())
		n.self.lacked = time.Time{}
		for _, d := range n.devices {
			d.lacked = time.Time{}
		}
		if !n.born {
			n.asked = time.Time{}
		}
	}
	return nil
}

// Decode a birth, data or death. What a node says before its birth waits for
// that, as far as it can be told then what it is.
func (p *sparkplug) Decode(m Message, reports []Report) ([]Report, error) {
	if notOfSparkplugGear(m.Topic) {
		return reports, nil
	}
	t, err := parseSparkplugTopic(m.Topic)
	if err != nil {
		return reports, err
	}
	if m.Retained {
		return reports, t.refuse("retained", "Sparkplug messages must not be: an old birth would give wrong names")
	}
	payload, err := decodeSparkplug(m.Payload)
	if err != nil {
		return reports, at(err, t.gear())
	}
	switch t.verb {
	case nbirth:
		return p.nodeBirth(t, payload, m, reports)
	case dbirth:
		if !m.again() {
			return p.deviceBirth(t, payload, m, reports)
		}
		return p.data(t, payload, m, reports) // another birth has come since
	case ndata, ddata:
		return p.data(t, payload, m, reports)
	case ddeath:
		return p.deviceDeath(t, payload, m, reports)
	default:
		return p.nodeDeath(t, payload, m, reports)
	}
}

// decodeSparkplug refuses what would take much more memory than its bytes
// before it is decoded.
func decodeSparkplug(raw []byte) (*sparkplugv1.Payload, error) {
	if len(raw) > MaxPayloadBytes {
		return nil, Refuse("too large", "%d bytes, the limit is %d", len(raw), MaxPayloadBytes)
	}
	metrics := 0
	for rest := raw; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return nil, Refuse("not a Sparkplug payload", "byte %d of %d begins no field of a protobuf message", len(raw)-len(rest), len(raw))
		}
		if number == 2 {
			metrics++
		}
		rest = rest[n:]
		if n = protowire.ConsumeFieldValue(number, kind, rest); n < 0 {
			return nil, Refuse("not a Sparkplug payload", "byte %d of %d begins no field of a protobuf message", len(raw)-len(rest), len(raw))
		}
		rest = rest[n:]
	}
	if metrics > maxSparkplugMetrics {
		return nil, Refuse("too many metrics", "%d, the limit is %d", metrics, maxSparkplugMetrics)
	}
	payload := new(sparkplugv1.Payload)
	options := proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxSparkplugDepth}
	if err := options.Unmarshal(raw, payload); err != nil {
		// In words that change from build to build, so that nobody relies on
		// them: the tags and lengths are good, what they enclose is not.
		return nil, Refuse("not a Sparkplug payload", "a metric or another part of it is no protobuf message, is nested too deep, or has a text that is not UTF-8")
	}
	return payload, nil
}
