package mqttbridge

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// An answer to a command must be younger than the command: what the broker has
// kept for the hub, of an hour ago perhaps, may say the very same. So the hub
// sends markers to itself, on a topic of its own, in its own session. What a
// session is sent at QoS 1 comes in the order of publication (MQTT 3.1.1,
// section 4.6), so that all that comes before the marker was published before
// it.
//
//   - A marker after the beginning of each session says when what was kept is
//     through. Commands wait for it, up to behindTime.
//     Probes at QoS 0 say meanwhile whether the hub hears itself at all: they
//     overtake what is kept.
//   - A marker is published right before each command, on the same connection.
//     What comes behind it may be the answer. It is there twice, at QoS 0 too:
//     an answer at QoS 0 overtakes what waits at QoS 1.
//
// Where the broker does not give the hub its markers back, only the clock is
// left: see fenceBlind.
const fenceRoot = "tetherline/fence/"

const (
	// behindTime is how long commands wait for what the broker has kept.
	behindTime = 10 * time.Second
	// markAgain is after how long the marker of a session is sent again: where
	// the broker's queue is full, it drops it.
	markAgain = 2 * time.Second
	// calmTicks is after how many quiet seconds without its marker a session
	// counts as through all the same.
	calmTicks = 5
	// unheardTime is after how long without a probe the hub does not hear
	// itself: several were sent, the last ones a second apart.
	unheardTime = 4 * time.Second
)

// fenceTopic is where the hub sends markers to itself.
func fenceTopic(clientID string) string {
	return fenceRoot + strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, clientID)
}

// fenceState is how a session stands with what the broker has kept.
type fenceState uint8

const (
	fenceBehind  fenceState = iota // what was kept is perhaps not through
	fenceThrough                   // it is
	// The broker gives no marker back, but little comes: an answer counts when
	// it was received after the command was published, and is no repetition.
	fenceBlind
)

// fence is that of one session. It is the worker's.
type fence struct {
	state fenceState
	words string // of the session's marker
	began time.Time
	sent  time.Time // the marker, the last time
	heard bool      // a probe has come back
	since time.Time // from when on one would have been heard
	calm  int       // ticks in which little came
}

// probe is what a session's probes say.
func (f *fence) probe() string { return f.words + " probe" }

// waits reports whether commands wait for what the broker has kept.
func (f *fence) waits(now time.Time) bool {
	return f.state == fenceBehind && now.Sub(f.began) < behindTime
}

// raise the fence of a session that begins.
func (b *broker) raise(s *link, now time.Time) {
	s.fence = fence{words: "session " + rand.Text(), began: now, since: now}
	if b.fenceRefused {
		b.fenceRefused = false
		b.blind(s)
		return
	}
	b.markSession(s, now)
}

// markSession sends the marker of a session.
func (b *broker) markSession(s *link, now time.Time) {
	s.fence.sent = now
	topic, words := b.fenceTopic, s.fence.words
	b.desk.do(b.cfg.Name, func(context.Context) { s.client.Publish(topic, 1, false, words) })
	b.probe(s)
}

// probe whether the hub hears itself.
func (b *broker) probe(s *link) {
	topic, words := b.fenceTopic, s.fence.probe()
	b.desk.do(b.cfg.Name, func(context.Context) { s.client.Publish(topic, 0, false, words) })
}

// blind: the hub does not hear itself.
func (b *broker) blind(s *link) {
	s.fence.state = fenceBlind
	detail := "the hub's own broker has not given them back in time, as when it or its disk is busy; until it does, what it had kept may be taken for an answer"
	if b.cfg.URL != EmbeddedURL {
		detail = "the broker refuses them, or is too busy to give them back in time. Where it has access rules, let the hub's user publish and subscribe there (Mosquitto's acl_file: topic readwrite " + fenceRoot + "#): without that commands wait for seconds " +
			"when the hub connects, and what the broker had kept may be taken for an answer"
	}
	b.problem(problem{reason: "own messages do not come back", topic: b.fenceTopic, detail: detail})
}

