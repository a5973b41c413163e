package mqttbridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/telemetry"
)

// held is a report that waits for its gear to be allowed.
type held struct {
	gear   *gear
	bound  *bound
	report profile.Report
	bytes  int // about, that it takes until then
}

// reportBytes is about what a copy of a report takes.
func reportBytes(r *profile.Report) int {
	n := 0
	for i := range r.Rows {
		n += int(unsafe.Sizeof(r.Rows[i])) + len(r.Rows[i].Fields)*int(unsafe.Sizeof(telemetry.Field{}))
	}
	return n
}

// decode takes one message in: presence and descriptions at once, answers to
// commands at once, and rows as entries of the arrival, which joins the queue.
func (b *broker) decode(a *arrival) {
	if a.topic == b.fenceTopic {
		b.queue = append(b.queue, a)
		b.marked(a)
		b.backlog.keep(nil, a, profile.Message{Payload: a.payload}, false)
		return
	}
	b.counts.messages++
	m := profile.Message{
		Topic: a.topic, Payload: a.payload, Retained: a.retained, Received: a.received, Repeated: a.dup,
	}
	b.queue = append(b.queue, a)
	if m.Retained {
		b.retained = time.Now()
	}
	p := b.boundFor(&m)
	if p == nil {
		return
	}
	p.messages++
	if len(m.Payload) > profile.MaxPayloadBytes {
		b.refuse(p, &m, profile.Refuse("too large", "the payload is over %d bytes", profile.MaxPayloadBytes))
		return
	}
	if m.Retained && b.connected {
		b.early.until = time.Now().Add(earlyFor)
	}
	if b.isEarly(a, p) {
		return
	}
	if !m.Retained {
		b.backlog.keep(p, a, m, len(p.waiting) > 0 && b.answered(p, a, m))
	}
	b.take(a, p, m)
}

// take in what a message says to its profile.
func (b *broker) take(a *arrival, p *bound, m profile.Message) {
	reports, err := b.decodeWith(p, m)
	var early *profile.Early
	switch {
	case errors.As(err, &early):
		b.hold(a, p, &m, early)
	case err != nil:
		b.refuse(p, &m, err)
		return
	}
	b.describes(p, time.Now())
	b.remembers(p)
	unknown := false
	for i := range reports {
		b.counts.lost += reports[i].Lost
		unknown = !b.report(a, p, &m, &reports[i]) || unknown
	}
	if unknown {
		b.counts.unknown++
	}
	clear(reports)
	b.reports = reports[:0]
}

// boundFor finds the profile that a message goes to: the first whose filter
// matches. nil: it is of no interest, or refused.
func (b *broker) boundFor(m *profile.Message) *bound {
	if !utf8.ValidString(m.Topic) || strings.IndexByte(m.Topic, 0) >= 0 {
		b.counts.refused++
		b.problem(problem{reason: "topic is not UTF-8", topic: strings.ToValidUTF8(m.Topic, "�")})
		return nil
	}
	if strings.HasPrefix(m.Topic, fenceRoot) || b.bridge.publishes(m.Topic) { // another hub's markers are no gear either
		return nil
	}
	var found *bound
	for _, p := range b.profiles {
		if !matchesAny(p.filters, m.Topic) {
			continue
		}
		if found == nil {
			if found = p; !b.overlaps {
				break
			}
			continue
		}
		b.problem(problem{reason: "topic matches two profiles", profile: p.cfg.Name, topic: m.Topic,
			detail: fmt.Sprintf("it goes to %s, which comes first in the config, and not to %s", found.cfg.Name, p.cfg.Name)})
		break
	}
	return found
}

// decodeWith is the profile's Decode. A profile that panics has refused the
// message.
func (b *broker) decodeWith(p *bound, m profile.Message) (reports []profile.Report, err error) {
	defer func() {
		if r := recover(); r != nil {
			b.log.Error("a profile has failed on a message", "profile", p.cfg.Name, "topic", m.Topic, "failure", r)
			err = profile.Refuse("internal error", "the profile failed on this message")
		}
	}()
	return p.profile.Decode(m, b.reports[:0])
}

// refuse counts a message that is not usable.
func (b *broker) refuse(p *bound, m *profile.Message, err error) {
	b.counts.refused++
	q := problem{reason: profile.ReasonOf(err), profile: p.cfg.Name, topic: m.Topic, detail: err.Error()}
	var r *profile.Refusal
	if errors.As(err, &r) {
		q.gear, q.detail = r.Gear, r.Detail
	}
	b.problem(q)
	if g := p.gear[q.gear]; g != nil {
		g.problem = err.Error()
	}
}

// report takes in what a message says of one piece of gear. It is false where
// the gear is not known. What is in r is good until the next Decode.
func (b *broker) report(a *arrival, p *bound, m *profile.Message, r *profile.Report) bool {
	if err := checkGearName(r.Gear); err != nil {
		b.refuse(p, m, profile.Refuse("bad gear name", "%v", err))
		return true
	}
	g := p.gear[r.Gear]
	if g == nil {
		if g = b.autoAllow(p, r.Gear, a.received); g == nil {
			unsent(r.Publish)
			b.stranger(p, r, a.received)
			return false
		}
	}
	if g.device == nil || g.held > 0 {
		g.held++
		h := held{g, p, keep(r), reportBytes(r)}
		b.encoded += h.bytes
		a.held = append(a.held, h)
		return true
	}
	b.known(a, g, m, r)
	return true
}

