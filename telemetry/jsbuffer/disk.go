package jsbuffer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// messageBytes is what a message of a stream takes on disk besides its data:
// 30 bytes of record and the subject.
const messageBytes = 30 + len(Subject)

// measureInterval is how often the stream is measured while it is in use. Own
// writes and removals are counted in between; those of other nodes are not.
const measureInterval = time.Second

// driftAfter is how long a node under load counts without a settled measure.
const driftAfter = 10 * time.Second

// throttleFrom is the share of the buffer from which senders are asked to
// pause, first for minThrottle, then longer up to maxThrottle when it is full.
const (
	throttleFrom = 0.85
	minThrottle  = 100 * time.Millisecond
	maxThrottle  = 5 * time.Second
	// memoryThrottle is the longest pause for what waits for its fsync, while
	// the disk takes it.
	memoryThrottle = 200 * time.Millisecond
)

// disk is what is known of the stream without asking.
type disk struct {
	maxBytes int64
	wake     chan struct{} // 1: measure

	bytes  atomic.Int64
	chunks atomic.Int64
	oldest atomic.Int64  // Unix time in ns of the oldest chunk
	begun  atomic.Uint64 // own writes and removals
	ended  atomic.Uint64 // those of them that are counted, or have failed
	// settledAt is the Unix time in ns of the last measure without own
	// changes meanwhile.
	settledAt atomic.Int64

	mu    sync.Mutex
	freed chan struct{} // closed when a chunk is removed; nil: nobody waits
}

func (d *disk) init(maxBytes int64) {
	d.maxBytes = maxBytes
	d.wake = make(chan struct{}, 1)
}

// room in bytes, without what is in memory.
func (d *disk) room() int64 { return d.maxBytes - d.bytes.Load() }

// changing begins a write or a removal, which the caller ends with changed when
// it is counted, or has failed. In between a measure has it already, or not.
func (d *disk) changing() { d.begun.Add(1) }

func (d *disk) changed() { d.ended.Add(1) }

func (d *disk) added(data int) {
	d.bytes.Add(int64(data + messageBytes))
	if d.chunks.Add(1) == 1 {
		d.oldest.Store(time.Now().UnixNano())
		d.poke()
	}
}

func (d *disk) removed(data int) {
	d.bytes.Add(-int64(data + messageBytes))
	d.chunks.Add(-1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.freed != nil {
		close(d.freed)
		d.freed = nil
	}
}

// refused: the server says that it is full.
func (d *disk) refused() {
	d.bytes.Store(max(d.bytes.Load(), d.maxBytes))
	d.poke()
}

// drained is closed when a chunk has been removed, if err says full; else nil.
func (d *disk) drained(err error) <-chan struct{} {
	if !errors.Is(err, telemetry.ErrFull) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.freed == nil {
		d.freed = make(chan struct{})
	}
	return d.freed
}

// drifting: for so long there was no settled measure that an inexact one is
// better than counting on.
func (d *disk) drifting() bool {
	return time.Since(time.Unix(0, d.settledAt.Load())) > driftAfter
}

func (d *disk) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// keepMeasuring measures the stream every measureInterval while it holds
// chunks, and rests while it is empty.
func (b *Buffer) keepMeasuring() {
	ticker := time.NewTicker(measureInterval)
	defer ticker.Stop()
	settled := true
	for {
		if settled && b.disk.chunks.Load() <= 0 && b.disk.room() > 0 {
			ticker.Stop()
		}
		select {
		case <-b.ctx.Done():
			return
		case <-b.disk.wake:
			ticker.Reset(measureInterval)
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(b.ctx, writeTimeout)
		settled, _ = b.measure(ctx) // writing and fetching say what is wrong
		cancel()
	}
}

// measure asks the stream how much it holds. What this node changes at that
// moment may be in the answer or not: then it is not settled.
func (b *Buffer) measure(ctx context.Context) (settled bool, _ error) {
	for range 3 {
		ended := b.disk.ended.Load()
		begun := b.disk.begun.Load()
		stream, err := b.js.Stream(ctx, StreamName)
		if err != nil {
			return false, fmt.Errorf("measure the stream %s: %w", StreamName, err)
		}
		state := stream.CachedInfo().State
		if settled = begun == ended && b.disk.begun.Load() == begun; settled || b.disk.drifting() {
			b.disk.bytes.Store(int64(state.Bytes))
			b.disk.chunks.Store(int64(state.Msgs))
		}
		b.disk.oldest.Store(state.FirstTime.UnixNano())
		if settled {
			b.disk.settledAt.Store(time.Now().UnixNano())
			break
		}
	}
	return settled, nil
}

// Pressure implements telemetry.Buffer. It follows what this node does at
// once, and the rest of a cluster within a second, or ten under load. It costs
// no round trip.
func (b *Buffer) Pressure() telemetry.Pressure {
	memory, waiting := b.pending.usage()
	p := telemetry.Pressure{
		Bytes:    max(0, b.disk.bytes.Load()) + memory,
		MaxBytes: b.cfg.MaxBytes,
		Chunks:   max(0, b.disk.chunks.Load()) + int64(waiting),
	}
	if b.disk.chunks.Load() > 0 {
		p.Oldest = max(0, time.Since(time.Unix(0, b.disk.oldest.Load())))
	}
	used := float64(p.Bytes) / float64(p.MaxBytes)
	inMemory := throttle(float64(memory) / float64(b.cfg.MemoryBytes))
	if b.fault.Load() == nil {
		// It becomes room with the next fsyncs, not when the store is back.
		inMemory = min(inMemory, memoryThrottle)
	}
	p.Throttle = max(throttle(used), inMemory)
	return p
}

func throttle(used float64) time.Duration {
	if used < throttleFrom {
		return 0
	}
	share := min(1, (used-throttleFrom)/(1-throttleFrom))
	return minThrottle + time.Duration(share*float64(maxThrottle-minThrottle))
}
