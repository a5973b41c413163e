package telemetry

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How rows at fault are searched for.
const (
	// repairQueue hauls of repairBytes together may wait; the chunks of
	// further ones go back to the Source.
	repairQueue = 256
	repairBytes = 16 << 20
	// maxVigils hauls may wait for the quarantine, or for certainty.
	maxVigils = 4
	// A device is suspect for suspectFor after the last row of it that went
	// into quarantine; at most maxSuspects are.
	suspectFor  = 5 * time.Minute
	maxSuspects = 4096
)

// search is what is left of a haul when all rows that can be stored are.
type search struct {
	condemned []condemned
	doubtful  []Batch // single rows that fail with Retry while the store is well
}

// condemned is a row to be put into quarantine.
type condemned struct {
	row Batch
	why *refusal
}

// repairAll repairs one haul after the other, until ctx ends.
func (p *Pump) repairAll(ctx context.Context) {
	var vigils sync.WaitGroup
	defer vigils.Wait()
	slots := make(chan struct{}, maxVigils)
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-p.repairs:
			p.repairHeld.Add(-int64(h.bytes()))
			left, err := p.repair(ctx, h)
			if err != nil {
				continue // ctx has ended
			}
			if left == nil {
				p.finish(ctx, h)
				continue
			}
			select {
			case slots <- struct{}{}:
				vigils.Go(func() {
					defer func() { <-slots }()
					if p.conclude(ctx, left) == nil {
						p.finish(ctx, h)
					}
				})
			default:
				p.handBack(h)
			}
		}
	}
}

// repairLater has a haul repaired, or hands it back where too much waits.
func (p *Pump) repairLater(h *haul) {
	size := int64(h.bytes())
	if held := p.repairHeld.Add(size); held == size || held <= repairBytes {
		select {
		case p.repairs <- h:
			return
		default:
		}
	}
	p.repairHeld.Add(-size)
	p.handBack(h)
}

// handBack returns a haul to the buffer until later.
func (p *Pump) handBack(h *haul) {
	p.Stats.Released.Add(uint64(len(h.chunks)))
	p.leases.release(h.chunks, jitter(p.cfg.RepairLater))
}

// repair stores every row of h.repair that it can, and quarantines those that
// are at fault. It returns what cannot be done yet; nil: all is done. Rows of
// one device are put side by side, so that halving soon holds nothing but
// those at fault.
func (p *Pump) repair(ctx context.Context, h *haul) (*search, error) {
	p.Stats.Repairs.Add(1)
	slices.SortStableFunc(h.repair, func(a, b Entry) int { return cmp.Compare(a.Device, b.Device) })
	s := new(search)
	for _, b := range cut(h.repair, p.cfg.BatchRows, p.batchBytes()) {
		if err := p.settle(ctx, b, s); err != nil {
			return nil, err
		}
	}
	for i, c := range s.condemned {
		if err := p.quarantine(ctx, c); err != nil {
			s.condemned = s.condemned[i:]
			return s, ctx.Err()
		}
	}
	s.condemned = nil
	if len(s.doubtful) > 0 {
		return s, nil
	}
	return nil, nil
}

// settle stores b, or halves it until the rows at fault stand alone, and adds
// those to s. An error says that ctx has ended.
func (p *Pump) settle(ctx context.Context, b Batch, s *search) error {
	refused, err := p.try(ctx, b, partTries)
	switch {
	case err != nil || refused == nil:
		return err
	case b.Rows > 1:
		middle := b.middle()
		if err := p.settle(ctx, b.Slice(0, middle), s); err != nil {
			return err
		}
		return p.settle(ctx, b.Slice(middle, b.Rows), s)
	case refused.class == Retry:
		s.doubtful = append(s.doubtful, b)
	default:
		s.condemned = append(s.condemned, condemned{b, refused})
		p.suspect(b, refused)
	}
	return nil
}

// conclude waits for the quarantine to take rows, and for certainty about the
// doubtful ones. An error says that ctx has ended.
func (p *Pump) conclude(ctx context.Context, s *search) error {
	for _, b := range s.doubtful {
		refused, err := p.tryAlone(ctx, b)
		if err != nil {
			return err
		}
		if refused != nil {
			s.condemned = append(s.condemned, condemned{b, refused})
			p.suspect(b, refused)
		}
	}
	for _, c := range s.condemned {
		delay := p.cfg.FirstRetry
		for p.quarantine(ctx, c) != nil {
			if !pause(ctx, jitter(delay)) {
				return ctx.Err()
			}
			delay = min(delay*2, p.cfg.LastRetry)
		}
	}
	return nil
}

// suspect remembers the device of a condemned row.
func (p *Pump) suspect(row Batch, why *refusal) {
	device := strings.Clone(row.Entries[0].Device)
	if p.suspects.add(device) {
		p.log.Warn("store refuses rows of a device; they go into quarantine",
			"device", device, "store", p.cfg.Sink.Name(), "class", why.class, "reason", why.err)
	}
}

// quarantine makes one attempt.
func (p *Pump) quarantine(ctx context.Context, c condemned) error {
	err := p.cfg.Quarantine.Put(ctx, c.row, c.why.err.Error())
	if err == nil {
		p.Stats.Quarantined.Add(1)
	} else if ctx.Err() == nil {
		p.log.Error("quarantine takes no row; it stays in the buffer",
			"device", c.row.Entries[0].Device, "error", err)
	}
	return err
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
