package mqttbridge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// What the hub publishes must not come back in as gear. Devices behind a
// bridge are never published, so that nothing goes in circles; and messages
// on topics where the hub publishes are left out when they come in, through
// whichever broker of the config.

// ownTopics are those of all brokers of a config: what is published to one
// may come in through another.
func ownTopics(cfg *Config) []naming {
	var all []naming
	for i := range cfg.Brokers {
		if p := cfg.Brokers[i].Publish; p != nil {
			all = append(all, newNaming(p))
		}
	}
	return all
}

// publishes reports whether the hub itself publishes on a topic.
func (b *Bridge) publishes(topic string) bool {
	return slices.ContainsFunc(b.own, func(n naming) bool { return n.own(topic) })
}

// checkLoops refuses a profile that listens to nothing but what the hub
// publishes to the same broker: it would never hear anything.
func (b *BrokerConfig) checkLoops() error {
	if b.Publish == nil {
		return nil
	}
	names := newNaming(b.Publish)
	for i := range b.Profiles {
		p := &b.Profiles[i]
		kind, _ := profile.KindOf(p.Kind)
		made, err := kind.New(p.decodeSettings)
		if err != nil {
			return err
		}
		for _, f := range made.Filters() {
			if strings.HasPrefix(f, names.prefix+"/") {
				return fmt.Errorf("profile %s listens to %s, where the hub itself publishes (publish: prefix: %s)", p.Name, f, names.prefix)
			}
		}
	}
	return nil
}

// trouble notes a problem of upstream.
func (b *broker) trouble(p problem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problem(p)
}
