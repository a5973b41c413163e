package jsbuffer

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/telemetry"
)

// Bounds of what waits for the function of one Tail.
const (
	tailChunks = 1024
	tailBytes  = 16 << 20
)

// Tail calls f with the entries of every chunk that becomes durable on any
// node, until ctx or the Buffer ends; it returns why. f is called from this
// goroutine; the entries must not be changed, and may be kept. Where f is too
// slow, chunks are left out: missed is how many before this one. It shows what
// goes on, and is no way to get every reading.
func (b *Buffer) Tail(ctx context.Context, f func(entries []telemetry.Entry, missed uint64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.ctx, func() { cancel(telemetry.ErrClosed) })()
	sub, err := b.nc.SubscribeSync(LiveSubject)
	if err != nil {
		return fmt.Errorf("tail the telemetry: %w", err)
	}
	defer sub.Unsubscribe()
	if err := sub.SetPendingLimits(tailChunks, tailBytes); err != nil {
		return fmt.Errorf("tail the telemetry: %w", err)
	}
	var last uint64
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrSlowConsumer):
			continue // the gap in the sequence tells how much
		case err != nil:
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return fmt.Errorf("tail the telemetry: %w", err)
		}
		seq, err := strconv.ParseUint(msg.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			continue // not from the stream
		}
		var missed uint64
		if last != 0 && seq > last+1 {
			missed = seq - last - 1
			b.Stats.TailMissed.Add(missed)
		}
		last = seq
		if entries, err := decodeChunk(msg.Data); err == nil {
			f(entries, missed)
		}
	}
}
