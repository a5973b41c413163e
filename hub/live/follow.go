package live

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
)

// Subjects on core NATS.
const (
	presenceSubject = "tl.presence"
	sessionSubject  = "tl.session." // and the device's id
)

// presenceEvent is a message on presenceSubject.
type presenceEvent struct {
	From     string            `json:"from"` // Table.self
	Device   string            `json:"device"`
	Presence registry.Presence `json:"presence"`
}

// sessionEvent is a message on sessionSubject: a session has begun.
type sessionEvent struct {
	From  string `json:"from"`
	Epoch uint64 `json:"epoch"`
}

// follow listens to other nodes and to the registry.
func (t *Table) follow() error {
	others := map[string]nats.MsgHandler{
		presenceSubject:      t.onPresence,
		sessionSubject + "*": t.onSession,
	}
	if t.cfg.Sole {
		others = nil
	}
	for subject, handle := range others {
		sub, err := t.cfg.Conn.Subscribe(subject, handle)
		if err != nil {
			t.unfollowAll()
			return fmt.Errorf("follow %s: %w", subject, err)
		}
		t.unfollow = append(t.unfollow, func() { _ = sub.Unsubscribe() })
	}
	t.unfollow = append(t.unfollow, t.cfg.Registry.OnChange(t.onChange))
	return nil
}

func (t *Table) unfollowAll() {
	for _, f := range t.unfollow {
		f()
	}
	t.unfollow = nil
}

// publish tells other nodes of a device's presence. One that misses it shows
// an old state until the next; nothing else depends on it.
func (t *Table) publish(id string, p registry.Presence) {
	t.tell(presenceSubject, presenceEvent{From: t.self, Device: id, Presence: p})
}

// announce tells other nodes of a session that begins here.
func (t *Table) announce(id string, epoch uint64) {
	t.tell(sessionSubject+id, sessionEvent{From: t.self, Epoch: epoch})
}

func (t *Table) tell(subject string, event any) {
	if t.cfg.Sole {
		return
	}
	data, err := json.Marshal(event)
	if err == nil {
		err = t.cfg.Conn.Publish(subject, data)
	}
	if err != nil {
		t.logger.Warn("other nodes could not be told", "subject", subject, "error", err)
	}
}

// onSession ends the session of a device that has begun a newer one on
// another node. Where the one here is the newer, the other node is told.
func (t *Table) onSession(m *nats.Msg) {
	id := strings.TrimPrefix(m.Subject, sessionSubject)
	var event sessionEvent
	if err := json.Unmarshal(m.Data, &event); err != nil || event.From == t.self {
		return
	}
	p, epoch := t.peer(id)
	switch {
	case p == nil:
	case event.Epoch > epoch:
		p.Stop(session.CloseSuperseded, "")
	default:
		t.announce(id, epoch)
	}
}

// onPresence takes over what another node says of a device, unless something
// newer is known.
func (t *Table) onPresence(m *nats.Msg) {
	var event presenceEvent
	if err := json.Unmarshal(m.Data, &event); err != nil || event.From == t.self {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.cfg.Registry.Get(event.Device); !ok {
		return
	}
	e := t.entry(event.Device)
	if !newer(event.Presence, e.state) {
		return
	}
	e.state = event.Presence
	e.memory.SetDroppedRows(event.Presence.Dropped)
	t.notify(event.Device)
}

// newer reports whether p comes after q. The end of a session comes after its
// beginning, however they arrive.
func newer(p, q registry.Presence) bool {
	if p.Epoch != q.Epoch {
		return p.Epoch > q.Epoch
	}
	return q.Online && !p.Online
}

// onChange follows the registry. It does not block.
func (t *Table) onChange(old, dev *registry.Device) {
	if dev == nil {
		t.onDelete(old.ID)
		return
	}
	t.mu.Lock()
	e := t.entries[dev.ID]
	var p Peer
	if e != nil {
		p = e.peer
	}
	if p != nil && dev.Retiring != nil {
		t.retiring[dev.ID] = struct{}{}
	}
	t.mu.Unlock()
	if p != nil {
		change(p, dev)
	}
}

// onDelete ends the session of a device that is no longer known, and forgets
// its presence.
func (t *Table) onDelete(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[id]
	if e == nil {
		return
	}
	if e.peer != nil {
		e.peer.Stop(session.CloseUnauthorized, "") // Leave forgets it
		return
	}
	t.forget(id)
}

// change tells a peer what its device has become.
func change(p Peer, dev *registry.Device) {
	if c, ok := p.(interface{ Changed(*registry.Device) }); ok {
		c.Changed(dev)
		return
	}
	if dev.Disabled {
		p.Stop(session.CloseDisabled, "")
	}
}

// endRetired ends sessions on a credential whose period of grace is over.
func (t *Table) endRetired() {
	t.mu.Lock()
	type pair struct {
		peer Peer
		dev  *registry.Device
	}
	var due []pair
	for id := range t.retiring {
		e := t.entries[id]
		dev, ok := t.cfg.Registry.Get(id)
		if !ok || e == nil || e.peer == nil {
			delete(t.retiring, id)
			continue
		}
		if dev.Retiring == nil {
			delete(t.retiring, id)
		}
		due = append(due, pair{e.peer, dev})
	}
	t.mu.Unlock()
	for _, p := range due {
		change(p.peer, p.dev)
	}
}
