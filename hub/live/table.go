// Package live knows which devices are connected: to this node by their
// sessions, and to others by what those tell. It keeps presence (online or
// offline, since when, why, last seen) over restarts, supersedes a device's
// older session wherever it is, and ends sessions whose device was disabled,
// deleted or given another credential.
//
// Presence is written to a JetStream KV bucket behind the devices' backs: a
// reconnect of all of them does not wait for it. Between nodes it travels as
// events on core NATS.
//
// A session has an epoch, greater than that of every session of its device
// before it: the time in ns, or one more than the greatest known where a
// clock runs behind. Whatever comes late with a lower epoch changes nothing.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Registry is what the table asks of the registry.
type Registry interface {
	Get(id string) (*registry.Device, bool)
	OnChange(f func(old, new *registry.Device)) (cancel func())
}

// Config of a table.
type Config struct {
	Conn      *nats.Conn
	JetStream jetstream.JetStream
	Registry  Registry
	// Node names this node. It must stay the same over restarts: devices
	// that were online on it are offline when it starts.
	Node     string
	Sole     bool         // there is no other node, to be told or to be heard
	Replicas int          // of the bucket, 1 to 5; 0: 1
	Logger   *slog.Logger // nil: slog.Default()
}

// Peer is what stands behind a device that is online: a session, or a bridge
// that speaks for legacy gear. Its methods do not wait.
type Peer interface {
	Send(f *devicev1.HubFrame) error
	Stop(code session.CloseCode, reason string)
	LastHeard() time.Time
}

// Table of live devices. All methods may run at once.
type Table struct {
	cfg    Config
	self   string // this process, among those that share a node's name
	logger *slog.Logger
	kv     jetstream.KeyValue

	unfollow []func()

	mu       sync.RWMutex
	entries  map[string]*entry
	epoch    uint64 // the last that was given
	online   int    // peers of this node
	peak     int
	draining bool
	retiring map[string]struct{} // devices with a credential in its grace
	watchers map[*watcher]struct{}
	unsaved  map[string]struct{}
	changes  uint64        // of presence, counted
	left     chan struct{} // closed and replaced when the last peer leaves
	saveNow  chan struct{} // has room for one word
}

// entry is what is known of one device. The table's mu guards it.
type entry struct {
	peer   Peer // nil: not on this node
	epoch  uint64
	state  registry.Presence // the newest of all nodes
	memory session.Memory    // guards itself

	revision uint64    // of the key in the bucket; 0: none
	saved    time.Time // when state was last saved
}

// New opens the bucket and loads it. It follows registry and other nodes from
// then on; Run must follow, and ends that. Devices that the bucket has as
// online on this node are offline: the hub was stopped without a word.
func New(ctx context.Context, cfg Config) (*Table, error) {
	if cfg.Conn == nil || cfg.JetStream == nil || cfg.Registry == nil || cfg.Node == "" {
		return nil, errors.New("live: Conn, JetStream, Registry and Node are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	t := &Table{
		cfg: cfg, self: nuid.Next(), logger: cfg.Logger,
		entries: make(map[string]*entry), retiring: make(map[string]struct{}),
		watchers: make(map[*watcher]struct{}), unsaved: make(map[string]struct{}),
		left: make(chan struct{}), saveNow: make(chan struct{}, 1),
	}
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	if err := t.follow(); err != nil {
		return nil, err
	}
	return t, nil
}

// Run saves presence and ends sessions whose credential has run out, until
// ctx ends. Then it saves what is left and stops following. Stop the sessions
// first.
func (t *Table) Run(ctx context.Context) {
	defer t.unfollowAll()
	var saver sync.WaitGroup
	saver.Go(func() { t.saveLoop(ctx) })
	defer saver.Wait()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	dropped := time.NewTicker(droppedInterval)
	defer dropped.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
			t.endRetired()
		case <-dropped.C:
			t.saveDropped()
		case <-minute.C:
			t.refreshLastSeen()
		}
	}
}

// Attach implements session.Table.
func (t *Table) Attach(s *session.Session) (uint64, *session.Memory, error) {
	return t.enter(s.ID(), s, s.RemoteAddr(), s.Firmware(), time.Now())
}

// Detach implements session.Table.
func (t *Table) Detach(s *session.Session, code session.CloseCode) {
	t.Leave(s.ID(), s, code.Info().Presence)
}

