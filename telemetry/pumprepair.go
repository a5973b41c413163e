package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How rows at fault are searched for.
const (
	// repairQueue hauls may wait; the chunks of further ones go back to the
	// buffer for repairLater.
	repairQueue = 4
	repairLater = 15 * time.Second
	// A device is suspect for suspectFor after the last row of it that went
	// into quarantine; at most maxSuspects are.
	suspectFor  = 5 * time.Minute
	maxSuspects = 4096
)

// repairAll repairs one haul after the other, until ctx ends.
func (p *Pump) repairAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-p.repairs:
			if p.repair(ctx, h) == nil {
				p.finish(ctx, h)
			}
		}
	}
}

// repair stores or quarantines every row of h.repair. Rows of one device are
// put side by side, so that halving soon holds nothing but those at fault.
func (p *Pump) repair(ctx context.Context, h *haul) error {
	p.Stats.Repairs.Add(1)
	slices.SortStableFunc(h.repair, func(a, b Entry) int { return cmp.Compare(a.Device, b.Device) })
	for _, b := range cut(h.repair, p.cfg.BatchRows, p.cfg.BatchBytes) {
		if err := p.settle(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// settle stores b, or halves it until the rows at fault stand alone, and
// quarantines those. An error says that ctx has ended.
func (p *Pump) settle(ctx context.Context, b Batch) error {
	tries := partTries
	if b.Rows == 1 {
		tries = stickyTries
	}
	refused, err := p.try(ctx, b, tries)
	if err != nil || refused == nil {
		return err
	}
	if b.Rows == 1 {
		return p.quarantine(ctx, b, refused)
	}
	middle := b.middle()
	if err := p.settle(ctx, b.Slice(0, middle)); err != nil {
		return err
	}
	return p.settle(ctx, b.Slice(middle, b.Rows))
}

// middle is the row to halve b at: where an entry ends, if one does between
// the first and the last quarter.
func (b Batch) middle() int {
	half := b.Rows / 2
	best, at := half, -b.Skip
	found := false
	for i := range b.Entries {
		at += b.Entries[i].Rows
		if at <= b.Rows/4 || at > b.Rows-b.Rows/4 || at >= b.Rows {
			continue
		}
		if !found || abs(at-half) < abs(best-half) {
			best, found = at, true
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// quarantine puts the one row of b there; it tries until it can.
func (p *Pump) quarantine(ctx context.Context, b Batch, refused *refusal) error {
	device := strings.Clone(b.Entries[0].Device)
	level := slog.LevelDebug
	if p.suspects.add(device) {
		level = slog.LevelWarn // the first of this device in a while
	}
	for delay := p.cfg.FirstRetry; ; delay = min(delay*2, p.cfg.LastRetry) {
		err := p.cfg.Quarantine.Put(ctx, b, refused.err.Error())
		if err == nil {
			p.Stats.Quarantined.Add(1)
			p.log.Log(ctx, level, "row went into quarantine", "device", device,
				"store", p.cfg.Sink.Name(), "class", refused.class, "reason", refused.err)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.log.Error("quarantine takes no row; it stays in the buffer", "device", device, "error", err)
		if !pause(ctx, jitter(delay)) {
			return ctx.Err()
		}
	}
}

// suspects are the devices of which a row went into quarantine lately. Its
// zero value is ready.
type suspects struct {
	count atomic.Int32

	mu    sync.Mutex
	until map[string]time.Time
}

func (s *suspects) any() bool { return s.count.Load() > 0 }

func (s *suspects) has(device string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[device]
	if ok && time.Now().After(until) {
		delete(s.until, device)
		s.count.Store(int32(len(s.until)))
		return false
	}
	return ok
}

// add makes device a suspect for suspectFor from now on; true: it was none.
func (s *suspects) add(device string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = make(map[string]time.Time)
	}
	now := time.Now()
	if len(s.until) >= maxSuspects {
		maps.DeleteFunc(s.until, func(_ string, until time.Time) bool { return now.After(until) })
	}
	until, known := s.until[device]
	if known || len(s.until) < maxSuspects {
		s.until[device] = now.Add(suspectFor)
	}
	s.count.Store(int32(len(s.until)))
	return !known || now.After(until)
}
