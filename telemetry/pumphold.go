package telemetry

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// hold keeps everything from a store that has asked for a pause. Its zero
// value is ready.
type hold struct {
	mu    sync.Mutex
	until time.Time
}

// extend keeps everybody away for d from now on, or longer where that was
// asked for before. False: d asks for nothing.
func (h *hold) extend(d time.Duration) bool {
	if d <= 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if until := time.Now().Add(d); until.After(h.until) {
		h.until = until
	}
	return true
}

// wait returns nil when the pause is over, or ctx.Err().
func (h *hold) wait(ctx context.Context) error {
	for {
		h.mu.Lock()
		left := time.Until(h.until)
		h.mu.Unlock()
		if left <= 0 {
			return nil
		}
		if !pause(ctx, left) {
			return ctx.Err()
		}
	}
}

// A bound that the store has shown doubles after every boundFor without
// another word of it: it may have been raised, or was a mistake. Below
// leastBound it is not the size of batches that is at fault.
const (
	boundFor   = time.Minute
	leastBound = 1 << 10 // bytes of telemetry
)

// bound is the size of batches that the store takes, as far as it has said
// that one is too large. Its zero value is ready.
type bound struct {
	mu    sync.Mutex
	bytes int // of telemetry; 0: none is known
	until time.Time
}

// shrink makes batches at most n bytes. False: that is too few.
func (b *bound) shrink(n int) bool {
	if n < leastBound {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes == 0 || n < b.bytes {
		b.bytes = n
	}
	b.until = time.Now().Add(boundFor)
	return true
}

// now is the bound, at most most.
func (b *bound) now(most int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for now := time.Now(); b.bytes > 0 && now.After(b.until); b.until = b.until.Add(boundFor) {
		if b.bytes *= 2; b.bytes >= most {
			b.bytes = 0
		}
	}
	return cmp.Or(b.bytes, most)
}

// batchBytes bounds one write now.
func (p *Pump) batchBytes() int {
	return p.bound.now(p.cfg.BatchBytes)
}

// news wakes those who wait for the store to be back. Its zero value is
// ready.
type news struct {
	mu    sync.Mutex
	heard chan struct{} // closed by the next announce; nil: nobody waits
}

func (n *news) announce() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.heard != nil {
		close(n.heard)
		n.heard = nil
	}
}

func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.heard == nil {
		n.heard = make(chan struct{})
	}
	return n.heard
}

// rest waits for d, or until the store is back; false: ctx has ended.
func (p *Pump) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.back.next():
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
