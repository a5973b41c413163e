package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Pauses between attempts to watch again; the time that the making of a watch
// may take, and the time in which a copy that is not complete has to go on. A
// cluster may give the watch to a server that has just died, which then never
// answers.
const (
	minWatchPause = 100 * time.Millisecond
	maxWatchPause = 5 * time.Second
	watchTimeout  = 5 * time.Second
	copyTimeout   = 10 * time.Second
)

// run watches until ctx ends. A watch that breaks is begun again with a fresh
// copy, so that nothing is missed.
func (m *mirror) run(ctx context.Context) {
	pause := minWatchPause
	for first := true; ; first = false {
		err := m.watch(ctx, first, func() { pause = minWatchPause })
		if ctx.Err() != nil {
			m.close()
			return
		}
		m.setBroken(err)
		m.logger.Warn("watch of the registry broke; watching again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxWatchPause)
	}
}

// watch applies changes until the watch breaks or ctx ends.
func (m *mirror) watch(ctx context.Context, first bool, healthy func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer m.deafen()
	var before []string // keys to be missed if the copy lacks them
	if !first {
		before = m.owner.keys()
	}
	known := m.revision()
	state, err := m.state(ctx)
	if err != nil {
		return err
	}
	if m.replaced(state, known) {
		m.restart()
	}
	m.setCreated(state.created)
	w, err := m.open(ctx, cancel)
	if err != nil {
		return err
	}
	// The end of ctx ends the subscription; its last callback may still be
	// waiting for room in the channel.
	defer func() {
		cancel()
		for range w.Updates() {
		}
	}()
	seen := make(map[string]struct{}, len(before))
	// The library counts values to know when all have come: where keys change
	// meanwhile it says so too early, and a device that is still to come
	// would be taken for deleted and turned away for good. So the copy is
	// complete when nothing more is pending.
	marked, complete, pending := false, false, uint64(0)
	stalled := time.NewTimer(copyTimeout)
	defer stalled.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-stalled.C:
			return errors.New("the copy of the bucket does not go on")
		case <-m.lost:
			return errors.New("changes that were made do not come")
		case entry, ok := <-w.Updates():
			if !ok {
				return errors.New("the subscription was closed")
			}
			if entry == nil {
				marked = true
			} else {
				m.takeEntry(entry)
				pending = entry.Delta()
				if !complete && !first {
					seen[entry.Key()] = struct{}{}
				}
			}
			if complete {
				continue
			}
			if !marked || pending > 0 {
				stalled.Reset(copyTimeout)
				continue
			}
			stalled.Stop()
			if err := m.copied(ctx, state.last, before, seen); err != nil {
				return err
			}
			complete, before, seen = true, nil, nil
			healthy()
		}
	}
}

// open begins a watch. Where no server makes one in time, it ends ctx.
func (m *mirror) open(ctx context.Context, cancel func()) (jetstream.KeyWatcher, error) {
	late := time.AfterFunc(watchTimeout, cancel)
	w, err := m.kv.WatchAll(ctx)
	inTime := late.Stop()
	switch {
	case err != nil && !inTime:
		return nil, fmt.Errorf("watch: no server has begun one within %v: %w", watchTimeout, err)
	case err != nil:
		return nil, fmt.Errorf("watch: %w", err)
	}
	select { // what the watch before it was given up for
	case <-m.lost:
	default:
	}
	return w, nil
}

func (m *mirror) takeEntry(entry jetstream.KeyValueEntry) {
	c := change{key: entry.Key(), value: entry.Value(), revision: entry.Revision()}
	if entry.Operation() != jetstream.KeyValuePut {
		c.value = nil
	}
	m.take(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.brought, m.heard = max(m.brought, c.revision), time.Now()
}

// copied ends a copy of the whole bucket. last is the revision that the bucket
// had before; it may have been purged since, and then no watch ever brings it.
// The server that the watch is on may be behind, so the leader is asked for the
// rest; and for each of the keys before that the copy has not brought: a
// device that is taken for deleted is turned away for good.
func (m *mirror) copied(ctx context.Context, last uint64, before []string, seen map[string]struct{}) error {
	if m.revision() < last {
		if _, err := m.readOn(ctx); err != nil {
			return err
		}
	}
	for _, key := range before {
		if _, ok := seen[key]; ok {
			continue
		}
		if err := m.recheck(ctx, key); err != nil {
			return err
		}
	}
	m.taking.Lock()
	m.advance(max(last, m.revision()))
	m.owner.loaded()
	m.taking.Unlock()
	m.mu.Lock()
	m.listening, m.brought, m.heard, m.broken = true, m.applied, time.Now(), nil
	m.mu.Unlock()
	select {
	case <-m.synced:
	default:
		close(m.synced)
	}
	return nil
}

// recheck takes a key from the owner that the leader has nothing of: it was
// purged. What the leader does have the owner has too, or it comes in its turn.
// Nothing is handed to the owner meanwhile: it would be newer.
func (m *mirror) recheck(ctx context.Context, key string) error {
	m.taking.Lock()
	defer m.taking.Unlock()
	_, err := m.newest(ctx, key)
	switch {
	case errors.Is(err, errNoChange):
		m.owner.apply(key, nil, 0)
	case err != nil:
		return fmt.Errorf("read key %s: %w", key, err)
	}
	return nil
}

// watchAgain begins the watch again, unless it does bring changes, or is being
// begun.
func (m *mirror) watchAgain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.listening || time.Since(m.heard) < lostAfter {
		return
	}
	m.heard = time.Now()
	select {
	case m.lost <- struct{}{}:
	default:
	}
}

func (m *mirror) deafen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listening = false
}

// replaced reports whether the bucket is not the one that was followed up to
// the revision known, but another, or an older one that was put back.
func (m *mirror) replaced(s streamState, known uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.created.IsZero() && (!s.created.Equal(m.created) || s.last < known)
}

func (m *mirror) setCreated(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.created = at
}

// restart takes every revision for new: they are those of another bucket.
func (m *mirror) restart() {
	m.taking.Lock()
	defer m.taking.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied, m.told, m.brought, m.missed = 0, 0, 0, 0
}
