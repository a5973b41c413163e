package mqttbridge

import (
	"container/list"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// maxStrangers is how much gear that is not allowed is remembered, of all
// brokers; the one that was heard longest ago gives way.
const maxStrangers = 10_000

// stranger is gear that was heard and is not allowed.
type stranger struct {
	bound       *bound
	name        string
	first, last time.Time
	messages    uint64
	problem     string
	tryAt       time.Time // not allowed automatically before
	place       *list.Element
}

// strangers are those of one broker. The broker's mu guards them.
type strangers struct {
	all   *atomic.Int64 // of all brokers
	known map[strangerKey]*stranger
	order *list.List // of *stranger, the one heard longest ago first
}

type strangerKey struct {
	bound *bound
	name  string
}

func (s *strangers) init(all *atomic.Int64) {
	s.all, s.known, s.order = all, make(map[strangerKey]*stranger), list.New()
}

func (s *strangers) find(p *bound, name string) *stranger { return s.known[strangerKey{p, name}] }

// note that gear was heard.
func (s *strangers) note(p *bound, name string, now time.Time) *stranger {
	at := s.known[strangerKey{p, name}]
	if at == nil {
		name = strings.Clone(name) // the topic that it is a part of may be long
		at = &stranger{bound: p, name: name, first: now}
		s.known[strangerKey{p, name}] = at
		at.place = s.order.PushBack(at)
		if s.all.Add(1) > maxStrangers {
			s.forget(s.order.Front().Value.(*stranger))
		}
	}
	s.order.MoveToBack(at.place)
	at.last = now
	return at
}

func (s *strangers) forget(at *stranger) {
	if s.known[strangerKey{at.bound, at.name}] != at {
		return
	}
	delete(s.known, strangerKey{at.bound, at.name})
	s.order.Remove(at.place)
	s.all.Add(-1)
}

// stranger notes a report of gear that is not allowed.
func (b *broker) stranger(p *bound, r *profile.Report, now time.Time) {
	s := b.strange.note(p, r.Gear, now)
	s.messages++
	if r.Problem != "" {
		s.problem = bounded(r.Problem)
	}
}
