package mqttbridge

import (
	"container/list"
	"strings"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// Bounds of what is remembered of gear that is not allowed. Each profile of
// the config has a list of its own, of its share in maxStrangers, so that a
// flood of one pushes nothing out of the others; within a profile the gear
// that was heard longest ago gives way.
const (
	maxStrangers   = 10_000
	leastStrangers = 100 // of a profile, whatever its share
)

// strangerShare is how much a profile of a config remembers.
func strangerShare(cfg *Config) int {
	profiles := 0
	for i := range cfg.Brokers {
		profiles += len(cfg.Brokers[i].Profiles)
	}
	return max(leastStrangers, maxStrangers/max(profiles, 1))
}

// stranger is gear that was heard and is not allowed.
type stranger struct {
	name        string
	first, last time.Time
	messages    uint64
	problem     string
	renamed     bool      // it is a device of a broker or profile that the config has not
	tryAt       time.Time // not allowed automatically before
	place       *list.Element
}

// strangers are those of one profile. The broker's mu guards them.
type strangers struct {
	max   int
	known map[string]*stranger
	order *list.List // of *stranger, the one heard longest ago first
}

func (s *strangers) init(most int) {
	s.max, s.known, s.order = most, make(map[string]*stranger), list.New()
}

func (s *strangers) find(name string) *stranger { return s.known[name] }

// note that gear was heard.
func (s *strangers) note(name string, now time.Time) *stranger {
	at := s.known[name]
	if at == nil {
		if len(s.known) >= s.max {
			s.forget(s.order.Front().Value.(*stranger))
		}
		name = strings.Clone(name) // the topic that it is a part of may be long
		at = &stranger{name: name, first: now}
		s.known[name] = at
		at.place = s.order.PushBack(at)
	}
	s.order.MoveToBack(at.place)
	at.last = now
	return at
}

func (s *strangers) forget(at *stranger) {
	if s.known[at.name] != at {
		return
	}
	delete(s.known, at.name)
	s.order.Remove(at.place)
}

// stranger notes a report of gear that is not allowed.
func (b *broker) stranger(p *bound, r *profile.Report, now time.Time) {
	s := p.strange.note(r.Gear, now)
	if s.messages == 0 && !s.renamed {
		if d := b.bridge.left(deviceID(p.cfg.IDPrefix, s.name), s.name); d != nil {
			s.renamed, s.problem = true, b.takeOver(d, p.cfg.Name)
			b.problem(problem{reason: renamedGear, profile: p.cfg.Name, gear: s.name, detail: s.problem})
		}
	}
	s.messages++
	if r.Problem != "" {
		s.problem = bounded(r.Problem)
	}
}
