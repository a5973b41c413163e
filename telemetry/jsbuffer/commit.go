package jsbuffer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/telemetry"
)

// How a chunk is written.
const (
	writeTimeout = 10 * time.Second // one attempt; a stalled disk may take long
	firstRetry   = 50 * time.Millisecond
	lastRetry    = 2 * time.Second
)

// fault is why writing fails, and since when.
type fault struct {
	err   error
	since time.Time
}

// commit writes one group after the other and tells their Ackers, until
// everything is written after close, or b.ctx ends.
func (b *Buffer) commit() {
	defer close(b.pending.flushed)
	highest := make(map[telemetry.Acker]struct{})
	var started time.Time
	for {
		g := b.pending.next(started.Add(b.cfg.ChunkAge))
		if g == nil {
			return
		}
		started = time.Now()
		if !b.write(g.data) {
			return
		}
		b.count(g)
		acknowledge(g.acks, highest)
		b.pending.done(g)
	}
}

func (b *Buffer) count(g *group) {
	b.Stats.Entries.Add(uint64(g.entries))
	b.Stats.Rows.Add(uint64(g.rows))
	b.Stats.Chunks.Add(1)
	b.Stats.Bytes.Add(uint64(len(g.data)))
	if b.cfg.ObserveCommit != nil {
		b.cfg.ObserveCommit(time.Since(g.opened))
	}
}

// acknowledge calls Durable once for each Acker, with its last seq. seen is
// an empty map for its use.
func acknowledge(acks []ack, seen map[telemetry.Acker]struct{}) {
	if len(acks) == 1 {
		acks[0].to.Durable(acks[0].seq)
		return
	}
	for i := len(acks) - 1; i >= 0; i-- {
		if _, later := seen[acks[i].to]; later {
			acks[i].to = nil
			continue
		}
		seen[acks[i].to] = struct{}{}
	}
	clear(seen)
	for _, a := range acks {
		if a.to != nil {
			a.to.Durable(a.seq)
		}
	}
}

// write tries until data is durable; false: b.ctx has ended first, or the
// Buffer is full and closing.
func (b *Buffer) write(data []byte) bool {
	delay := firstRetry
	for {
		b.disk.changing()
		err := b.publish(data)
		if err == nil {
			b.disk.added(len(data))
		}
		b.disk.changed()
		if err == nil {
			if b.fault.Swap(nil) != nil {
				b.log.Info("telemetry buffer is written again")
			}
			return true
		}
		b.failed(err)
		if errors.Is(err, telemetry.ErrFull) && b.pending.ending() {
			// Room could come from a Pump alone, which is gone by now.
			b.log.Warn("stopped with a full telemetry buffer; devices keep what was not acknowledged")
			return false
		}
		timer := time.NewTimer(delay + rand.N(delay/4))
		select {
		case <-b.ctx.Done():
			timer.Stop()
			return false
		case <-b.disk.drained(err):
			timer.Stop()
			delay = firstRetry
		case <-timer.C:
			delay = min(delay*2, lastRetry)
		}
	}
}

func (b *Buffer) failed(err error) {
	b.Stats.Failures.Add(1)
	f := fault{err: err, since: time.Now()}
	if before := b.fault.Load(); before != nil {
		f.since = before.since
	} else if b.ctx.Err() == nil {
		b.log.Error("telemetry buffer cannot be written; nothing is acknowledged", "error", err)
	}
	b.fault.Store(&f)
	if errors.Is(err, telemetry.ErrFull) {
		b.disk.refused()
	}
}

// publish makes one attempt.
func (b *Buffer) publish(data []byte) error {
	ctx, cancel := context.WithTimeout(b.ctx, writeTimeout)
	defer cancel()
	ctx, release := b.link.until(ctx)
	defer release()
	ack, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: Subject, Data: data})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		if isFull(err) {
			return fmt.Errorf("%w: stream %s: %w", telemetry.ErrFull, StreamName, err)
		}
		return fmt.Errorf("write a chunk: %w", err)
	}
	if ack.Stream != StreamName {
		return fmt.Errorf("the subject %s belongs to the stream %s instead of %s: remove that stream", Subject, ack.Stream, StreamName)
	}
	return nil
}

// Codes of JetStream that say that a message does not fit: into the stream,
// the account's share, or the server's store.
const (
	codeStoreFailed      jetstream.ErrorCode = 10077
	codeAccountResources jetstream.ErrorCode = 10002
	codeNoResources      jetstream.ErrorCode = 10023
	codeStorageResources jetstream.ErrorCode = 10047
)

func isFull(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case codeStoreFailed, codeAccountResources, codeNoResources, codeStorageResources:
		return true
	}
	return false
}
