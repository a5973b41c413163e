package mqttbridge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/registry"
)

// Bounds of what a sample shows.
const (
	maxSampleGear        = 2000
	maxUnrecognised      = 200
	maxPayloadShown      = 60 // bytes
	maxRecognisableKinds = 64
)

// study finds out which profiles a recording needs, and what these make of
// it: first the profiles of the broker's config, then one for each kind and
// settings that recognises a topic none before it takes. All messages then go
// through them in their order, as through a bridge with that config, so that
// what is shown is what the config brings.
type study struct {
	broker *BrokerConfig
	device func(id string) (*registry.Device, bool)
	// verdicts are what each kind says of a topic, by the topic's name.
	verdicts map[string]*verdicts
	told     map[string]*toldPresence     // by topic
	mixed    map[string]map[string]*mixed // by draft.key and field
	apart    map[string]bool              // drafts with a measurement of their own, by key
	filters  []string                     // of the sample; none: all topics
	births   *births                      // nil: nobody is asked
	// gear is the id of the device that gear is; "": it is none.
	gear    func(registry.Gear) string
	tooLong bool

	early []profile.Message // messages of the replay that came before what describes them

	// Of the last look.
	drafts []*draft
	open   []seenTopic // that no draft takes
	rest   map[string]rejected
}

// verdicts are settings by the kind's place in profile.Kinds.
type verdicts struct {
	looked int // messages of the topic
	key    []string
	use    []map[string]any
}

// draft is a profile of the config to be.
type draft struct {
	ProfileConfig
	settings map[string]any // of a proposed one
	key      string         // of kind and settings, as they were recognised
	proposed bool
	topics   []string // that it was proposed for
	profile  profile.Profile
	filters  []string
	gear     map[string]*foundGear
}

// with makes the profile anew, of its settings and one more. It is false, and
// nothing has changed, where the kind does not take that.
func (d *draft) with(key string, value any) bool {
	settings := maps.Clone(d.settings)
	if settings == nil {
		settings = make(map[string]any)
	}
	settings[key] = value
	kind, _ := profile.KindOf(d.Kind)
	made, err := kind.New((&draft{settings: settings}).decode)
	if err != nil {
		return false
	}
	d.settings, d.profile, d.filters = settings, made, made.Filters()
	return true
}

// rejected is why a topic brought nothing.
type rejected struct {
	reason  string
	stands  bool // whatever else is found out
	payload []byte
}

func newStudy(b *BrokerConfig, device func(id string) (*registry.Device, bool)) *study {
	return &study{
		broker: b, device: device, gear: func(registry.Gear) string { return "" },
		verdicts: make(map[string]*verdicts), told: make(map[string]*toldPresence),
	}
}

// look studies all that was seen. A proposed profile that brings no gear is
// dropped, and what it took is given to the others; one whose fields are of
// several types gets types for them.
func (s *study) look(all seen) {
	useless := make(map[string]bool)
	s.mixed, s.apart = make(map[string]map[string]*mixed), make(map[string]bool)
	for range 6 {
		s.draft(all, useless)
		route := s.replay(all)
		before := len(useless)
		for _, d := range s.drafts {
			if d.proposed && len(d.gear) == 0 {
				useless[d.key] = true
			}
		}
		if !s.settle(all, route) && !s.separate() && len(useless) == before {
			break
		}
	}
	s.tellUnborn()
	s.tellMixed()
	s.identify()
}

// draft makes the profiles.
func (s *study) draft(all seen, useless map[string]bool) {
	s.drafts, s.rest = nil, make(map[string]rejected)
	s.open = slices.DeleteFunc(slices.Clone(all.topics), func(t seenTopic) bool { return strings.HasPrefix(t.name, "$") })
	names := make(map[string]bool)
	for i := range s.broker.Profiles {
		p := s.broker.Profiles[i]
		names[p.Name] = true
		if kind, ok := profile.KindOf(p.Kind); ok {
			if made, err := kind.New(p.decodeSettings); err == nil {
				s.add(&draft{ProfileConfig: p, profile: made})
			}
		}
	}
	var found []presence
	for i, kind := range profile.Kinds() {
		if kind.Recognise == nil {
			continue
		}
		if slices.Contains(presenceKinds, kind.Name) {
			found = append(found, s.presences()...)
		}
		for _, w := range s.wanted(i, kind) {
			if !useless[w.key(kind)] && s.isOpen(w.topics) {
				s.propose(all, kind, w, names)
			}
		}
	}
	s.attach(found)
}

