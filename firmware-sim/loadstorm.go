package firmwaresim

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// stormLook is how often a load looks how many of its devices are connected.
const stormLook = 2 * time.Millisecond

// Recovery is how the devices of a load came back after most were lost at
// once: by a storm, or because the hub was restarted.
type Recovery struct {
	Lost int `json:"lost"` // devices that were away at once, at most
	// Seconds from the first loss until every device was connected again,
	// the hub's absence included.
	Seconds float64 `json:"seconds"`
	// ReturnSeconds is from the first return until then.
	ReturnSeconds float64 `json:"return_seconds"`
	PerSecond     float64 `json:"per_second"` // Lost / ReturnSeconds
}

// watchRecovery looks how many devices are connected until ctx ends, and
// hands on each recovery.
func (r *loadRun) watchRecovery(ctx context.Context, recovered func(Recovery)) {
	all := r.cfg.Devices
	low, before := all, all
	var lost, back time.Time
	for sleep(ctx, stormLook) {
		now, n := time.Now(), int(r.online.Load())
		if n < all && lost.IsZero() {
			lost, low, back = now, n, time.Time{}
		}
		switch {
		case n < low:
			low, back = n, time.Time{}
		case n > before && back.IsZero():
			back = now
		}
		if n == all && !lost.IsZero() {
			x := Recovery{Lost: all - low, Seconds: now.Sub(lost).Seconds(), ReturnSeconds: now.Sub(back).Seconds()}
			if x.ReturnSeconds > 0 {
				x.PerSecond = float64(x.Lost) / x.ReturnSeconds
			}
			recovered(x)
			lost, low = time.Time{}, all
		}
		before = n
	}
}

// recovered keeps a recovery where none had a greater loss.
func (r *loadRun) recovered(x Recovery) {
	if old := r.recovery.Load(); old == nil || x.Lost > old.Lost {
		r.recovery.Store(&x)
	}
}

// storm cuts every connection at once, halfway through.
func (r *loadRun) storm(ctx context.Context) {
	if !sleep(ctx, r.cfg.For/2) {
		return
	}
	for _, d := range r.devices {
		d.mu.Lock()
		link := d.link
		d.mu.Unlock()
		if link != nil {
			_ = link.cut()
		}
	}
}

// Restart is how a load came back after it had killed its own hub, with
// SIGKILL, and started it again.
type Restart struct {
	ReadySeconds float64 `json:"ready_seconds"` // from the kill until the hub was ready
	Recovery             // the first loss is the kill
}

// restarted kills and starts the hub, where it is the load's own, and waits
// until all devices are back.
func (r *loadRun) restarted(ctx context.Context) error {
	if r.own == nil {
		return nil
	}
	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	back := make(chan Recovery, 1)
	watching.Go(func() {
		r.watchRecovery(watch, func(x Recovery) {
			select {
			case back <- x:
			default: // a part of them was back before
			}
		})
	})
	before := r.sessions.Load()
	defer func() { r.returns.Add(r.sessions.Load() - before) }()
	took, err := r.own.restart(ctx)
	if err != nil {
		return fmt.Errorf("restart the hub: %w", err)
	}
	if err := r.connected(ctx); err != nil {
		return fmt.Errorf("after a restart of the hub: %w", err)
	}
	select {
	case x := <-back:
		r.restart.Store(&Restart{took.Seconds(), x})
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
