package mqttbridge

import (
	"slices"
	"strings"
	"time"

	"github.com/tetherline/tetherline/hub/registry"
)

// BrokerStatus is how one broker does. Its counters begin with the hub's
// start.
type BrokerStatus struct {
	Name      string
	URL       string // without a password
	Connected bool
	Since     time.Time // of the present state
	Error     string    // why it is not connected; "": it is
	Profiles  []ProfileStatus

	Messages        uint64 // received
	Rows            uint64 // durable, of those
	Refused         uint64 // messages that were not usable
	UnknownGear     uint64 // messages of gear that is not allowed
	LostQoS0        uint64 // messages of QoS 0 dropped for want of room, and those that Sparkplug nodes miss in their count, at least
	RenamedGear     int    // that is a device of a broker or profile which the config no longer has
	PendingMessages uint64 // received, not durable yet
	PendingBytes    uint64 // of those
	Published       uint64 // messages of the hub, commands among them

	Problems []Problem // the latest of each reason and profile, newest first
}

// ProfileStatus is how one profile of a broker does.
type ProfileStatus struct {
	Name        string
	Kind        string
	GearAllowed uint32
	GearUnknown uint32 // of those that are remembered
	Messages    uint64
}

// Problem is what was wrong, the last time it was.
type Problem struct {
	Time    time.Time
	Reason  string // few words, for counting
	Count   uint64
	Topic   string // "" where it is about none
	Gear    string // ""
	Profile string // "": the broker as a whole
	Detail  string
}

// SeenGear is gear that was heard, allowed or not, or was allowed before.
type SeenGear struct {
	Gear       registry.Gear
	Kind       string    // of its profile
	DeviceID   string    // "": not allowed
	FirstHeard time.Time // since the hub started; zero: not yet
	LastHeard  time.Time
	Messages   uint64
	Problem    string // why it cannot be allowed by itself, or the last refusal
}

// Brokers are the brokers in the order of the config.
func (b *Bridge) Brokers() []BrokerStatus {
	all := make([]BrokerStatus, len(b.brokers))
	for i, br := range b.brokers {
		all[i] = br.status()
	}
	return all
}

func (b *broker) status() BrokerStatus {
	pending, bytes := b.inbox.figures()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := BrokerStatus{
		Name: b.cfg.Name, URL: b.cfg.URL, Connected: b.connected, Since: b.since, Error: b.failure,
		Messages: b.counts.messages, Rows: b.counts.rows, Refused: b.counts.refused, UnknownGear: b.counts.unknown,
		RenamedGear: b.renamed(), LostQoS0: b.inbox.allLost(b.counts.lost), PendingMessages: uint64(pending), PendingBytes: uint64(bytes), Published: b.counts.published,
		Problems: b.problems.list(b.clients.list()...),
	}
	if b.upstream != nil {
		s.Published += b.upstream.published.Load()
	}
	for _, p := range b.profiles {
		s.Profiles = append(s.Profiles, ProfileStatus{
			Name: p.cfg.Name, Kind: p.kind.Name, GearAllowed: uint32(len(p.gear)), GearUnknown: uint32(len(p.strange.known)), Messages: p.messages,
		})
	}
	return s
}

// Gear is what was heard on a broker, or is allowed there, by broker, profile
// and name; "": on all brokers.
func (b *Bridge) Gear(broker string) []SeenGear {
	var all []SeenGear
	for _, br := range b.brokers {
		if broker == "" || br.cfg.Name == broker {
			all = append(all, br.seen()...)
		}
	}
	slices.SortFunc(all, func(a, b SeenGear) int {
		for _, c := range []int{strings.Compare(a.Gear.Broker, b.Gear.Broker), strings.Compare(a.Gear.Profile, b.Gear.Profile)} {
			if c != 0 {
				return c
			}
		}
		return strings.Compare(a.Gear.Name, b.Gear.Name)
	})
	return all
}

func (b *broker) seen() []SeenGear {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]SeenGear, 0, len(b.allowed))
	seen := func(p *bound, name string) SeenGear {
		return SeenGear{Gear: registry.Gear{Broker: b.cfg.Name, Profile: p.cfg.Name, Name: name}, Kind: p.kind.Name}
	}
	for g := range b.allowed {
		s := seen(g.bound, g.name)
		s.FirstHeard, s.LastHeard, s.Messages, s.Problem = g.first, g.heard, g.messages, bounded(g.problem)
		if g.device != nil {
			s.DeviceID = g.device.ID
		}
		all = append(all, s)
	}
	for _, p := range b.profiles {
		for _, at := range p.strange.known {
			s := seen(p, at.name)
			s.FirstHeard, s.LastHeard, s.Messages, s.Problem = at.first, at.last, at.messages, at.problem
			all = append(all, s)
		}
	}
	return all
}
