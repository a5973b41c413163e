package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// mirror keeps a copy of one KV bucket up to date. There is one writer, the
// goroutine of run: it hands every change to the owner in the order of the
// bucket, and wakes those who wait for their own.
type mirror struct {
	kv     jetstream.KeyValue
	owner  mirrored
	logger *slog.Logger

	synced chan struct{} // closed once the first copy is complete
	lost   chan struct{} // asks for a new watch

	mu      sync.Mutex
	applied uint64    // revision of the bucket that the owner has seen
	heard   time.Time // when that was
	waiting []waiter
	broken  error // why the watch is down; nil while it is up
	closed  bool
}

// mirrored is what a mirror writes to, from one goroutine.
type mirrored interface {
	// apply takes a key's new value; nil: the key is gone.
	apply(key string, value []byte, revision uint64)
	// loaded says that the copy of the whole bucket is complete.
	loaded()
	// keys that the owner holds.
	keys() []string
}

type waiter struct {
	revision uint64
	done     chan error
}

// Pauses between attempts to watch again.
const (
	minWatchPause = 100 * time.Millisecond
	maxWatchPause = 5 * time.Second
	statusTimeout = 5 * time.Second
)

// lostAfter is how long a writer waits for its own change before the watch is
// taken for dead. A server that was restarted forgets the watch, and the
// client notices that by itself only after missed heartbeats.
const lostAfter = time.Second

func newMirror(kv jetstream.KeyValue, owner mirrored, logger *slog.Logger) *mirror {
	return &mirror{
		kv: kv, owner: owner, synced: make(chan struct{}), lost: make(chan struct{}, 1),
		logger: logger.With("bucket", kv.Bucket()),
	}
}

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
	last, err := m.lastRevision(ctx)
	if err != nil {
		return err
	}
	w, err := m.kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	// The end of ctx ends the subscription; its last callback may still be
	// waiting for room in the channel.
	defer func() {
		cancel()
		for range w.Updates() {
		}
	}()
	var seen map[string]struct{}
	if !first {
		seen = make(map[string]struct{})
	}
	// The library counts values to know when all have come: where keys change
	// meanwhile it says so too early, and a device that is still to come
	// would be taken for deleted and turned away for good. So the copy is
	// complete when nothing more is pending.
	marked, complete, pending := false, false, uint64(0)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.lost:
			return errors.New("a change that was made here did not come")
		case entry, ok := <-w.Updates():
			if !ok {
				return errors.New("the subscription was closed")
			}
			if entry == nil {
				marked = true
			} else {
				m.applyEntry(entry)
				pending = entry.Delta()
				if seen != nil {
					seen[entry.Key()] = struct{}{}
				}
			}
			if complete || !marked || pending > 0 {
				continue
			}
			complete = true
			if err := m.copied(ctx, seen); err != nil {
				return err
			}
			m.advance(max(last, m.revision()))
			seen = nil
			healthy()
		}
	}
}

// lastRevision is that of the last write to the bucket, which may have been
// purged since: then no watch ever brings it.
func (m *mirror) lastRevision(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	status, err := m.kv.Status(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the state of bucket %s: %w", m.kv.Bucket(), err)
	}
	bucket, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return 0, fmt.Errorf("bucket %s has an unknown kind of state", m.kv.Bucket())
	}
	return bucket.StreamInfo().State.LastSeq, nil
}

func (m *mirror) applyEntry(entry jetstream.KeyValueEntry) {
	value := entry.Value()
	if entry.Operation() != jetstream.KeyValuePut {
		value = nil
	}
	m.owner.apply(entry.Key(), value, entry.Revision())
	m.advance(entry.Revision())
}

// copied ends a copy of the whole bucket. seen is nil for the first. A key that
// the copy has not brought is asked for by itself: a device that is taken for
// deleted is turned away for good, and what is pending is only counted by the
// server.
func (m *mirror) copied(ctx context.Context, seen map[string]struct{}) error {
	if seen != nil {
		for _, key := range m.owner.keys() {
			if _, ok := seen[key]; ok {
				continue
			}
			entry, err := m.kv.Get(ctx, key)
			switch {
			case err == nil:
				m.owner.apply(key, entry.Value(), entry.Revision())
			case errors.Is(err, jetstream.ErrKeyNotFound):
				m.owner.apply(key, nil, 0)
			default:
				return fmt.Errorf("read key %s: %w", key, err)
			}
		}
	}
	m.owner.loaded()
	m.setBroken(nil)
	select {
	case <-m.synced:
	default:
		close(m.synced)
	}
	return nil
}

func (m *mirror) advance(revision uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied, m.heard = revision, time.Now()
	kept := m.waiting[:0]
	for _, w := range m.waiting {
		if w.revision <= revision {
			w.done <- nil
		} else {
			kept = append(kept, w)
		}
	}
	clear(m.waiting[len(kept):])
	m.waiting = kept
}

// wait returns when the owner has seen the revision.
func (m *mirror) wait(ctx context.Context, revision uint64) error {
	m.mu.Lock()
	if m.applied >= revision {
		m.mu.Unlock()
		return nil
	}
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	w := waiter{revision: revision, done: make(chan error, 1)}
	m.waiting = append(m.waiting, w)
	m.mu.Unlock()
	overdue := time.NewTicker(lostAfter)
	defer overdue.Stop()
	for {
		select {
		case err := <-w.done:
			return err
		case <-overdue.C:
			m.watchAgain()
		case <-ctx.Done():
			m.forget(w)
			return fmt.Errorf("the change is saved, but this node has not seen it yet: %w", ctx.Err())
		}
	}
}

// watchAgain begins the watch again, unless changes do come.
func (m *mirror) watchAgain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.heard) < lostAfter {
		return
	}
	m.heard = time.Now()
	select {
	case m.lost <- struct{}{}:
	default:
	}
}

func (m *mirror) forget(w waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.waiting {
		if m.waiting[i].done == w.done {
			m.waiting = append(m.waiting[:i], m.waiting[i+1:]...)
			return
		}
	}
}

func (m *mirror) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, w := range m.waiting {
		w.done <- ErrClosed
	}
	m.waiting = nil
}

func (m *mirror) revision() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

func (m *mirror) setBroken(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// check is nil while the copy is kept up to date.
func (m *mirror) check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.broken
}
