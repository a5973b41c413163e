package mqttbridge

import (
	"maps"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// The settings of a kind whose gear may name any topic: what is below the
// discovery prefix is listened to whatever the filters say.
const (
	stateFilters     = "state-filters"
	discoverySetting = "discovery"
	defaultDiscovery = "homeassistant"
)

// narrowed are settings that take every topic cut down to those that the kind
// makes something of: the others are left to the kinds after it.
func (s *study) narrowed(all seen, kind profile.Kind, settings map[string]any) map[string]any {
	if filters, ok := settings[stateFilters].([]string); !ok || !slices.Equal(filters, []string{"#"}) {
		return settings
	}
	made, err := kind.New((&draft{settings: settings}).decode)
	if err != nil {
		return settings
	}
	open := make(map[string]bool, len(s.open))
	for _, t := range s.open {
		open[t.name] = true
	}
	used := make(map[string]bool)
	var reports []profile.Report
	for _, m := range all.kept {
		if open[m.Topic] {
			reports, err = made.Decode(m, reports[:0])
			used[m.Topic] = used[m.Topic] || err == nil && len(reports) > 0
		}
	}
	// What is named without having been heard is needed too: commands, above
	// all, are on topics that the sample may not have listened to.
	if names, ok := made.(interface{ Topics() []string }); ok {
		for _, topic := range names.Topics() {
			used[topic] = true
		}
	}
	prefix, ok := settings[discoverySetting].(string)
	if !ok {
		prefix = defaultDiscovery
	}
	maps.DeleteFunc(used, func(topic string, _ bool) bool { return profile.TopicMatches(prefix+"/#", topic) })
	cut := maps.Clone(settings)
	cut[stateFilters] = s.filtersOf(used)
	return cut
}

// filtersOf are filters that match the used topics: each as wide as it may be
// without a topic that is not used, and no wider than the sample listened.
func (s *study) filtersOf(used map[string]bool) []string {
	others := make(map[string]bool) // beginnings of topics that are not used
	for topic, is := range used {
		for i := 0; !is && i < len(topic); i++ {
			if topic[i] == '/' {
				others[topic[:i]] = true
			}
		}
		if !is {
			others[topic] = true // "a/#" matches "a" too
		}
	}
	filters := make(map[string]bool)
	for topic, is := range used {
		if is {
			filters[s.widest(topic, others)] = true
		}
	}
	return slices.Sorted(maps.Keys(filters))
}

func (s *study) widest(topic string, others map[string]bool) string {
	for i := 1; i < len(topic); i++ {
		if topic[i] == '/' && !others[topic[:i]] && s.hears(topic[:i]) {
			return topic[:i] + "/#"
		}
	}
	return topic
}

// hears reports whether the sample listened to everything below a topic.
func (s *study) hears(topic string) bool {
	if len(s.filters) == 0 {
		return true
	}
	return slices.ContainsFunc(s.filters, func(f string) bool {
		above, all := strings.CutSuffix(f, "#")
		return all && (above == "" || profile.TopicMatches(f, topic))
	})
}
