// Package jsbuffer keeps acknowledged telemetry in JetStream until it is
// stored: telemetry.Buffer and telemetry.Source on one work-queue stream of
// the node or cluster, and telemetry.Quarantine on a second one.
//
// Appends are committed in groups: an entry is copied into the open chunk,
// a chunk is one JetStream message, and JetStream acknowledges a message when
// it has fsynced it. Then everyone who appended to the chunk hears of it. One
// chunk is in flight at a time, which keeps the order that cumulative
// acknowledgements rely on, and while it is, the next one fills. A chunk is
// sent at once when the last one is longer ago than Config.ChunkAge, so that
// a lone frame does not wait; under load chunks go that far apart, or as soon
// as they are full, so that one fsync and one message serve many frames.
//
// Chunks carry no message id: after a failed fsync a duplicate that JetStream
// recognises is answered from memory that may never reach the disk, whereas a
// second copy is written and synced anew, and storing rows twice is harmless.
package jsbuffer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/telemetry"
)

// Names in JetStream.
const (
	StreamName   = "TELEMETRY"
	Subject      = "tl.telemetry"
	LiveSubject  = "tl.live.telemetry" // chunks, again, as they become durable
	ConsumerName = "pump"
)

// Defaults and limits of a Config.
const (
	DefaultMaxBytes    = 1 << 30
	MinMaxBytes        = 1 << 20
	DefaultChunkBytes  = 256 << 10
	MinChunkBytes      = telemetry.MaxFrameBytes + 4<<10
	MaxChunkBytes      = 768 << 10 // a NATS message is at most 1 MiB
	DefaultChunkAge    = 5 * time.Millisecond
	DefaultMemoryBytes = 4 << 20
)

// openTimeout bounds the making of the streams; without a deadline the library
// gives up after 5 s, which a slow disk may take.
const openTimeout = 30 * time.Second

// Config of a Buffer.
type Config struct {
	// MaxBytes bounds what waits on disk; 0: DefaultMaxBytes; at least
	// MinMaxBytes. In a cluster each replica takes as much.
	MaxBytes int64
	// ChunkBytes is when a chunk is full; 0: DefaultChunkBytes; from
	// MinChunkBytes to MaxChunkBytes.
	ChunkBytes int
	// ChunkAge is how far apart chunks that are not full are sent; 0:
	// DefaultChunkAge; at most 1 s.
	ChunkAge time.Duration
	// MemoryBytes bounds what waits in memory for its fsync, that in flight
	// included; 0: DefaultMemoryBytes; at least two chunks.
	MemoryBytes int64
	Replicas    int // of the stream; 0: 1
	// Sole says that no other Buffer uses the stream, as on an embedded
	// server. What a process that was killed had fetched is then handed out
	// at once, not when its leases have run out, and leases are kept in memory
	// alone: Open ends them, and after a restart of the server below a running
	// Buffer a Chunk that is held is handed out again.
	Sole bool

	// Quarantine takes chunks that cannot be decoded. Required.
	Quarantine *Quarantine
	Logger     *slog.Logger // nil: slog.Default()
	// ObserveCommit hears how long each chunk took to become durable, from
	// its first entry on. Called from one goroutine; nil: nobody does.
	ObserveCommit func(time.Duration)
}