// keep is a copy of a report that outlives the next Decode.
func keep(r *profile.Report) profile.Report {
	k := *r
	k.Rows = slices.Clone(k.Rows)
	for i := range k.Rows {
		k.Rows[i].Fields = slices.Clone(k.Rows[i].Fields)
	}
	k.Publish = slices.Clone(k.Publish)
	return k
}

// known is report for gear that is a device.
func (b *broker) known(a *arrival, g *gear, m *profile.Message, r *profile.Report) {
	if a.early == nil {
		g.noteHeard(a.received)
	}
	if g.device.Disabled {
		unsent(r.Publish)
		b.counts.refused++
		b.problem(problem{reason: "device is disabled", profile: g.bound.cfg.Name, topic: m.Topic, gear: g.name})
		return
	}
	if r.Problem != "" {
		g.problem = r.Problem
		b.problem(problem{reason: "part of a message is not usable", profile: g.bound.cfg.Name, topic: m.Topic, gear: g.name, detail: r.Problem})
	}
	b.describe(g, r)
	switch {
	case a.early != nil: // it was a sign of life when it came
	case r.Status == profile.Offline:
		reason := r.Reason
		if reason == "" {
			reason = "last will"
		}
		b.died(g, reason)
	case r.Status == profile.Online:
		g.announces = true
		b.alive(g, a.received)
	case !r.NotAlive && !m.Retained:
		b.alive(g, a.received)
	}
	b.tell(g, r.Publish, a.received)
	b.rows(a, g, m, r)
}

// tellInterval is how often, at most, a profile may tell gear something by
// itself.
const tellInterval = 5 * time.Second

// tell gear what its profile wants it to be told, not too often.
func (b *broker) tell(g *gear, all []profile.Publish, now time.Time) {
	switch {
	case len(all) == 0:
	case b.session == nil: // the broker sends what it has kept before the session counts
		unsent(g.untold)
		g.untold = all
	case now.Sub(g.toldAt) < tellInterval:
		unsent(all)
	default:
		g.toldAt = now
		b.publishAll(g.bound, all)
	}
}

// tellUntold tells gear what it was to be told before the session counted.
func (b *broker) tellUntold(now time.Time) {
	for g := range b.allowed {
		if len(g.untold) > 0 {
			g.toldAt = now
			b.publishAll(g.bound, g.untold)
			g.untold = nil
		}
	}
}

// rows makes entries of rows. Those of a retained message without a time of
// their own are left out: nobody knows how old they are, and they come again
// with every connection.
func (b *broker) rows(a *arrival, g *gear, m *profile.Message, r *profile.Report) {
	rows := r.Rows
	if m.Retained {
		rows = slices.DeleteFunc(rows, func(row telemetry.Row) bool { return row.Time == 0 || r.Seconds })
	}
	if len(rows) == 0 {
		return
	}
	var own []*telemetry.Row
	for i := range rows {
		switch row := &rows[i]; {
		case row.Time == 0:
			row.Time = b.arrivalTime(a, g)
		case r.Seconds:
			row.Time = b.withinSecond(a, g, row.Time)
		default:
			own = append(own, row)
		}
	}
	if len(own) > 0 {
		b.apart(a, g, m, own)
	}
	b.encode(a, g, m, rows)
}

// arrivalTime is the time of a row that has none of its own: when the message
// came first, later than all arrivals of the gear before, and a nanosecond
// after the row before in the same message.
func (b *broker) arrivalTime(a *arrival, g *gear) int64 {
	if a.first == 0 {
		b.firstTime(a, func() int64 { return b.freshArrival(a, g) })
	}
	if a.early != nil && a.of != g {
		a.stamped, a.of = 0, g // the same whatever other gear has a part in it
	}
	at := a.first + a.stamped
	a.stamped++
	g.last = max(g.last, at)
	b.newest = max(b.newest, at)
	return at
}

// freshArrival is the time of arrival of a message that is new.
func (b *broker) freshArrival(a *arrival, g *gear) int64 {
	return max(a.received.UnixNano(), g.last+1, b.early.last+1)
}

// cameFirst is when a message of QoS 1 came first; fresh makes that time for
// one that is not known.
func (b *broker) cameFirst(a *arrival, fresh func() int64) int64 {
	if a.session != b.repeats.session {
		<-a.session.begun
		b.repeats.begin(a.session, a.session.resumed && !b.unresumed)
		b.unresumed = false
	}
	a.hash = messageHash(a.topic, a.payload)
	return b.repeats.arrival(a.id, a.dup, a.hash, fresh)
}

// firstTime finds out when a message came first; fresh says it of one that is
// not known.
func (b *broker) firstTime(a *arrival, fresh func() int64) {
	switch {
	case a.first != 0:
	case a.id == 0:
		a.first = fresh()
	default:
		a.first = b.cameFirst(a, fresh)
	}
}
