package mqttbridge

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// What the broker has kept for a hub that was killed may hold the answers to
// the commands that it had published. It goes by before they are known again:
// the dispatcher sends them when their gear is online. So the first messages
// and markers of a process are kept for a while, and offered, in their order,
// to each command that was published by the process before.
const (
	backlogBytes = 4 << 20          // that are kept; what comes besides is no answer
	backlogTime  = 30 * time.Second // from the beginning of the first session
)

// backlog is what has come first. It is the worker's.
type backlog struct {
	kept  []keptMessage
	bytes int
	full  bool
	over  bool      // its time
	began time.Time // the first session; zero: it has not, or it is over
	// before are the markers that the process before has heard.
	before [maxMarks]uint64
}

// keptMessage may be the answer to a command of the process before.
type keptMessage struct {
	of      *bound // nil: a marker
	arrival arrival
	message profile.Message
	used    bool // it was an answer
}

// keep a message, or a marker, of for its profile. used: it was an answer.
func (k *backlog) keep(of *bound, a *arrival, m profile.Message, used bool) {
	n := len(m.Topic) + len(m.Payload) + arrivalBytes
	if k.full = k.full || k.over || k.bytes+n > backlogBytes; k.full {
		return
	}
	k.bytes += n
	m.Topic, m.Payload = strings.Clone(m.Topic), bytes.Clone(m.Payload)
	k.kept = append(k.kept, keptMessage{
		of: of, message: m, used: used,
		arrival: arrival{session: a.session, id: a.id, dup: a.dup, received: a.received},
	})
}

// forget what was kept, when its time is over.
func (k *backlog) forget() { *k = backlog{over: true} }

// catchUp offers what was kept to a command of the process before. It is false
// where that has ended it.
func (b *broker) catchUp(w *waiting) bool {
	k := &b.backlog
	if slices.Contains(k.before[:], messageHash(w.mark, nil)) && !b.repeats.anew {
		w.heard, w.fenced = true, new(link)
	}
	for i := range k.kept {
		m := &k.kept[i]
		switch {
		case m.of == nil:
			if string(m.message.Payload) == w.mark {
				if w.heard = true; m.arrival.id != 0 {
					w.fenced = m.arrival.session
				}
			}
		case m.used || m.of != w.bound || w.plan.Match == nil || m.arrival.session.fence.state == fenceBlind || !b.younger(w, &m.arrival):
		default:
			answer, ok := b.match(w, m.message)
			if m.used = ok; ok && b.takeAnswer(w, answer) {
				return false
			}
		}
	}
	return true
}

// remark sends the marker of a command of the process before once more: the
// embedded broker does not tell what is behind one of another session.
func (b *broker) remark(w *waiting) {
	s := b.session
	if s == nil || w.plan.Match == nil || w.plan.Named || w.fenced == s || s.fence.state == fenceBlind {
		return
	}
	topic, words := b.fenceTopic, w.mark
	b.desk.do(b.cfg.Name, func(context.Context) {
		s.client.Publish(topic, 1, false, words)
		s.client.Publish(topic, 0, false, words)
	})
}
