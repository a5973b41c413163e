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

// boundFor is how long a bound of the store is kept to before a larger batch
// is tried again: it may have been raised.
const boundFor = 10 * time.Minute

// bound is the size of batches that the store takes, as far as it has said
// that one is too large. Its zero value is ready.
type bound struct {
	mu    sync.Mutex
	bytes int // of telemetry; 0: none is known
	until time.Time
}

// shrink makes batches at most n bytes.
func (b *bound) shrink(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes == 0 || n < b.bytes {
		b.bytes = max(n, 1)
	}
	b.until = time.Now().Add(boundFor)
}

// now is the bound; 0: none is known.
func (b *bound) now() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().After(b.until) {
		b.bytes = 0
	}
	return b.bytes
}

// batchBytes bounds one write now.
func (p *Pump) batchBytes() int {
	return min(p.cfg.BatchBytes, cmp.Or(p.bound.now(), p.cfg.BatchBytes))
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