func (c *Config) complete() error {
	def(&c.MaxBytes, DefaultMaxBytes)
	def(&c.ChunkBytes, DefaultChunkBytes)
	def(&c.ChunkAge, DefaultChunkAge)
	def(&c.MemoryBytes, DefaultMemoryBytes)
	def(&c.Replicas, 1)
	def(&c.Logger, slog.Default())
	switch {
	case c.MaxBytes < MinMaxBytes:
		return fmt.Errorf("telemetry buffer: max bytes is %d; it must be at least %d", c.MaxBytes, MinMaxBytes)
	case c.ChunkBytes < MinChunkBytes || c.ChunkBytes > MaxChunkBytes:
		return fmt.Errorf("telemetry buffer: chunk bytes is %d; it must be from %d to %d", c.ChunkBytes, MinChunkBytes, MaxChunkBytes)
	case c.ChunkAge < 0 || c.ChunkAge > time.Second:
		return fmt.Errorf("telemetry buffer: chunk age is %s; it must be from 0 to 1s", c.ChunkAge)
	case c.MemoryBytes < 2*int64(c.ChunkBytes):
		return fmt.Errorf("telemetry buffer: memory bytes is %d; it must be at least two chunks of %d", c.MemoryBytes, c.ChunkBytes)
	case c.Quarantine == nil:
		return errors.New("telemetry buffer: a quarantine is required")
	}
	return nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Stats count since the Buffer was opened. They may be read at any time.
type Stats struct {
	Entries     atomic.Uint64 // made durable
	Rows        atomic.Uint64 // made durable
	Chunks      atomic.Uint64 // made durable
	Bytes       atomic.Uint64 // made durable
	Failures    atomic.Uint64 // attempts to write a chunk that failed
	Refused     atomic.Uint64 // Appends answered with ErrFull
	Undecodable atomic.Uint64 // chunks put into quarantine as they were
	TailMissed  atomic.Uint64 // chunks that a Tail was too slow for
}

// Buffer implements telemetry.Buffer and telemetry.Source. All methods may
// run at once.
type Buffer struct {
	// Stats is for metrics.
	Stats Stats

	// Set once.
	cfg      Config
	log      *slog.Logger
	nc       *nats.Conn
	js       jetstream.JetStream
	nextSubj string // where chunks are asked for
	pending  pending
	disk     disk
	link     link
	fetching chan struct{} // 1: held by the one Fetch that asks the server

	fault     atomic.Pointer[fault] // why writing fails now; nil: it does not
	closeOnce sync.Once
	closeErr  error
	cancel    context.CancelCauseFunc // of everything below
	ctx       context.Context
	running   sync.WaitGroup
}

var (
	_ telemetry.Buffer = (*Buffer)(nil)
	_ telemetry.Source = (*Buffer)(nil)
)

// Open makes the stream and its consumer, or takes over what is there, and
// starts the Buffer. nc must be the connection of js. ctx bounds Open alone.
func Open(ctx context.Context, js jetstream.JetStream, nc *nats.Conn, cfg Config) (*Buffer, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	b := &Buffer{cfg: cfg, log: cfg.Logger, nc: nc, js: js, fetching: make(chan struct{}, 1)}
	b.nextSubj = apiPrefix(js) + "CONSUMER.MSG.NEXT." + StreamName + "." + ConsumerName
	b.pending.init(cfg)
	b.disk.init(cfg.MaxBytes)
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if cfg.Sole {
		if err := b.endLeases(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.makeStream(ctx); err != nil {
		return nil, err
	}
	if _, err := b.measure(ctx); err != nil {
		return nil, err
	}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	b.link.init(nc)
	b.running.Go(b.link.watch)
	b.running.Go(b.keepMeasuring)
	b.running.Go(b.commit)
	return b, nil
}

func apiPrefix(js jetstream.JetStream) string {
	options := js.Options()
	switch {
	case options.APIPrefix != "":
		if options.APIPrefix[len(options.APIPrefix)-1] != '.' {
			return options.APIPrefix + "."
		}
		return options.APIPrefix
	case options.Domain != "":
		return "$JS." + options.Domain + ".API."
	}
	return jetstream.DefaultAPIPrefix
}

// makeStream makes the stream and the consumer, or brings them up to date.
func (b *Buffer) makeStream(ctx context.Context) error {
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        StreamName,
		Description: "Acknowledged telemetry that is not stored yet",
		Subjects:    []string{Subject},
		Retention:   jetstream.WorkQueuePolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    b.cfg.MaxBytes,
		Storage:     jetstream.FileStorage,
		Replicas:    b.cfg.Replicas,
		RePublish:   &jetstream.RePublish{Source: Subject, Destination: LiveSubject},
	})
	if err != nil {
		return fmt.Errorf("make the stream %s: %w", StreamName, err)
	}
	_, err = b.js.CreateOrUpdateConsumer(ctx, StreamName, jetstream.ConsumerConfig{
		Durable:       ConsumerName,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       telemetry.ChunkLease,
		MaxDeliver:    -1,
		MaxAckPending: maxLeased,
		MemoryStorage: b.cfg.Sole,
	})
	if err != nil {
		return fmt.Errorf("make the consumer %s of the stream %s: %w", ConsumerName, StreamName, err)
	}
	return nil
}

// endLeases deletes the consumer, and with it what it knows of chunks that
// were fetched and are not done. makeStream makes it anew.
func (b *Buffer) endLeases(ctx context.Context) error {
	err := b.js.DeleteConsumer(ctx, StreamName, ConsumerName)
	if err == nil || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return fmt.Errorf("end the leases of the stream %s: %w", StreamName, err)
}

// Health is an error while chunks cannot be written. It wraps
// telemetry.ErrFull where the buffer is full and the disk is not at fault.
func (b *Buffer) Health() error {
	if f := b.fault.Load(); f != nil {
		return fmt.Errorf("telemetry buffer cannot be written since %s: %w", f.since.UTC().Format(time.RFC3339), f.err)
	}
	return nil
}

// Close takes no more entries, writes what it has taken, tells the Ackers,
// and stops everything, running Fetches too. When ctx ends first, what is not
// durable yet is given up, unacknowledged, and Close returns an error. What
// does not fit on the disk is given up at once, unacknowledged, which is no
// error. Calling Close again returns the same.
func (b *Buffer) Close(ctx context.Context) error {
	b.closeOnce.Do(func() {
		b.pending.close()
		select {
		case <-b.pending.flushed:
		case <-ctx.Done():
			b.closeErr = fmt.Errorf("close the telemetry buffer: not everything became durable: %w", ctx.Err())
		}
		b.cancel(telemetry.ErrClosed)
		b.link.close()
		b.running.Wait()
	})
	return b.closeErr
}
