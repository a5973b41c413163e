package mqttbridge

import (
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// passedAfter is for how long the worker must have been up with what comes
// before profiles are told of time: what seems not to have come may be on its
// way within the hub, or in what the broker has kept.
const passedAfter = 2 * tickInterval

// behind reports whether messages that have come may wait to be decoded.
func (b *broker) behind() bool {
	return !b.connected || b.early.draining || !b.room() || len(b.taken) == turn || !b.inbox.oldest().IsZero()
}

// tellTime tells profiles of it, and takes in what they know then.
func (b *broker) tellTime(now time.Time) {
	if b.behind() {
		b.upSince = time.Time{}
		return
	}
	if b.upSince.IsZero() {
		b.upSince = now
	}
	if now.Sub(b.upSince) < passedAfter {
		return
	}
	for _, p := range b.profiles {
		if p.timely == nil {
			continue
		}
		reports := b.passed(p, now)
		for i := range reports {
			b.counts.lost += reports[i].Lost
			b.missed(p, &reports[i], now)
		}
		clear(reports)
		b.reports = reports[:0]
	}
}

// passed is the profile's Passed. One that panics has nothing to say.
func (b *broker) passed(p *bound, now time.Time) (reports []profile.Report) {
	defer func() {
		if r := recover(); r != nil {
			b.log.Error("a profile has failed", "profile", p.cfg.Name, "failure", r)
			reports = nil
		}
	}()
	return p.timely.Passed(now, b.reports[:0])
}

// missed takes in what has not come.
func (b *broker) missed(p *bound, r *profile.Report, now time.Time) {
	g := p.gear[r.Gear]
	if g == nil || g.device == nil || g.device.Disabled {
		unsent(r.Publish)
		return
	}
	g.problem = r.Problem
	b.problem(problem{reason: "messages are lost", profile: p.cfg.Name, gear: g.name, detail: r.Problem})
	b.tell(g, r.Publish, now)
}
