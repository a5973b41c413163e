package mqttbridge

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what is remembered of problems, of one broker.
const (
	maxProblems     = 64
	maxProblemBytes = 256 // of each text
)

// problem is something that was wrong.
type problem struct {
	reason, profile     string // the key
	topic, gear, detail string // of the last one
}

// problems are the latest of each reason and profile, at most maxProblems.
type problems struct {
	byKey map[[2]string]*Problem
	// before are other details of the key, not of the shape of the last one
	// or of each other, newest first.
	before map[[2]string][]string
}

// maxDetails are how many details of a reason and profile are told besides the
// last one.
const maxDetails = 3

// shape is a detail without its numbers: "field 3" and "field 4" are one.
func shape(detail string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, detail)
}

// replace the last detail of a key, which is remembered if it was another one.
func (ps *problems) replace(key [2]string, last, next string) {
	now := shape(next)
	if last == "" || shape(last) == now {
		return
	}
	if ps.before == nil {
		ps.before = make(map[[2]string][]string)
	}
	kept := []string{last}
	for _, d := range ps.before[key] {
		if s := shape(d); s != now && s != shape(last) && len(kept) < maxDetails {
			kept = append(kept, d)
		}
	}
	ps.before[key] = kept
}

// problem notes one, and logs the first of its kind.
func (b *broker) problem(p problem) {
	if b.remember(p) {
		b.log.Warn("MQTT problem; further ones of the kind are counted", "reason", bounded(p.reason), "profile", p.profile,
			"topic", bounded(p.topic), "gear", bounded(p.gear), "detail", bounded(p.detail))
	}
}

// remember a problem that is logged otherwise.
func (b *broker) remember(p problem) (fresh bool) { return b.problems.remember(p) }

// fresh: it is the first of its kind.
func (ps *problems) remember(p problem) (fresh bool) {
	key := [2]string{bounded(p.reason), p.profile}
	at := ps.byKey[key]
	if at == nil {
		if len(ps.byKey) >= maxProblems {
			ps.forgetOldest()
		}
		if ps.byKey == nil {
			ps.byKey = make(map[[2]string]*Problem)
		}
		at = &Problem{Reason: key[0], Profile: p.profile}
		ps.byKey[key] = at
		fresh = true
	}
	ps.replace(key, at.Detail, bounded(p.detail))
	at.Time, at.Topic, at.Gear, at.Detail = time.Now(), bounded(p.topic), bounded(p.gear), bounded(p.detail)
	at.Count++
	return fresh
}

func (ps *problems) forgetOldest() {
	var oldest [2]string
	var first time.Time
	for key, p := range ps.byKey {
		if first.IsZero() || p.Time.Before(first) {
			oldest, first = key, p.Time
		}
	}
	delete(ps.byKey, oldest)
	delete(ps.before, oldest)
}

// list is all, newest first, with those of more.
func (ps *problems) list(more ...Problem) []Problem {
	all := append(make([]Problem, 0, len(ps.byKey)+len(more)), more...)
	for key, p := range ps.byKey {
		told := *p
		if before := ps.before[key]; len(before) > 0 {
			told.Detail += "; before: " + strings.Join(before, "; ")
		}
		all = append(all, told)
	}
	slices.SortFunc(all, func(a, b Problem) int { return b.Time.Compare(a.Time) })
	return all
}

// clientProblems are those of clients of the hub's own broker, which tells
// them from goroutines that must not wait.
type clientProblems struct {
	mu sync.Mutex
	problems
}

func (c *clientProblems) list() []Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problems.list()
}

// ClientProblem takes in that a client of the hub's own broker did something
// that the broker does not take. It is for logged things, and does not wait.
func (b *Bridge) ClientProblem(user, clientID, reason, detail string) {
	p := problem{reason: reason, detail: fmt.Sprintf("user %.40q, client id %.40q: %s", user, clientID, detail)}
	for _, br := range b.brokers {
		if br.cfg.URL == EmbeddedURL {
			br.clients.mu.Lock()
			br.clients.remember(p)
			br.clients.mu.Unlock()
		}
	}
}

// bounded is s as far as it is shown.
func bounded(s string) string {
	if len(s) <= maxProblemBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxProblemBytes], "") + "…"
}
