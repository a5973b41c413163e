package live

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tetherline/tetherline/hub/session"
)

// maxRetrySlot bounds how long a drained device is asked to stay away.
const maxRetrySlot = 5 * time.Minute

// Drain takes no more devices, and sends those of this node away, perSecond
// of them a second (0: all at once), each with a random slot for its return,
// so that the others get them spread. It returns when none is left or ctx
// ends. Undrain ends the refusal.
func (t *Table) Drain(ctx context.Context, perSecond float64) error {
	t.mu.Lock()
	t.draining = true
	peers := make([]Peer, 0, t.online)
	for _, e := range t.entries {
		if e.peer != nil {
			peers = append(peers, e.peer)
		}
	}
	t.mu.Unlock()
	slots := min(time.Second+spread(len(peers), perSecond), maxRetrySlot)
	begin := time.Now()
	for i, p := range peers {
		if err := pause(ctx, time.Until(begin.Add(spread(i, perSecond)))); err != nil {
			return fmt.Errorf("drain: %d devices were not sent away: %w", len(peers)-i, err)
		}
		p.Stop(session.CloseDraining, retrySlot(500*time.Millisecond+rand.N(slots)))
	}
	return t.waitEmpty(ctx)
}

// spread is how long n devices take.
func spread(n int, perSecond float64) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	return time.Duration(float64(n) / perSecond * float64(time.Second))
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// waitEmpty returns when no peer is in the table.
func (t *Table) waitEmpty(ctx context.Context) error {
	for {
		t.mu.RLock()
		online, left := t.online, t.left
		t.mu.RUnlock()
		if online == 0 {
			return nil
		}
		select {
		case <-left:
		case <-ctx.Done():
			return fmt.Errorf("drain: %d devices are still here: %w", online, ctx.Err())
		}
	}
}

// Draining reports whether the node takes no more devices.
func (t *Table) Draining() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.draining
}

// Undrain takes devices again.
func (t *Table) Undrain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = false
}
