package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// stickyTries is how often a batch fails with Retry, while the store says
// that it is well, before the batch itself is suspected: some servers answer
// 500 to a row that they cannot take. Parts of a refused batch need partTries.
const (
	stickyTries = 5
	partTries   = 2
)

// maxRetryAfter bounds the pause that a store may ask for.
const maxRetryAfter = 5 * time.Minute

// checkTimeout bounds one Check of the store.
const checkTimeout = 10 * time.Second

// refusal says that a batch cannot be stored as it is.
type refusal struct {
	err   error
	class Class
}

// writeAll stores hauls until ctx ends.
func (p *Pump) writeAll(ctx context.Context, hauls <-chan *haul) {
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-hauls:
			p.write(ctx, h)
		}
	}
}

// write stores a haul, except for batches that the store refuses and entries
// of suspects, which it hands over to be repaired.
func (p *Pump) write(ctx context.Context, h *haul) {
	batches := cut(h.clean(&p.suspects), p.cfg.BatchRows, p.batchBytes())
	for len(batches) > 0 {
		b := batches[0]
		batches = batches[1:]
		refused, err := p.try(ctx, b, stickyTries)
		switch {
		case err != nil:
			return // ctx has ended
		case refused == nil:
		case refused.class == TooLarge && len(b.Entries) > 1 && p.bound.shrink(b.bytes()/2):
			batches = slices.Concat(cut(b.Entries, p.cfg.BatchRows, p.batchBytes()), batches)
		default:
			h.repair = append(h.repair, b.Entries...)
		}
	}
	if len(h.repair) == 0 {
		p.finish(ctx, h)
		return
	}
	p.repairLater(h)
}

// try writes b until it is stored (nil, nil) or refused, or ctx ends (error).
// A batch is also refused that has failed with Retry so many times in a row
// while the store was well.
func (p *Pump) try(ctx context.Context, b Batch, tries int) (*refusal, error) {
	return p.tryUntil(ctx, b, tries, func(error) bool { return true })
}

// tryAlone is try for a single row that fails with Retry. Before it is
// refused, others have to be stored between its failures, again and again, so
// that a store that is away is never taken for a row at fault.
func (p *Pump) tryAlone(ctx context.Context, b Batch) (*refusal, error) {
	stored := p.Stats.Batches.Load()
	return p.tryUntil(ctx, b, stickyTries, func(err error) bool {
		before := stored
		stored = p.Stats.Batches.Load()
		return stored > before && !overload(err)
	})
}

// tryUntil is try, with counts to say which failures do.
func (p *Pump) tryUntil(ctx context.Context, b Batch, tries int, counts func(error) bool) (*refusal, error) {
	delay, failures := p.cfg.FirstRetry, 0
	for {
		err := p.attempt(ctx, b)
		if err == nil {
			return nil, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		class := ClassOf(err)
		p.failed(b, class, err)
		wait := delay
		switch {
		case class == BadRows || class == TooLarge:
			return &refusal{err, class}, nil
		case p.hold.extend(retryAfter(err)):
			failures = 0 // the store is busy and says so: no row is at fault
		case class == Misconfigured:
			p.complain(err)
			failures = 0
			wait = p.cfg.SlowRetry
		case !p.check(ctx):
			failures = 0
		case counts(err):
			failures++
		}
		if failures >= tries {
			return &refusal{fmt.Errorf("refused %d times while the store was well: %w", failures, err), Retry}, nil
		}
		sleep := pause
		if failures == 0 {
			sleep = p.rest // it is the store's fault alone
		}
		if !sleep(ctx, jitter(wait)) {
			return nil, ctx.Err()
		}
		delay = min(delay*2, p.cfg.LastRetry)
	}
}

// attempt makes one write.
func (p *Pump) attempt(ctx context.Context, b Batch) error {
	if b.Rows == 0 {
		return nil
	}
	if err := p.hold.wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.WriteTimeout)
	defer cancel()
	started := time.Now()
	err := p.cfg.Sink.Write(ctx, b)
	if p.cfg.ObserveWrite != nil {
		p.cfg.ObserveWrite(time.Since(started), b.Rows, err)
	}
	if err != nil {
		return err
	}
	p.Stats.Rows.Add(uint64(b.Rows))
	p.Stats.Batches.Add(1)
	p.Stats.LastStored.Store(time.Now().UnixNano())
	if p.trouble.Load() != nil && p.trouble.Swap(nil) != nil {
		p.warned.Store(false)
		p.back.announce()
		p.log.Info("store takes rows again", "store", p.cfg.Sink.Name())
	}
	return nil
}

func (p *Pump) failed(b Batch, class Class, err error) {
	if int(class) < len(p.Stats.Errors) {
		p.Stats.Errors[class].Add(1)
	}
	if class == BadRows || class == TooLarge {
		return // the store answers
	}
	now := &trouble{err: err, since: time.Now()}
	if before := p.trouble.Load(); before != nil {
		now.since = before.since
		p.trouble.Store(now)
		return
	}
	p.trouble.Store(now)
	p.log.Warn("store does not take rows; they are kept and offered again",
		"store", p.cfg.Sink.Name(), "class", class, "rows", b.Rows, "error", err)
}

// complain says once that an operator has to act.
func (p *Pump) complain(err error) {
	if p.warned.CompareAndSwap(false, true) {
		p.log.Error("store refuses everything until its settings are right; check its address, token, organisation and bucket",
			"store", p.cfg.Sink.Name(), "error", err)
	}
}

func (p *Pump) check(ctx context.Context) bool {
	if p.hold.wait(ctx) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return p.cfg.Sink.Check(ctx) == nil
}

// overload says that no row is to blame, however often it fails.
func overload(err error) bool {
	var se *SinkError
	return errors.As(err, &se) && (se.Status == 429 || se.Status == 503 || se.RetryAfter > 0)
}

func retryAfter(err error) time.Duration {
	var se *SinkError
	if errors.As(err, &se) {
		return min(se.RetryAfter, maxRetryAfter)
	}
	return 0
}
