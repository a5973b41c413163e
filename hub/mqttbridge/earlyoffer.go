package mqttbridge

import (
	"slices"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// describes takes note of what a profile has learned.
func (b *broker) describes(p *bound, now time.Time) {
	if p.describing == nil {
		return
	}
	for _, key := range p.describing.Described() {
		at := earlyKey{p, key}
		if _, ripens := b.early.ripe[at]; !ripens && len(b.early.waiting[at]) > 0 {
			b.early.ripe[at] = now.Add(earlyPause)
		}
	}
}

// offerRipe offers what has been described, as far as there is room.
func (b *broker) offerRipe(now time.Time) {
	e := &b.early
	for at, when := range e.ripe {
		if now.Before(when) {
			continue
		}
		delete(e.ripe, at)
		left := e.waiting[at][:0]
		for _, h := range e.waiting[at] {
			if h.offered { // and more was told since
				e.ripe[at] = now.Add(earlyPause)
			} else {
				e.offers = append(e.offers, h)
				h.offered, h.listed = true, h.shared
			}
			if h.listed {
				left = append(left, h)
			}
		}
		if clear(e.waiting[at][len(left):]); len(left) == 0 {
			delete(e.waiting, at)
		} else {
			e.waiting[at] = left
		}
	}
	n := 0
	for ; n < len(e.offers) && n < turn && b.room(); n++ {
		b.offer(e.offers[n], true)
	}
	if e.offers = e.offers[n:]; len(e.offers) == 0 {
		e.offers = nil
	} else if b.room() {
		b.inbox.signal()
	}
}

// offer a message to its profile: again, or as it was the first time.
func (b *broker) offer(h *earlyMessage, again bool) {
	h.offered = true
	a := &arrival{topic: h.topic, payload: h.payload, received: time.Unix(0, h.at), first: h.at, early: h}
	m := profile.Message{Topic: h.topic, Payload: h.payload, Received: a.received, Early: again, Held: true, Note: h.note}
	b.queue = append(b.queue, a)
	b.take(a, h.bound, m)
}

// earlySettled: the rows of a message that waited are durable, or it has none.
func (b *broker) earlySettled(a *arrival) {
	e, h := &b.early, a.early
	switch {
	case a.waits:
	case h.shared:
		h.stored = true
		e.wait(h, h.key)
	default:
		e.forget(h)
	}
}

// forget a message that is in no list.
func (e *early) forget(h *earlyMessage) {
	delete(e.known, earlyArrival{h.at, h.hash})
	if e.hashes[h.hash]--; e.hashes[h.hash] == 0 {
		delete(e.hashes, h.hash)
	}
	e.bytes -= h.bytes()
	e.journal.done(&h.earlyRecord)
}

// drop those that wait and of which f is true.
func (e *early) drop(f func(h *earlyMessage) bool) {
	for at, all := range e.waiting {
		if _, ripens := e.ripe[at]; ripens {
			continue
		}
		left := slices.DeleteFunc(all, func(h *earlyMessage) bool {
			gone := !h.offered && f(h)
			if gone {
				e.forget(h)
			}
			return gone
		})
		if e.waiting[at] = left; len(left) == 0 {
			delete(e.waiting, at)
		}
	}
}

// forgetStored makes room of what is durable and waits for more.
func (e *early) forgetStored(size, room int) bool {
	e.drop(func(h *earlyMessage) bool { return h.stored })
	return e.bytes+size <= room
}
