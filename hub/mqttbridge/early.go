package mqttbridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// Bounds of messages that wait for what describes them, of one broker.
const (
	maxEarlyBytes = 64 << 20 // with earlyOverhead for each
	// maxPatientBytes are of messages that may wait for days: the others have
	// the rest to themselves.
	maxPatientBytes = maxEarlyBytes / 2
	earlyOverhead   = 256
	// earlyFor is how long they wait after what describes them can have come:
	// that is retained, and comes with the answer to the subscription, behind
	// what the broker has kept for the hub.
	earlyFor = 30 * time.Second
	// A broker that sends so much in a second is still sending what it has
	// kept, for as long as that can take.
	drainRate = 20
	maxDrain  = 10 * time.Minute
	// earlyPause gathers what describes messages, for it is often several
	// messages.
	earlyPause = 100 * time.Millisecond
)

// earlyMessage waits for what describes it, or for what more does.
type earlyMessage struct {
	earlyRecord
	bound    *bound
	key      string
	hash     uint64
	shared   bool
	refusal  error
	patience time.Duration // from its arrival on; 0: while earlyFor lasts
	listed   bool          // it is among those that wait; one that is shared stays there
	offered  bool          // it is about to be decoded, or its rows are on their way to be durable
	stored   bool          // its rows are durable; it is shared, and may have more
}

func (e *earlyMessage) bytes() int {
	return len(e.topic) + len(e.payload) + len(e.note) + earlyOverhead
}

// early are the messages of a broker that wait. It is the worker's.
type early struct {
	journal *earlyJournal
	found   []earlyRecord // in the journal, at the start
	waiting map[earlyKey][]*earlyMessage
	known   map[earlyArrival]*earlyMessage
	hashes  map[uint64]int // of those
	bytes   int
	last    int64                  // the newest time of arrival
	ripe    map[earlyKey]time.Time // what was described, and when to offer it
	offers  []*earlyMessage        // to be offered now

	until    time.Time // they wait, unless the broker drains what it has kept
	draining bool
	looked   time.Time // at how much comes
	messages uint64    // that had come then
}

type earlyKey struct {
	bound *bound
	key   string
}

// earlyArrival tells a message from all others.
type earlyArrival struct {
	at   int64
	hash uint64
}

func openEarly(path string) (e early, err error) {
	e.journal, e.found, err = openEarlyJournal(path)
	e.waiting, e.ripe = make(map[earlyKey][]*earlyMessage), make(map[earlyKey]time.Time)
	e.known, e.hashes = make(map[earlyArrival]*earlyMessage), make(map[uint64]int)
	return e, err
}

func (e *early) keep(h *earlyMessage) {
	e.known[earlyArrival{h.at, h.hash}] = h
	e.hashes[h.hash]++
	e.bytes += h.bytes()
	e.last = max(e.last, h.at)
}

// begin a session: what the broker has kept, and what it has retained, comes.
func (e *early) begin(now time.Time, messages uint64) {
	e.draining, e.until, e.looked, e.messages = true, now.Add(earlyFor), now, messages
}

// replayEarly takes in what waited when the hub ended.
func (b *broker) replayEarly() {
	e := &b.early
	lost := make(map[string]int)
	for i := range e.found {
		r := &e.found[i]
		p := b.boundNamed(r.profile)
		if p == nil {
			lost[r.profile]++
			e.journal.done(r)
			continue
		}
		m := &earlyMessage{earlyRecord: *r, bound: p, hash: messageHash(r.topic, r.payload)}
		e.keep(m)
		b.newest = max(b.newest, r.at)
		b.offer(m, false)
	}
	e.found = nil
	for name, n := range lost {
		b.lost(problem{reason: "never described", profile: name, detail: fmt.Sprintf(
			"%d readings waited for what describes them when the hub ended, and the profile is not in the config any more: they are lost", n)}, n)
	}
}

// isEarly reports whether a message has come before, and waits: the broker has
// not heard that it has arrived.
func (b *broker) isEarly(a *arrival, p *bound) bool {
	if len(b.early.known) == 0 || a.id == 0 || p.describing == nil || b.early.hashes[messageHash(a.topic, a.payload)] == 0 {
		return false
	}
	b.firstTime(a, b.freshEarly(a))
	_, known := b.early.known[earlyArrival{a.first, a.hash}]
	return known
}

// freshEarly is the time of a message that is new: no other has it, of
// whatever gear that is.
func (b *broker) freshEarly(a *arrival) func() int64 {
	return func() int64 {
		b.newest = max(a.received.UnixNano(), b.newest+1)
		return b.newest
	}
}