// propose a profile, under a name that is none of names.
func (s *study) propose(all seen, kind profile.Kind, w wish, names map[string]bool) {
	if len(s.drafts) >= MaxProfiles {
		for _, topic := range w.topics {
			s.rest[topic] = rejected{stands: true, reason: fmt.Sprintf("a broker has at most %d profiles; kind %s with settings %s would take it", MaxProfiles, kind.Name, settingsKey(w.settings))}
		}
		return
	}
	d := &draft{
		ProfileConfig: ProfileConfig{Kind: kind.Name, Name: freeName(kind.Name, names)},
		settings:      s.narrowed(all, kind, w.settings), key: w.key(kind), proposed: true, topics: w.topics,
	}
	made, err := kind.New(d.decode)
	if err != nil {
		return
	}
	names[d.Name] = true
	d.profile = made
	if types := s.mixed[d.key]; types != nil {
		d.with("fields", fieldsSetting(kind.Name, types))
	}
	if s.apart[d.key] {
		d.with("measurement", profile.Name(d.Name))
	}
	s.add(d)
}

// add takes a profile in, with the topics that it takes.
func (s *study) add(d *draft) {
	d.filters = d.profile.Filters()
	s.drafts = append(s.drafts, d)
	s.open = slices.DeleteFunc(s.open, func(t seenTopic) bool { return matchesAny(d.filters, t.name) })
}

// isOpen reports whether no draft takes one of the topics.
func (s *study) isOpen(topics []string) bool {
	open := make(map[string]bool, len(s.open))
	for _, t := range s.open {
		open[t.name] = true
	}
	return slices.ContainsFunc(topics, func(topic string) bool { return open[topic] })
}

// wish is a kind's settings, with the topics that it recognises by them.
type wish struct {
	settings map[string]any
	topics   []string
}

// key of the draft that a wish becomes.
func (w wish) key(kind profile.Kind) string { return kind.Name + "\n" + settingsKey(w.settings) }

// wanted are the settings under which a kind takes topics that no profile
// takes yet, those with the most topics first.
func (s *study) wanted(place int, kind profile.Kind) []wish {
	var wishes []wish
	byKey := make(map[string]int)
	for _, t := range s.open {
		settings, key, ok := s.recognise(t, place, kind)
		if !ok {
			continue
		}
		n, known := byKey[key]
		if !known {
			n = len(wishes)
			byKey[key] = n
			wishes = append(wishes, wish{settings: settings})
		}
		wishes[n].topics = append(wishes[n].topics, t.name)
	}
	slices.SortStableFunc(wishes, func(a, b wish) int { return cmp.Compare(len(b.topics), len(a.topics)) })
	return wishes
}

// recognise asks a kind about the first messages of a topic, once.
func (s *study) recognise(t seenTopic, place int, kind profile.Kind) (map[string]any, string, bool) {
	v := s.verdicts[t.name]
	if v == nil || v.looked < len(t.first) {
		v = &verdicts{looked: len(t.first), key: make([]string, maxRecognisableKinds), use: make([]map[string]any, maxRecognisableKinds)}
		s.verdicts[t.name] = v
	}
	const no, unasked = "-", ""
	if v.key[place] == unasked {
		v.key[place] = no
		for _, m := range t.first {
			if settings, ok := kind.Recognise(m); ok {
				v.key[place], v.use[place] = "+"+settingsKey(settings), settings
				break
			}
		}
	}
	return v.use[place], v.key[place], v.key[place] != no
}

// settingsKey is the same for the same settings.
func settingsKey(settings map[string]any) string {
	if len(settings) == 0 {
		return "{}"
	}
	text, err := yaml.MarshalWithOptions(settings, yaml.Flow(true))
	if err != nil {
		return fmt.Sprint(settings)
	}
	return strings.TrimSpace(string(text))
}

// freeName is the kind's name, or one with a number behind it.
func freeName(kind string, taken map[string]bool) string {
	name := kind
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", kind, n)
	}
	return name
}
