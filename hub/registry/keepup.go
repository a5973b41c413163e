package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// changeSubject is that of messages on core NATS which tell the other hubs of a
// change, and the bucket's name. One that is lost is made up for by the poll.
const changeSubject = "tl.registry."

// changeEvent is a message on changeSubject.
type changeEvent struct {
	Revision uint64 `json:"revision"`
}

const (
	// pollEvery is how often the leader is asked for the bucket's last revision.
	pollEvery   = time.Second
	pollTimeout = 2 * time.Second
	// watchLead is how long a change is left to the watch before the leader is
	// asked for it.
	watchLead = 200 * time.Millisecond
)

// wrote tells the other hubs of a write that was made here, and returns when
// the owner has seen it.
func (m *mirror) wrote(ctx context.Context, revision uint64) error {
	m.tell(revision)
	return m.wait(ctx, revision)
}

func (m *mirror) tell(revision uint64) {
	if !m.shared || revision == 0 {
		return
	}
	data, err := json.Marshal(changeEvent{Revision: revision})
	if err == nil {
		err = m.conn.Publish(changeSubject+m.kv.Bucket(), data)
	}
	if err != nil {
		m.logger.Warn("other nodes could not be told of a change", "revision", revision, "error", err)
	}
}

// listen subscribes to what other hubs tell of their changes.
func (m *mirror) listen() (cancel func(), err error) {
	if !m.shared {
		return func() {}, nil
	}
	sub, err := m.conn.Subscribe(changeSubject+m.kv.Bucket(), func(msg *nats.Msg) {
		var event changeEvent
		if json.Unmarshal(msg.Data, &event) == nil {
			m.note(event.Revision)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", changeSubject+m.kv.Bucket(), err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// note that a revision exists.
func (m *mirror) note(revision uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if revision <= m.applied {
		return
	}
	m.told = max(m.told, revision)
	select {
	case m.behind <- struct{}{}:
	default:
	}
}

// late reports whether a change that exists is missing here.
func (m *mirror) late() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.told > m.applied
}

// deaf reports whether the watch has not brought what the leader had.
func (m *mirror) deaf() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listening && m.missed > m.brought
}

// keepUp reads changes that exist, and that the watch does not bring, until ctx
// ends; and has a watch begun again that goes on bringing nothing.
func (m *mirror) keepUp(ctx context.Context) {
	select {
	case <-m.synced:
	case <-ctx.Done():
		return
	}
	var due, silent <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.behind:
			if due == nil {
				due = time.After(watchLead)
			}
		case <-due:
			due = nil
			if !m.late() {
				continue
			}
			if err := m.catchUp(ctx); err != nil && ctx.Err() == nil {
				m.logger.Debug("a change could not be read", "error", err)
			}
			if m.late() {
				due = time.After(watchLead)
			}
			if silent == nil && m.deaf() {
				silent = time.After(lostAfter)
			}
		case <-silent:
			silent = nil
			if m.deaf() {
				m.watchAgain()
				silent = time.After(lostAfter)
			}
		}
	}
}

// catchUp reads what is missing from the leader.
func (m *mirror) catchUp(ctx context.Context) error {
	if err := m.readMissed(ctx); err != nil {
		return err
	}
	if !m.late() {
		m.upToDate()
		return nil
	}
	// The leader does not have what there is said to be.
	known := m.revision()
	once, cancel := context.WithTimeout(ctx, pollTimeout)
	state, err := m.state(once)
	cancel()
	if err != nil {
		return err
	}
	if err := m.readMissed(ctx); err != nil {
		return err
	}
	if m.replaced(state, known) || m.revision() < state.last {
		// Another bucket, or its last changes were purged: a new copy shows
		// which keys went with them.
		m.watchAgain()
		return nil
	}
	m.mu.Lock()
	m.told = min(m.told, max(state.last, m.applied))
	m.mu.Unlock()
	m.upToDate()
	return nil
}

// readMissed is readOn for what the watch has not brought.
func (m *mirror) readMissed(ctx context.Context) error {
	newest, err := m.readOn(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.missed = max(m.missed, newest)
	return err
}

// readOn takes every change after those that are here, and returns the revision
// of the last one that was new; 0: none was.
func (m *mirror) readOn(ctx context.Context) (newest uint64, err error) {
	for {
		c, err := m.next(ctx, m.revision()+1)
		if errors.Is(err, errNoChange) {
			return newest, nil
		}
		if err != nil {
			return newest, fmt.Errorf("read on in bucket %s: %w", m.kv.Bucket(), err)
		}
		if m.take(c) {
			newest = c.revision
		}
	}
}

// poll asks the leader now and then for the bucket's last revision, until ctx
// ends: what other hubs tell may be lost, and of a write whose answer was lost
// nobody tells.
func (m *mirror) poll(ctx context.Context) {
	tick := time.NewTicker(m.pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		known := m.revision()
		once, cancel := context.WithTimeout(ctx, pollTimeout)
		state, err := m.state(once)
		cancel()
		switch {
		case err != nil:
		case m.replaced(state, known):
			m.watchAgain()
		case state.last > m.revision():
			m.note(state.last)
		default:
			m.upToDate()
		}
	}
}

// upToDate notes that nothing is missing.
func (m *mirror) upToDate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.complete = time.Now()
}
