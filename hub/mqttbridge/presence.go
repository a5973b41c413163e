package mqttbridge

import (
	"fmt"
	"time"

	"github.com/tetherline/tetherline/hub/session"
)

// takenOverPause is how long gear stays away here after another hub has taken
// it over, or while the node is being drained.
const takenOverPause = 10 * time.Second

// alive: the gear has given a sign of life.
func (b *broker) alive(g *gear, now time.Time) {
	switch {
	case !b.connected:
		// What the broker has retained comes before its answer to the
		// subscription, and does not come again.
		g.early = true
		return
	case g.device.Disabled || now.Before(g.notUntil):
		return
	case g.peer == nil:
	case g.peer.firmware == g.firmware || now.Sub(g.peer.entered) < takenOverPause:
		return
	}
	b.enter(g, now, now)
}

// enter takes gear online that was heard last at heard. A new peer takes the
// place of one whose firmware was another.
func (b *broker) enter(g *gear, now, heard time.Time) {
	p := &peer{broker: b, gear: g, device: g.device.ID, firmware: g.firmware, entered: now}
	p.heard.Store(heard.UnixNano())
	epoch, _, err := b.bridge.deps.Live.Enter(p.device, p, "mqtt:"+b.cfg.Name, g.firmware)
	if err != nil {
		g.notUntil = now.Add(takenOverPause)
		return
	}
	if older := g.peer; older != nil {
		older.over.Store(true)
		b.bridge.deps.Commands.Disconnected(older.device, older.epoch)
	}
	p.epoch, g.peer, g.back = epoch, p, time.Time{}
	b.bridge.deps.Commands.Connected(p.device, epoch)
}

// leave: the gear is offline, for that reason.
func (b *broker) leave(g *gear, reason string) {
	g.early, g.back = false, time.Time{}
	p := g.peer
	if p == nil {
		return
	}
	g.peer = nil
	p.over.Store(true)
	b.bridge.deps.Live.Leave(p.device, p, reason)
	b.bridge.deps.Commands.Disconnected(p.device, p.epoch)
	b.dropParked(p)
}

// died: the gear is offline by its own word, or the broker's, which also tells
// why gear is that went offline with the hub or the broker.
func (b *broker) died(g *gear, reason string) {
	if g.peer == nil {
		for _, was := range []string{hubStopped, b.notReachable(), session.CloseDraining.Info().Presence} {
			b.bridge.deps.Live.Explain(g.device.ID, was, reason)
		}
	}
	b.leave(g, reason)
}

// stopped: the table of live devices wants the peer to go.
func (b *broker) stopped(p *peer, code session.CloseCode) {
	g := p.gear
	if g.peer != p {
		return
	}
	if code == session.CloseSuperseded || code == session.CloseDraining {
		g.notUntil = time.Now().Add(takenOverPause)
	}
	if code == session.CloseDraining {
		b.leaveForAWhile(g, code.Info().Presence)
		return
	}
	b.leave(g, code.Info().Presence)
}

func (b *broker) leaveAll(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaveAllLocked(reason)
}

func (b *broker) leaveAllLocked(reason string) {
	for g := range b.allowed {
		if g.peer != nil { // what has come before the session counts is still to be looked at
			b.leaveForAWhile(g, reason)
		}
	}
}

// lookForSilence takes gear online that was heard before the session counted,
// and offline that has been silent for too long.
func (b *broker) lookForSilence(now time.Time) {
	for g := range b.allowed {
		if g.early && b.connected && g.device != nil {
			g.early = false
			b.alive(g, g.heard)
		}
		if g.peer == nil || g.bound.silence == 0 {
			continue
		}
		if since := max(g.heard.UnixNano(), b.since.UnixNano()); now.UnixNano()-since > int64(g.bound.silence) {
			b.leave(g, fmt.Sprintf("silent for %v", g.bound.silence))
		}
	}
}
