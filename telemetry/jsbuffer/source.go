package jsbuffer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/telemetry"
)

// How chunks are fetched.
const (
	// maxLeased bounds the chunks that all pumps of a cluster hold together.
	// Those that a pump has handed back for later count too.
	maxLeased = 20000
	// askBytes bounds what one request brings, whatever its chunks are like.
	askBytes = 4 << 20
	// askFor is how long one request waits at the server; a request that is
	// lost with a node of a cluster costs so much.
	askFor       = 10 * time.Second
	askAgain     = 250 * time.Millisecond // after an error
	quarantineIn = 30 * time.Second       // tries again to quarantine a chunk
)

// Fetch implements telemetry.Source. It also returns telemetry.ErrClosed when
// the Buffer is closed. Chunks that cannot be decoded go into quarantine and
// are not returned.
func (b *Buffer) Fetch(ctx context.Context, max int) ([]telemetry.Chunk, error) {
	if b.ctx.Err() != nil {
		return nil, telemetry.ErrClosed // AfterFunc below would say so later
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.ctx, func() { cancel(telemetry.ErrClosed) })()
	select {
	case b.fetching <- struct{}{}:
		defer func() { <-b.fetching }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for ctx.Err() == nil {
		msgs, err := b.ask(ctx, max)
		if err != nil && ctx.Err() == nil {
			b.log.Warn("telemetry buffer does not hand out chunks", "error", err)
			b.reopen(ctx, err)
		}
		if chunks := b.decode(ctx, msgs); len(chunks) > 0 {
			return chunks, nil
		}
		if err == nil && len(msgs) == 0 && b.cfg.Sole && b.disk.chunks.Load() > 0 {
			if err := b.readmit(ctx); err != nil && ctx.Err() == nil {
				b.log.Warn("telemetry buffer holds chunks and hands out none", "error", err)
			}
		}
	}
	return nil, context.Cause(ctx)
}

// readmit hands out again what the consumer has behind it and the stream still
// holds. On a disk that takes no writes JetStream removes a message in memory
// alone, and has it back when it starts again; a work queue's consumer never
// looks at it then. Its rows are stored once more, over themselves.
func (b *Buffer) readmit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	consumer, err := b.js.Consumer(ctx, StreamName, ConsumerName)
	if err != nil {
		return fmt.Errorf("look at the consumer of the stream %s: %w", StreamName, err)
	}
	stream, err := b.js.Stream(ctx, StreamName)
	if err != nil {
		return fmt.Errorf("look at the stream %s: %w", StreamName, err)
	}
	info, state := consumer.CachedInfo(), stream.CachedInfo().State
	if info.NumPending > 0 || info.NumAckPending > 0 || state.Msgs == 0 || state.FirstSeq > info.AckFloor.Stream {
		return nil
	}
	b.log.Warn("chunks that were stored and not removed from the disk are handed out again", "chunks", state.Msgs)
	if err := b.endLeases(ctx); err != nil {
		return err
	}
	return b.makeStream(ctx)
}

// ask makes one request that ends with the first chunks there are, with
// nothing after askFor, or with ctx or the connection.
func (b *Buffer) ask(ctx context.Context, max int) ([]*nats.Msg, error) {
	ctx, release := b.link.until(ctx)
	defer release()
	inbox, err := b.nc.SubscribeSync(b.nc.NewInbox())
	if err != nil {
		return nil, err
	}
	defer inbox.Unsubscribe()
	// no_wait together with expires: wait until there is a message, then end
	// with the last one there is.
	request := `{"batch":` + strconv.Itoa(max) + `,"max_bytes":` + strconv.Itoa(askBytes) +
		`,"no_wait":true,"expires":` + strconv.FormatInt(int64(askFor), 10) + `}`
	if err := b.nc.PublishRequest(b.nextSubj, inbox.Subject, []byte(request)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askFor+2*time.Second)
	defer cancel()
	var msgs []*nats.Msg
	for len(msgs) < max {
		msg, err := inbox.NextMsgWithContext(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
				err = cause
			}
			return msgs, ignoreEnd(err)
		}
		if len(msg.Data) == 0 && msg.Header.Get("Status") != "" {
			return msgs, statusError(msg)
		}
		msgs = append(msgs, msg)
	}
	return msgs, nil
}

