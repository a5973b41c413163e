package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults and limits of a PumpConfig.
const (
	DefaultBatchRows    = 5000
	DefaultBatchBytes   = 1 << 20
	DefaultWriters      = 2
	DefaultGather       = 200 * time.Millisecond
	DefaultWriteTimeout = 30 * time.Second
)

// fetchChunks is how many chunks one Fetch asks for at most. The Source
// bounds their bytes.
const fetchChunks = 256

// PumpConfig of a Pump.
type PumpConfig struct {
	Source     Source
	Sink       Sink
	Quarantine Quarantine
	Logger     *slog.Logger // nil: slog.Default()

	// BatchRows and BatchBytes (of encoded telemetry) bound one write; 0:
	// DefaultBatchRows, DefaultBatchBytes. One entry is always written whole
	// at first, even where it is larger.
	BatchRows  int
	BatchBytes int
	// Writers is how many batches are written at once; 0: DefaultWriters.
	Writers int
	// Gather is how far apart small writes begin: under a low load a row
	// waits no longer than this for company, and the first after a pause not
	// at all. 0: DefaultGather; negative: none.
	Gather time.Duration
	// WriteTimeout bounds one write; 0: DefaultWriteTimeout.
	WriteTimeout time.Duration

	// FirstRetry and LastRetry are the bounds of the pause before a batch is
	// offered again to a store that is away; it doubles each time. 0: 250 ms,
	// 30 s. SlowRetry is the pause where an operator has to act; 0: 15 s.
	FirstRetry, LastRetry, SlowRetry time.Duration
	// RepairLater is how long chunks with rows at fault go back into the
	// Source when too many wait already; 0: 15 s.
	RepairLater time.Duration

	// ObserveWrite hears of every write: how long it took, its rows, and its
	// error. It may be called by several goroutines at once; nil: nobody does.
	ObserveWrite func(took time.Duration, rows int, err error)
}

func (c *PumpConfig) complete() {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.BatchRows <= 0 {
		c.BatchRows = DefaultBatchRows
	}
	if c.BatchBytes <= 0 {
		c.BatchBytes = DefaultBatchBytes
	}
	if c.Writers <= 0 {
		c.Writers = DefaultWriters
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Gather, DefaultGather},
		{&c.WriteTimeout, DefaultWriteTimeout},
		{&c.FirstRetry, 250 * time.Millisecond},
		{&c.LastRetry, 30 * time.Second},
		{&c.SlowRetry, 15 * time.Second},
		{&c.RepairLater, 15 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}

// PumpStats count since NewPump. They may be read at any time.
type PumpStats struct {
	Rows        atomic.Uint64    // stored; a row that is stored again counts again
	Batches     atomic.Uint64    // stored
	Quarantined atomic.Uint64    // rows
	Errors      [4]atomic.Uint64 // failed writes, by Class
	Repairs     atomic.Uint64    // batches that were searched for rows at fault
	Released    atomic.Uint64    // chunks handed back because too many wait for repair
	LastStored  atomic.Int64     // Unix time in ns of the last stored batch; 0: none yet
}

// Pump carries rows from a Source to a Sink. What the Sink has stored, or the
// Quarantine has taken, leaves the Source; everything else stays.
//
// A store that is away or overloaded is waited for, with growing pauses, and
// nothing goes into quarantine for it. Rows that the store refuses are found
// by halving the batch, and go into quarantine one by one with the store's
// words. That is done on the side: other rows go on meanwhile, and devices
// whose rows were refused lately are written apart from the others.
type Pump struct {
	// Stats is for metrics.
	Stats PumpStats

	cfg        PumpConfig
	log        *slog.Logger
	leases     leases
	suspects   suspects
	repairs    chan *haul
	repairHeld atomic.Int64 // bytes of the hauls in repairs
	hold       hold
	bound      bound
	back       news

	trouble atomic.Pointer[trouble]
	warned  atomic.Bool // of a Misconfigured store
}

// trouble is why a write failed, and since when none has succeeded.
type trouble struct {
	err   error
	since time.Time
}

// NewPump makes a Pump; Run starts it.
func NewPump(cfg PumpConfig) *Pump {
	cfg.complete()
	return &Pump{cfg: cfg, log: cfg.Logger, repairs: make(chan *haul, repairQueue)}
}

// Health is the store's last error, while no write has succeeded since. It
// may be called at any time.
func (p *Pump) Health() error {
	t := p.trouble.Load()
	if t == nil {
		return nil
	}
	return fmt.Errorf("%s stores nothing since %s: %w", p.cfg.Sink.Name(), t.since.UTC().Format(time.RFC3339), t.err)
}

// Run pumps until ctx ends, and returns nil then; or until the Source fails
// for good, and returns its error. Chunks that are not stored yet are handed
// back. Run must not be called twice.
func (p *Pump) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	hauls := make(chan *haul)
	for range p.cfg.Writers {
		running.Go(func() { p.writeAll(ctx, hauls) })
	}
	running.Go(func() { p.repairAll(ctx) })
	running.Go(func() { p.leases.keep(ctx, p.log) })
	err := p.fetchAll(ctx, hauls)
	cancel()
	running.Wait()
	p.leases.releaseAll()
	return err
}

// fetchAll hands hauls to the writers until ctx ends.
func (p *Pump) fetchAll(ctx context.Context, hauls chan<- *haul) error {
	var last time.Time
	full := true
	for {
		if !full && !pause(ctx, p.cfg.Gather-time.Since(last)) {
			return nil
		}
		chunks, err := p.cfg.Source.Fetch(ctx, fetchChunks)
		if ctx.Err() != nil {
			p.leases.add(chunks)
			return nil
		}
		if err != nil {
			return fmt.Errorf("fetch telemetry to be stored: %w", err)
		}
		last = time.Now()
		p.leases.add(chunks)
		h := newHaul(chunks)
		full = len(chunks) == fetchChunks || h.rows >= p.cfg.BatchRows
		select {
		case hauls <- h:
		case <-ctx.Done():
			return nil
		}
	}
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter is d or up to a quarter less, so that nodes do not come back as one.
func jitter(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d - rand.N(d/4)
}

// finish takes the chunks of a haul, all of whose rows are stored or in
// quarantine, out of the Source.
func (p *Pump) finish(ctx context.Context, h *haul) {
	var running sync.WaitGroup
	slots := make(chan struct{}, finishAtOnce)
	for _, c := range h.chunks {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			err := c.Done(ctx)
			if err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
				// It comes again after its lease, and its rows over themselves.
				p.log.Warn("stored chunk was not removed from the buffer", "error", err)
			}
			if err == nil || ctx.Err() == nil {
				p.leases.remove(c)
			}
		})
	}
	running.Wait()
}

// finishAtOnce bounds how many chunks of a haul are removed at once.
const finishAtOnce = 16
