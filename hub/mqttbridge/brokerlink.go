package mqttbridge

import (
	"fmt"
	"strings"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// up is told of a session that has begun.
func (b *broker) up(s *link, resumed, forgotten bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session, b.connected, b.since, b.failure = s, true, time.Now(), ""
	b.away.Store(false)
	if k := &b.backlog; !k.over && k.began.IsZero() {
		k.began = b.since
	}
	if !resumed && b.repeats.session != s {
		b.unresumed = true
	}
	b.inbox.begun()
	b.early.begin(b.since, b.counts.messages)
	b.log.Info("connected to the MQTT broker", "resumed", resumed)
	if forgotten {
		b.problem(problem{reason: "session lost",
			detail: "the broker has forgotten the hub's session: what was published while the hub was away is lost"})
	}
	for _, p := range b.profiles {
		b.publishAll(p, b.guard(p, func() []profile.Publish { return p.profile.Connected() }))
	}
	b.raise(s, b.since)
	b.tellUntold(b.since)
	b.unpark()
	b.inbox.signal()
}

// down is told of a session that is over; err is nil where it will begin
// again at once.
func (b *broker) down(s *link, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session, b.connected, b.since = nil, false, time.Now()
	b.away.Store(true)
	switch {
	case err != nil:
		b.failure = err.Error()
		b.log.Warn("connection to the MQTT broker lost", "error", err)
		b.remember(problem{reason: "connection lost", detail: strings.TrimPrefix(b.failure, connectionLost)})
	case s.crowded:
		b.failure = "beginning the session again, to have sent again what there was no room for"
		b.log.Warn("connection to the MQTT broker closed by the hub", "reason", b.failure)
	case b.inbox.heldUp(s):
		b.failure = "beginning the session again, to have sent what was held up behind retained messages"
		b.log.Info("connection to the MQTT broker closed by the hub", "reason", b.failure)
	default:
		b.failure = "the hub stops"
	}
}

// crowded tells, once a session, that messages were left for want of room.
func (b *broker) crowded(s *link) {
	if s.crowded || !b.inbox.left(s) {
		return
	}
	s.crowded = true
	b.problem(problem{reason: "no room", detail: fmt.Sprintf("over %d bytes (max-pending-bytes) wait to be durable: what comes besides at QoS 1 is left to the broker, "+
		"and the hub begins the session again to have it sent when there is room; at QoS 0 it is lost", b.inbox.maxBytes)})
}

// failed is told of an attempt to connect, or of a session that ended.
func (b *broker) failed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure != err.Error() {
		b.log.Warn("not connected to the MQTT broker; trying again", "error", err)
	}
	b.failure = err.Error()
}

func (b *broker) odd(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problem(problem{reason: "connection", detail: err.Error()})
}

func (b *broker) refusedFilter(filter string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if filter == b.fenceTopic {
		b.fenceRefused = true
		return
	}
	b.problem(problem{reason: "subscription refused", topic: filter, detail: "the broker does not let the hub subscribe; see its access rules"})
}

// settleAll is the orderly end: what has come is appended, as far as there is
// room, and acknowledged when it is durable. Nothing more is taken.
func (b *broker) settleAll(s *link) {
	b.leaveAll(hubStopped)
	b.inbox.close()
	b.mu.Lock()
	b.gather.hurry = true
	b.mu.Unlock()
	deadline := time.After(stopTime)
	for {
		b.inbox.signal()
		select {
		case <-deadline:
			return
		case <-time.After(2 * time.Millisecond):
		}
		b.mu.Lock()
		left := len(b.queue)
		full := !b.retryAt.IsZero() && b.appended == 0
		b.mu.Unlock()
		count, _ := b.inbox.figures()
		if (count == 0 && left == 0 || full) && s.acked() && b.desk.idle() {
			return
		}
	}
}