func ignoreEnd(err error) error {
	if errors.Is(err, errLinkLost) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// statusError is nil for the regular ends of a request: no more messages, no
// more within askBytes, or nothing for askFor.
func statusError(msg *nats.Msg) error {
	switch status := msg.Header.Get("Status"); status {
	case "404":
		return nil
	case "408":
		if msg.Header.Get("Description") == "Requests Pending" {
			return errOthersFirst
		}
		return nil
	case "409":
		if strings.Contains(msg.Header.Get("Description"), "MaxBytes") {
			return nil
		}
		return fmt.Errorf("request for chunks ended: %s", msg.Header.Get("Description"))
	case "503":
		return errNoConsumer
	default:
		return fmt.Errorf("request for chunks ended with status %s %s", status, msg.Header.Get("Description"))
	}
}

var (
	errOthersFirst = errors.New("other requests for chunks wait")
	errNoConsumer  = errors.New("the stream has no consumer, or jetstream is away")
)

// reopen waits a little, and makes the consumer anew where it is gone.
func (b *Buffer) reopen(ctx context.Context, err error) {
	timer := time.NewTimer(askAgain)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	if errors.Is(err, errOthersFirst) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := b.makeStream(ctx); err != nil && ctx.Err() == nil {
		b.log.Warn("telemetry buffer cannot be opened again", "error", err)
	}
}

func (b *Buffer) decode(ctx context.Context, msgs []*nats.Msg) []telemetry.Chunk {
	chunks := make([]telemetry.Chunk, 0, len(msgs))
	for _, msg := range msgs {
		c := &chunk{buffer: b, msg: msg, deliveries: 1}
		if meta, err := msg.Metadata(); err == nil {
			c.deliveries = int(meta.NumDelivered)
		}
		entries, err := decodeChunk(msg.Data)
		if err != nil {
			b.condemn(ctx, c, err)
			continue
		}
		c.entries = entries
		chunks = append(chunks, c)
	}
	return chunks
}

// condemn moves a chunk that cannot be decoded into quarantine.
func (b *Buffer) condemn(ctx context.Context, c *chunk, reason error) {
	err := b.cfg.Quarantine.putRaw(ctx, c.msg.Data, reason.Error())
	if err == nil {
		err = c.Done(ctx)
	}
	if err != nil {
		b.log.Error("chunk that cannot be decoded stays in the buffer", "reason", reason, "error", err)
		_ = c.Release(quarantineIn) // else its lease runs out
		return
	}
	b.Stats.Undecodable.Add(1)
	b.log.Error("chunk that cannot be decoded went into quarantine", "bytes", len(c.msg.Data), "reason", reason)
}

// chunk implements telemetry.Chunk.
type chunk struct {
	buffer     *Buffer
	msg        *nats.Msg
	entries    []telemetry.Entry
	deliveries int
}

func (c *chunk) Entries() []telemetry.Entry { return c.entries }

func (c *chunk) Deliveries() int { return c.deliveries }

func (c *chunk) Bytes() int { return len(c.msg.Data) }

// Done waits for the server's word. A crash at that moment may bring the
// chunk back; its rows are then stored again, over themselves.
func (c *chunk) Done(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	ctx, release := c.buffer.link.until(ctx)
	defer release()
	c.buffer.disk.changing()
	defer c.buffer.disk.changed()
	if err := c.msg.AckSync(nats.Context(ctx)); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("remove a stored chunk from the buffer: %w", err)
	}
	c.buffer.disk.removed(len(c.msg.Data))
	return nil
}

func (c *chunk) InProgress() error { return c.msg.InProgress() }

func (c *chunk) Release(delay time.Duration) error { return c.msg.NakWithDelay(delay) }
