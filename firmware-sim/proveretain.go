package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// What a hub keeps of each frame shows in no trend of a short run. So, when
// nothing breaks any more, the devices send as many frames as it takes, one
// row each, and what the hub's heap holds is compared between two moments at
// which it is the same to the hub otherwise: everything is stored, and garbage
// was collected.
const (
	retainFrames = 16_000           // of a burst, of all devices together
	retainBurst  = 15 * time.Second // that it takes at most
	retainFewest = 500              // frames of a burst that something can be said after
	retainPause  = 2 * time.Second  // after it: caches end
	retainRounds = 3                // a leak grows in each of them, a cache does not
	// retainNoise is by how much the heap of a hub that keeps nothing differs
	// between two such moments, at most.
	retainNoise = 3 << 20
)

// retention is what the hub has kept of each frame.
type retention struct {
	Frames   int64   `json:"frames"`
	PerFrame float64 `json:"bytes_per_frame"` // negative: it held less than before
	Limit    float64 `json:"limit"`           // above it the promise is broken: less than this would not be seen
}

// weighFrames measures what the hub keeps of a frame. nil: it cannot be
// measured here, or there were too few frames.
func (r *proof) weighFrames(ctx context.Context) (*retention, error) {
	if r.cfg.For < triesAll || !canMeasure {
		return nil, nil
	}
	r.say("sending %d frames and more, to see what the hub keeps of them", 2*retainFrames)
	var least *retention
	before := 0.0
	for round := range 1 + retainRounds { // the first one is for the caches
		frames, err := r.burst(ctx)
		if err != nil {
			return nil, err
		}
		now, err := r.liveHeap(ctx)
		if err != nil {
			return nil, fmt.Errorf("memory of the hub: %w", err)
		}
		if grown := now - before; round > 0 && frames >= retainFewest {
			x := retention{Frames: frames, PerFrame: grown / float64(frames), Limit: retainNoise / float64(frames)}
			if least == nil || x.PerFrame-x.Limit < least.PerFrame-least.Limit {
				least = &x
			}
			if x.PerFrame <= x.Limit {
				break
			}
		}
		before = now
	}
	return least, nil
}

// burst has every device send rows, each in a frame of its own, and returns
// how many when all are stored.
func (r *proof) burst(ctx context.Context) (frames int64, err error) {
	sending, cancel := context.WithTimeout(ctx, retainBurst)
	defer cancel()
	var begun, sent atomic.Int64
	var all sync.WaitGroup
	for _, d := range r.devices {
		all.Go(func() {
			for sending.Err() == nil && begun.Add(1) <= retainFrames {
				row, poison := d.measure()
				if d.sim.client().Publish(sending, row) != nil {
					return
				}
				d.ledger.published(poison)
				if d.sim.client().Flush(sending) != nil {
					return
				}
				sent.Add(1)
			}
		})
	}
	all.Wait()
	err = errors.Join(r.await(ctx, "devices have rows that are not acknowledged", r.unsettled), r.await(ctx, "chunks wait in the hub's buffer", func() (int, error) { return r.buffered(ctx) }))
	return sent.Load(), err
}

// liveHeap is what the hub's heap holds after a while of rest and a collection.
func (r *proof) liveHeap(ctx context.Context) (float64, error) {
	if !sleep(ctx, retainPause) {
		return 0, ctx.Err()
	}
	before, err := r.hub.metrics(ctx)
	if err != nil {
		return 0, err
	}
	if err := askToCollect(r.hub.cmd.Process.Pid); err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(collectTimeout); ; {
		m, err := r.hub.metrics(ctx)
		switch {
		case err == nil && m[collections] > before[collections]:
			return heapOf(m), nil
		case time.Now().After(deadline):
			return 0, errors.Join(errors.New("the hub does not collect its garbage"), err)
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return 0, ctx.Err()
		}
	}
}

// heapOf is what the last collection of a hub has found alive, in bytes: with
// GOGC=100 the next one is due at twice of it.
func heapOf(metrics map[string]float64) float64 { return metrics["go_memstats_next_gc_bytes"] / 2 }

// judgeRetained looks at what was measured.
func (r *proof) judgeRetained() {
	if x := r.verdict.Retained; x != nil && x.PerFrame > x.Limit {
		r.find(promiseMemory, "the hub's heap has kept %.0f bytes of each of %d frames, after a collection of garbage; that of a hub which keeps nothing differs by less than %.0f", x.PerFrame, x.Frames, x.Limit)
	}
}