// hold a message that nothing describes. It is acknowledged when the journal
// is durable.
func (b *broker) hold(a *arrival, p *bound, m *profile.Message, why *profile.Early) {
	e := &b.early
	if h := a.early; h != nil { // offered in vain: it goes on waiting
		a.waits = true
		h.shared, h.refusal, h.patience = why.Shared, why.Refusal, why.Wait
		e.wait(h, why.Key)
		return
	}
	size, room := len(m.Topic)+len(m.Payload)+len(why.Note)+earlyOverhead, maxEarlyBytes
	if why.Wait > 0 {
		room = maxPatientBytes
	}
	switch {
	case m.Retained || why.Wait == 0 && !b.describable() || why.Gear != "" && !p.mayStore(why.Gear):
		if why.Refusal != nil && why.Wait == 0 {
			b.refuse(p, m, why.Refusal)
		}
		return
	case e.bytes+size > room && !e.forgetStored(size, room):
		b.lost(problem{reason: "no room for early messages", profile: p.cfg.Name, topic: m.Topic, gear: why.Gear, detail: fmt.Sprintf(
			"over %d bytes wait for what describes them: what comes besides is lost", room)}, 1)
		return
	}
	b.firstTime(a, b.freshEarly(a))
	h := &earlyMessage{
		earlyRecord: earlyRecord{at: a.first, profile: p.cfg.Name, topic: strings.Clone(m.Topic), payload: slices.Clone(m.Payload), note: why.Note},
		bound:       p, hash: a.hash, shared: why.Shared, refusal: why.Refusal, patience: why.Wait,
	}
	if h.hash == 0 {
		h.hash = messageHash(m.Topic, m.Payload)
	}
	e.keep(h)
	e.journal.add(&h.earlyRecord)
	e.wait(h, why.Key)
}

// wait has a message wait. Its key stays the same.
func (e *early) wait(h *earlyMessage, key string) {
	h.key, h.offered = key, false
	if at := (earlyKey{h.bound, key}); !h.listed {
		e.waiting[at] = append(e.waiting[at], h)
		h.listed = true
	}
}

// describable reports whether what describes messages may still come.
func (b *broker) describable() bool {
	return !b.connected || b.early.draining || time.Now().Before(b.early.until)
}

// mayStore reports whether gear is allowed, or may be by itself.
func (p *bound) mayStore(name string) bool {
	if g := p.gear[name]; g != nil {
		return g.device == nil || !g.device.Disabled
	}
	return p.allows(name)
}

// lookAtEarly ends the waiting when its time is over.
func (b *broker) lookAtEarly(now time.Time) {
	e := &b.early
	if since := now.Sub(e.looked); b.connected && e.draining && since >= time.Second {
		came := float64(b.counts.messages - e.messages)
		if came < drainRate*since.Seconds() && !b.inbox.full() || now.Sub(b.since) > maxDrain {
			e.draining, e.until = false, now.Add(earlyFor)
		}
		e.looked, e.messages = now, b.counts.messages
	}
	if !b.describable() {
		b.loseEarly(now)
	}
	err := e.journal.flush(func(yield func(*earlyRecord) bool) {
		for _, h := range e.known {
			if !yield(&h.earlyRecord) {
				return
			}
		}
	})
	b.journalTrouble(err)
}

// loseEarly drops what has waited in vain.
func (b *broker) loseEarly(now time.Time) {
	if len(b.early.waiting) == 0 {
		return
	}
	type reason struct {
		bound    *bound
		known    bool // of which gear it is
		patience time.Duration
	}
	lost := make(map[reason][]*earlyMessage)
	b.early.drop(func(h *earlyMessage) bool {
		if h.patience > 0 && now.Sub(time.Unix(0, h.at)) < h.patience {
			return false
		}
		if !h.stored {
			of := reason{h.bound, h.refusal != nil, h.patience}
			lost[of] = append(lost[of], h)
		}
		return true
	})
	for of, all := range lost {
		q := problem{reason: "never described", profile: of.bound.cfg.Name, topic: all[0].topic}
		if of.known {
			var r *profile.Refusal
			if errors.As(all[0].refusal, &r) {
				q.gear = r.Gear
			}
			q.detail = fmt.Sprintf("%d messages that came before what describes them are lost: it has not come within %v; %v", len(all), max(of.patience, earlyFor), all[0].refusal)
			b.lost(q, len(all))
			continue
		}
		q.reason = "of no gear"
		q.detail = fmt.Sprintf("nothing names the topics of %d messages that came before the session counted, or soon after: they are not stored", len(all))
		b.problem(q)
	}
}

// lost counts messages that are.
func (b *broker) lost(q problem, n int) {
	b.counts.refused += uint64(n)
	b.problem(q)
	b.problems.byKey[[2]string{bounded(q.reason), q.profile}].Count += uint64(n - 1)
}

// syncEarly makes durable what waits. It is false where that fails.
func (b *broker) syncEarly() bool {
	if !b.early.journal.unsynced {
		return true
	}
	err := b.early.journal.sync()
	b.journalTrouble(err)
	return err == nil
}

func (b *broker) journalTrouble(err error) {
	if err != nil {
		b.problem(problem{reason: "journal of early messages", detail: err.Error()})
	}
}
