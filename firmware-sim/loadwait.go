package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// connected waits until every device is online.
func (r *loadRun) connected(ctx context.Context) error {
	patience := r.cfg.Ramp + loadConnectMargin + time.Duration(r.cfg.Devices)*time.Second/loadConnectFloor
	deadline := time.Now().Add(patience)
	for r.online.Load() < int64(r.cfg.Devices) {
		if r.refused.Load() > 0 || time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%d of %d devices are connected after %v",
				r.online.Load(), r.cfg.Devices, patience), r.lastError())
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// returned waits until every device that was lost in between is back, and
// that has been seen.
func (r *loadRun) returned(ctx context.Context) error {
	if err := r.connected(ctx); err != nil {
		return err
	}
	for r.cfg.Storm && r.recovery.Load() == nil {
		if !sleep(ctx, stormLook) {
			return ctx.Err()
		}
	}
	return nil
}

// drained waits until everything that was sent is acknowledged, for as long as
// acknowledgements come.
func (r *loadRun) drained(ctx context.Context) error {
	began := time.Now()
	for r.finished.Load()+r.refused.Load() < int64(r.cfg.Devices) {
		if time.Since(latest(began, time.Unix(0, r.lastAck.Load()))) > loadDrainTimeout {
			return errors.Join(fmt.Errorf("%d devices have frames that are not acknowledged, and nothing was in the last %v",
				int64(r.cfg.Devices)-r.finished.Load(), loadDrainTimeout), r.lastError())
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
	if r.refused.Load() > 0 {
		return fmt.Errorf("%d devices ended: %w", r.refused.Load(), r.lastError())
	}
	return nil
}

func (r *loadRun) lastError() error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// sleep is false where ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
