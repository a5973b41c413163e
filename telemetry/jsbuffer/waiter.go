package jsbuffer

import (
	"context"
	"sync/atomic"
)

// durableWaiter is the telemetry.Acker of one goroutine that waits.
type durableWaiter struct {
	seq     atomic.Uint64
	changed chan struct{} // 1
}

func (w *durableWaiter) Durable(seq uint64) {
	w.seq.Store(seq)
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *durableWaiter) wait(ctx context.Context, seq uint64) error {
	for w.seq.Load() < seq {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.changed:
		}
	}
	return nil
}
