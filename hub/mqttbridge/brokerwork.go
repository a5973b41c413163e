package mqttbridge

import (
	"context"
	"time"
)

// work is the worker.
func (b *broker) work(ctx context.Context) {
	timer := time.NewTimer(tickInterval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.inbox.wake:
		case <-timer.C:
		}
		next := b.step(time.Now())
		timer.Reset(next)
	}
}

// step does what there is to do, and returns after how long to look again
// without a word.
func (b *broker) step(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.inbox.takeCalls() {
		f()
	}
	b.settle()
	more := false
	if b.room() {
		b.taken = b.inbox.takeMessages(b.taken[:0], turn)
		for i, a := range b.taken {
			b.decode(a)
			b.taken[i] = nil
		}
		if more = len(b.taken) == turn; more {
			b.inbox.signal()
		}
		if len(b.taken) > 0 {
			b.gather.heard = now
		}
	}
	b.offerRipe(now)
	if b.appended < len(b.queue) && b.gather.enough(now, more, b.inbox.full(), b.encoded) {
		b.drain(now)
		b.gather.appended = now
	}
	b.settle()
	b.conn.dialer.urgent.Store(b.awaitsAnswer())
	b.expire(now)
	b.takeTurns()
	if s := b.session; s != nil {
		b.crowded(s)
		if b.inbox.missed(s) {
			s.reset()
		}
	}
	if now.Sub(b.ticked) >= tickInterval {
		b.ticked = now
		b.tick(now)
	}
	return b.next(now)
}

// awaitsAnswer reports whether the next message may end a command.
func (b *broker) awaitsAnswer() bool {
	for _, p := range b.profiles {
		if len(p.waiting) > 0 {
			return true
		}
	}
	return false
}

// tick looks at what goes by the clock.
func (b *broker) tick(now time.Time) {
	if !b.connected && now.Sub(b.since) > lossGrace {
		b.leaveAllLocked(b.notReachable())
	}
	b.watchFence(now)
	if k := &b.backlog; !k.began.IsZero() && now.Sub(k.began) >= backlogTime {
		k.forget()
	}
	b.retryEnrolment(now)
	b.lookForSilence(now)
	b.lookForReturns(now)
	b.tellTime(now)
	b.saveDescriptions(now)
	b.lookAtEarly(now)
	b.tidyRemembered()
}

// next is how long there is nothing to do without a word.
func (b *broker) next(now time.Time) time.Duration {
	d := tickInterval
	switch {
	case !b.retryAt.IsZero():
		d = min(d, b.retryAt.Sub(now))
	case b.appended < len(b.queue) && b.gather.appended != now: // else it waits for something else
		d = min(d, b.gather.wait(now))
	}
	for _, when := range b.early.ripe {
		d = min(d, when.Sub(now))
	}
	if unripe := b.unripe(); unripe > 0 {
		d = min(d, unripe)
	}
	for _, p := range b.profiles {
		for _, w := range p.waiting {
			if at := w.due(); !at.IsZero() {
				d = min(d, at.Sub(now))
			}
		}
	}
	return max(d, time.Millisecond)
}
