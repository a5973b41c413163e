package live

import (
	"context"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/session"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Send hands a frame to the device's peer on this node. It is false where
// there is none that takes it; epoch is that of the session that took it.
func (t *Table) Send(device string, f *devicev1.HubFrame) (epoch uint64, ok bool) {
	p, epoch := t.peer(device)
	if p == nil || p.Send(f) != nil {
		return 0, false
	}
	return epoch, true
}

// Holds implements commands.Holder: a peer may keep what it is sent.
func (t *Table) Holds(device string) bool {
	p, _ := t.peer(device)
	h, ok := p.(interface{ Holds() bool })
	return ok && h.Holds()
}

// Keeps implements commands.Holder.
func (t *Table) Keeps(device string) bool {
	p, _ := t.peer(device)
	_, ok := p.(interface{ Holds() bool })
	return ok
}

// Recall implements commands.Holder.
func (t *Table) Recall(ctx context.Context, device, id string) (why string, ok bool) {
	p, _ := t.peer(device)
	r, ok := p.(interface {
		Recall(ctx context.Context, id string) (why string, ok bool)
	})
	if !ok {
		return "", false
	}
	return r.Recall(ctx, id)
}

// Disconnect ends the device's session on this node; false where there is
// none.
func (t *Table) Disconnect(id string, code session.CloseCode, reason string) bool {
	p, _ := t.peer(id)
	if p == nil {
		return false
	}
	p.Stop(code, reason)
	return true
}

// Renew hands the device its next credential over its session on this node;
// false where that cannot be done.
func (t *Table) Renew(id string, generation uint32, next device.Secret) bool {
	p, _ := t.peer(id)
	r, ok := p.(interface {
		Renew(next device.Secret, generation uint32) error
	})
	if !ok {
		return false
	}
	if err := r.Renew(next, generation); err != nil {
		t.logger.Warn("credential could not be handed over", "device", id, "generation", generation, "error", err)
		return false
	}
	return true
}

func (t *Table) peer(id string) (Peer, uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.entries[id]
	if e == nil {
		return nil, 0
	}
	return e.peer, e.epoch
}
