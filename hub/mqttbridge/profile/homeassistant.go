package profile

import (
	"fmt"
	"strings"
	"time"
)

// defaultDiscovery is the discovery prefix that Home Assistant has unless it is
// told another one.
const defaultDiscovery = "homeassistant"

// homeassistantSettings are the settings of the kind.
type homeassistantSettings struct {
	// Discovery is the discovery prefix; "": homeassistant.
	Discovery string `yaml:"discovery"`
	// StateFilters are the topic filters that states, availability and
	// commands of gear may be under, besides the discovery prefix: discovery
	// names any topic, and a message goes to one profile alone. "#" takes all
	// that the profiles before this one leave.
	StateFilters []string `yaml:"state-filters"`
	Measurement  string   `yaml:"measurement"` // of the rows; "": homeassistant
}

// homeassistantKind is gear that tells of itself by Home Assistant's MQTT
// discovery (www.home-assistant.io/integrations/mqtt, "MQTT Discovery"). The
// gear's name is the node id of the discovery topic, or its object id where
// there is none; an entity is a field.
//
// A discovery message may name any topic. What it names is believed only
// under the filters of the profile, and what it makes of it belongs to the
// gear that the discovery topic names.
func homeassistantKind() Kind {
	return Kind{
		Name:    "homeassistant",
		Summary: "gear with Home Assistant discovery: sensors, switches, lights, numbers, selects, buttons",
		New: func(settings func(any) error) (Profile, error) {
			s := homeassistantSettings{Discovery: defaultDiscovery}
			if err := settings(&s); err != nil {
				return nil, err
			}
			for _, level := range strings.Split(s.Discovery, "/") {
				if err := checkLevel("discovery", level); err != nil {
					return nil, err
				}
			}
			for i, filter := range s.StateFilters {
				if err := checkFilter(filter); err != nil {
					return nil, fmt.Errorf("state-filters[%d]: %w", i, err)
				}
			}
			return newHomeassistant(s)
		},
		Recognise: recogniseDiscovery,
		// Availability topics tell sooner, where gear has them.
		Silence: 24 * time.Hour,
	}
}

// checkFilter refuses what is no topic filter.
func checkFilter(filter string) error {
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if level == "#" && i == len(levels)-1 || level == "+" {
			continue
		}
		if strings.ContainsAny(level, "+#\x00") {
			return fmt.Errorf("%s is no topic filter", quoted(filter))
		}
	}
	if filter == "" || strings.HasPrefix(filter, "$") {
		return fmt.Errorf("%s is no topic filter for gear", quoted(filter))
	}
	return nil
}

// Bounds of discovery.
const (
	maxEntities       = 256      // of one piece of gear, and of one topic
	maxEntityMemory   = 64 << 20 // bytes of all entities, as entity.size counts
	maxEntityText     = 512      // bytes of a topic, a payload or a template of discovery
	maxEntityOptions  = 64
	maxEntityAvailing = 4 // availability topics of one entity
)

// homeassistant is the profile: the entities that discovery told of.
type homeassistant struct {
	discovery string
	measure   string
	filters   []string
	gear      map[string]*entityGear
	states    map[string][]*entity // by state topic
	watches   map[string][]watch   // by availability topic
	memory    int
	flat      Flattener
	descriptions
}

// entityGear is one piece of gear.
type entityGear struct {
	name      string
	entities  map[string]*entity // by component/object
	fields    map[string]int     // entities that make the name
	mode      string             // availability_mode
	available map[string]bool    // by topic; as it was told
	changed   bool               // since it was described
	described time.Time
}

// watch is an availability topic of a piece of gear.
type watch struct {
	gear   *entityGear
	of     *entity
	number int // of availability
}

func newHomeassistant(s homeassistantSettings) (*homeassistant, error) {
	measure, err := measurementOf(s.Measurement, "homeassistant")
	if err != nil {
		return nil, err
	}
	p := &homeassistant{
		discovery: s.Discovery, measure: measure,
		gear: map[string]*entityGear{}, states: map[string][]*entity{}, watches: map[string][]watch{},
	}
	p.filters = append(p.filters, s.StateFilters...)
	if !p.covers(s.Discovery + "/component/object/config") {
		p.filters = append([]string{s.Discovery + "/#"}, p.filters...)
	}
	return p, nil
}

// covers tells whether messages of a topic come to this profile.
func (p *homeassistant) covers(topic string) bool {
	for _, filter := range p.filters {
		if TopicMatches(filter, topic) {
			return true
		}
	}
	return false
}

// Filters are the discovery prefix and those of the settings.
func (p *homeassistant) Filters() []string { return p.filters }

// Connected has nothing to ask: discovery is retained. States that come before
// it are early.
func (p *homeassistant) Connected() []Publish { return nil }

// Decode a discovery message, a state or an availability.
func (p *homeassistant) Decode(m Message, reports []Report) ([]Report, error) {
	if t, ok := parseDiscovery(p.discovery, m.Topic); ok {
		if err := checkGear(t.gear()); err != nil {
			return reports, err
		}
		report, err := p.configure(t, m)
		if err != nil {
			return reports, at(err, t.gear())
		}
		p.describes(t.gear(), m.Topic)
		return append(reports, report), nil
	}
	states, watches := p.states[m.Topic], p.watches[m.Topic]
	if len(states) == 0 && len(watches) == 0 {
		if m.Retained || len(m.Payload) > MaxPayloadBytes {
			return reports, nil
		}
		return reports, &Early{Key: strings.Clone(m.Topic), Shared: true}
	}
	if len(m.Payload) > MaxPayloadBytes {
		return reports, Refuse("too large", "%d bytes, the limit is %d", len(m.Payload), MaxPayloadBytes)
	}
	return p.availability(watches, m, p.read(states, m, reports)), nil
}

// discoveryTopic is <prefix>/<component>/[<node>/]<object>/config.
type discoveryTopic struct {
	component, node, object string
}

func (t discoveryTopic) gear() string {
	if t.node != "" {
		return t.node
	}
	return t.object
}

func parseDiscovery(prefix, topic string) (discoveryTopic, bool) {
	rest, ok := strings.CutPrefix(topic, prefix+"/")
	if !ok || !strings.HasSuffix(rest, "/config") {
		return discoveryTopic{}, false
	}
	levels := strings.Split(strings.Clone(rest), "/")
	for _, level := range levels {
		if level == "" {
			return discoveryTopic{}, false
		}
	}
	switch len(levels) {
	case 3:
		return discoveryTopic{component: levels[0], object: levels[1]}, true
	case 4:
		return discoveryTopic{component: levels[0], node: levels[1], object: levels[2]}, true
	}
	return discoveryTopic{}, false
}