// keepsUp reports whether the hub takes in what comes as it comes.
func (b *broker) keepsUp(s *link, now time.Time) bool {
	oldest := b.inbox.oldest()
	return b.retryAt.IsZero() && !b.inbox.left(s) && (oldest.IsZero() || now.Sub(oldest) < time.Second)
}

// watchFence looks, once a second, at a session whose marker has not come
// back. A broker that has kept messages sends on as soon as there is room, so
// that as many wait here as it sends ahead.
func (b *broker) watchFence(now time.Time) {
	s := b.session
	if s == nil || s.fence.state != fenceBehind {
		return
	}
	if b.inbox.takePeak() < leastWindow && b.retryAt.IsZero() {
		s.fence.calm++
	} else {
		s.fence.calm = 0
	}
	if !b.keepsUp(s, now) {
		s.fence.since = now
	}
	if !s.fence.heard {
		b.probe(s)
	}
	switch {
	case s.fence.calm >= calmTicks, !s.fence.heard && now.Sub(s.fence.since) >= unheardTime:
		b.blind(s)
		b.unpark()
	case now.Sub(s.fence.began) >= behindTime:
		b.unpark()
		fallthrough
	default:
		if now.Sub(s.fence.sent) >= markAgain {
			b.markSession(s, now)
		}
	}
}

// marked takes a marker in.
func (b *broker) marked(a *arrival) {
	words := string(a.payload)
	f := &a.session.fence
	if f.words != "" && words == f.probe() {
		f.heard = true
		return
	}
	if f.words != "" && words == f.words {
		if f.state != fenceThrough && a.session == b.session {
			f.state = fenceThrough
			b.unpark()
		}
		return
	}
	if a.id != 0 && strings.HasPrefix(words, commandMark) && !b.marks.has(words) {
		if err := b.marks.came(words); err != nil {
			b.problem(problem{reason: "memory of markers", detail: err.Error()})
		}
	}
	for _, p := range b.profiles {
		for _, w := range p.waiting {
			if w.mark != words {
				continue
			}
			if w.heard = true; a.id != 0 {
				w.fenced = a.session
			}
		}
	}
}

// markCommand sends the markers of a command that is about to be published.
// Only the broker's order on the wire counts: nothing is waited for.
func (b *broker) markCommand(w *waiting, revision uint64) {
	b.mu.Lock()
	s := b.session
	if s == nil || w.plan.Match == nil || w.plan.Named {
		b.mu.Unlock()
		return
	}
	w.mark, w.published = markOf(w.id, revision), time.Now()
	state := s.fence.state
	b.mu.Unlock()
	if state != fenceBlind {
		s.client.Publish(b.fenceTopic, 1, false, w.mark)
	}
	if state == fenceThrough {
		s.client.Publish(b.fenceTopic, 0, false, w.mark)
	}
}

// markOf is the marker of a command whose claim has that revision: one that is
// published after its claim was given back has another.
func markOf(id string, revision uint64) string {
	return fmt.Sprintf("%s%s %d", commandMark, id, revision)
}

const commandMark = "command "

// younger reports whether a message can have been published after the command
// was.
func (b *broker) younger(w *waiting, a *arrival) bool {
	s := a.session
	switch {
	case w.plan.Named:
		return true
	case s.fence.began.After(w.published) && b.forgotten(s):
		return true // the broker has kept nothing for this session
	case s.fence.state == fenceBlind:
		return !a.dup && a.received.After(w.published)
	case a.id == 0:
		return w.heard
	case w.fenced == s:
		return !a.dup || !b.repeats.anew
	}
	// What was never sent before is behind the marker, which was; the embedded
	// broker does not know that for sure.
	return w.fenced != nil && !a.dup && !b.repeats.anew
}

// forgotten reports whether the broker began a session without one before.
func (b *broker) forgotten(s *link) bool {
	<-s.begun
	return !s.resumed
}
