package mqttbridge

import (
	"fmt"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/session"
)

// Gear of whose presence nothing tells but its silence may say nothing until
// it is told something: a lamp speaks when it is switched. When it went offline
// because the hub or the broker did, it comes back with them, if it was heard
// within its silence. Gear that tells whether it is there is waited for.
const (
	// retainedCalm is for how long nothing that the broker retains has come in
	// a session when all has: a last will among it comes first. It is longer
	// than retainedPause.
	retainedCalm = 3 * time.Second
	hubStopped   = "hub stopped"
)

func (b *broker) notReachable() string {
	return fmt.Sprintf("broker %s is not reachable", b.cfg.Name)
}

// leaveForAWhile: the gear is offline for that reason, which is none of its
// own.
func (b *broker) leaveForAWhile(g *gear, reason string) {
	if g.peer == nil {
		return
	}
	heard := g.peer.LastHeard()
	b.leave(g, reason)
	if !g.announces {
		g.back = heard
	}
}

// recallPresence finds out whether gear is to come back that the hub before
// has known.
func (b *broker) recallPresence(g *gear, device string) {
	p := b.bridge.deps.Live.Presence(device)
	if p.Online || p.LastSeen.IsZero() {
		return
	}
	switch p.Reason {
	case hubStopped, b.notReachable(), session.CloseDraining.Info().Presence:
		g.back = p.LastSeen
		if g.firmware == "" {
			g.firmware = p.Firmware
		}
	}
}

// lookForReturns takes gear online that has come back with the broker, when
// what the broker had to say of it has come.
func (b *broker) lookForReturns(now time.Time) {
	s := b.session
	if s == nil || !b.connected || s.fence.waits(now) || !b.keepsUp(s, now) ||
		now.Sub(b.since) < retainedCalm || now.Sub(b.retained) < retainedCalm || s.asking.Load() {
		return
	}
	for g := range b.allowed {
		switch silence := g.bound.silence; {
		case g.back.IsZero() || g.device == nil || g.peer != nil || now.Before(g.notUntil):
		case g.device.Disabled, silence > 0 && now.Sub(g.back) > silence:
			g.back = time.Time{}
		case g.bound.announced(g.name): // or it is not known yet
		default:
			b.enter(g, now, g.back)
		}
	}
}

// announced reports whether gear tells of its presence, as far as its profile
// knows.
func (p *bound) announced(name string) bool {
	a, ok := p.profile.(profile.Announcing)
	return ok && a.Announced(name)
}