// Enter puts a peer into the table and ends the one before it, here or on
// another node. It was last seen when p was last heard; now, where p does not
// know that. The error is a *session.Violation.
func (t *Table) Enter(id string, p Peer, remote, firmware string) (epoch uint64, memory *session.Memory, err error) {
	return t.enter(id, p, remote, firmware, p.LastHeard())
}

func (t *Table) enter(id string, p Peer, remote, firmware string, heard time.Time) (epoch uint64, memory *session.Memory, err error) {
	now := time.Now()
	t.mu.Lock()
	if t.draining {
		t.mu.Unlock()
		return 0, nil, &session.Violation{Code: session.CloseDraining, Reason: retrySlot(time.Second)}
	}
	e := t.entry(id)
	t.epoch = max(uint64(now.UnixNano()), t.epoch+1, e.state.Epoch+1)
	older := e.peer
	e.peer, e.epoch = p, t.epoch
	if heard.IsZero() || heard.After(now) {
		heard = now
	}
	e.state = registry.Presence{
		Online: true, Since: now, LastSeen: heard, RemoteAddr: remote, Firmware: firmware,
		Epoch: e.epoch, Node: t.cfg.Node, Dropped: e.memory.DroppedRows(),
	}
	if older == nil {
		t.online++
		t.peak = max(t.peak, t.online)
	}
	if dev, ok := t.cfg.Registry.Get(id); ok && dev.Retiring != nil {
		t.retiring[id] = struct{}{}
	}
	state, epoch := e.state, e.epoch
	t.changed(id)
	t.mu.Unlock()

	if older != nil {
		older.Stop(session.CloseSuperseded, "")
	}
	t.announce(id, epoch)
	t.publish(id, state)
	return epoch, &e.memory, nil
}

// Leave takes a peer out, with the reason that presence shows. It does
// nothing where another peer has taken its place.
func (t *Table) Leave(id string, p Peer, reason string) {
	now := time.Now()
	t.mu.Lock()
	e := t.entries[id]
	if e == nil || e.peer != p {
		t.mu.Unlock()
		return
	}
	e.peer = nil
	t.online--
	if t.online == 0 {
		close(t.left)
		t.left = make(chan struct{})
	}
	if e.state.Epoch > e.epoch { // it is online on another node by now
		t.mu.Unlock()
		return
	}
	e.state.Online, e.state.Since, e.state.Reason = false, now, reason
	e.state.Dropped = e.memory.DroppedRows()
	if heard := p.LastHeard(); heard.After(e.state.LastSeen) {
		e.state.LastSeen = heard
	}
	state := e.state
	t.changed(id)
	if _, ok := t.cfg.Registry.Get(id); !ok {
		t.forget(id)
	}
	t.mu.Unlock()
	t.publish(id, state)
}

// Explain gives a device that is offline, of this node last, another reason for
// that in the place of was: one that was learned later. It does nothing where
// the reason is not that.
func (t *Table) Explain(id, was, reason string) {
	t.mu.Lock()
	e := t.entries[id]
	if e == nil || e.peer != nil || e.state.Online || e.state.Node != t.cfg.Node || e.state.Reason != was {
		t.mu.Unlock()
		return
	}
	e.state.Reason = reason
	state := e.state
	t.changed(id)
	t.mu.Unlock()
	t.publish(id, state)
}

// entry of a device, made where it is missing. mu is held.
func (t *Table) entry(id string) *entry {
	e := t.entries[id]
	if e == nil {
		e = new(entry)
		t.entries[id] = e
	}
	return e
}

// Presence of a device; the zero Presence where it was never seen.
func (t *Table) Presence(id string) registry.Presence {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.entries[id].presence()
}

// presence is the state as of now. mu is held.
func (e *entry) presence() registry.Presence {
	if e == nil {
		return registry.Presence{}
	}
	p := e.state
	if e.peer != nil && p.Epoch == e.epoch {
		p.Dropped = e.memory.DroppedRows()
		if heard := e.peer.LastHeard(); heard.After(p.LastSeen) {
			p.LastSeen = heard
		}
	}
	return p
}

// Online is how many devices are connected to this node.
func (t *Table) Online() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.online
}

// Peak is the most that were connected to this node at once since it was
// started.
func (t *Table) Peak() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.peak
}

// retrySlot is the reason of a CloseDraining.
func retrySlot(d time.Duration) string { return fmt.Sprintf("retry_ms=%d", d.Milliseconds()) }
