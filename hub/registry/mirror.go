package registry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// mirror keeps a copy of one KV bucket up to date. It hands every change to the
// owner once, in the order of the bucket, and wakes those who wait for their
// own. Changes come from a watch (run), and where that is silent, from the
// leader of the bucket's stream (keepUp): a watch lives on one server, and when
// that one dies, its library takes 10 s to notice and may take half a minute to
// have another.
type mirror struct {
	conn   *nats.Conn
	kv     jetstream.KeyValue
	shared bool // other hubs write to the bucket too
	owner  mirrored
	logger *slog.Logger

	pollEvery time.Duration

	synced chan struct{} // closed once the first copy is complete
	lost   chan struct{} // asks for a new watch
	behind chan struct{} // told has risen above applied

	taking sync.Mutex // held where the owner is written to; before mu

	mu        sync.Mutex
	created   time.Time // when the stream below was made
	applied   uint64    // every change up to this revision is with the owner
	told      uint64    // newest revision that is said to exist
	brought   uint64    // newest revision that the watch has brought
	missed    uint64    // newest revision that the leader had to be asked for
	heard     time.Time // when the watch last brought something or was given up
	complete  time.Time // when the leader last had nothing that is missing here
	listening bool      // the watch has brought a whole copy
	waiting   []waiter
	broken    error // why the watch is down; nil while it is up
	closed    bool
}

// mirrored is what a mirror writes to, one call at a time.
type mirrored interface {
	// apply takes a key's new value; nil: the key is gone.
	apply(key string, value []byte, revision uint64)
	// loaded says that the copy of the whole bucket is complete.
	loaded()
	// keys that the owner holds. It may be called at any time.
	keys() []string
}

type waiter struct {
	revision uint64
	done     chan error
}

// lostAfter is how long a change that exists may be missing from the watch
// before the watch is taken for dead, and how often one who waits for a change
// has it looked for.
const lostAfter = time.Second

func newMirror(conn *nats.Conn, kv jetstream.KeyValue, shared bool, owner mirrored, logger *slog.Logger) *mirror {
	return &mirror{
		conn: conn, kv: kv, shared: shared, owner: owner, pollEvery: pollEvery,
		synced: make(chan struct{}), lost: make(chan struct{}, 1), behind: make(chan struct{}, 1),
		logger: logger.With("bucket", kv.Bucket()),
	}
}

// take hands a change to the owner unless it has that one or a later one of the
// bucket: what the watch brings and what the leader is asked for overlap, and a
// new watch brings everything again.
func (m *mirror) take(c change) bool {
	m.taking.Lock()
	defer m.taking.Unlock()
	if c.revision <= m.revision() {
		return false
	}
	m.owner.apply(c.key, c.value, c.revision)
	m.advance(c.revision)
	return true
}

// advance notes that every change up to the revision is with the owner. taking
// is held.
func (m *mirror) advance(revision uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied = revision
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
	m.note(revision)
	overdue := time.NewTicker(lostAfter)
	defer overdue.Stop()
	for {
		select {
		case err := <-w.done:
			return err
		case <-overdue.C:
			m.note(revision)
		case <-ctx.Done():
			m.forget(w)
			return fmt.Errorf("the change is saved, but this node has not seen it yet: %w", ctx.Err())
		}
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

// check is nil while the copy is kept up to date: by the watch, or by asking
// the leader.
func (m *mirror) check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.complete) < 3*m.pollEvery {
		return nil
	}
	return m.broken
}
