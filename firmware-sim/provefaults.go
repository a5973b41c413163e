package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// breakThings has everything happen as planned, until ctx ends. It returns
// when all faults are over, with an error that the proof cannot go on after.
func (r *proof) breakThings(ctx context.Context, p *provePlan) error {
	errs := make(chan error, lanes)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for l := range lanes {
		go func() {
			var err error
			for _, f := range p[l] {
				if err != nil || !sleep(ctx, time.Until(r.began.Add(f.at))) {
					break
				}
				r.say("%s for %v", f.name, f.lasts)
				err = r.sufferOne(ctx, f)
			}
			errs <- err
		}()
	}
	var first error
	for range lanes {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// errNotMet says that a fault has come and gone without meeting anything, or
// that what else broke may have hidden what came of it. It is not counted.
var errNotMet = errors.New("not counted: it met nothing, or too much else broke")

// sufferOne has one fault from its beginning to its end, and counts it where
// it met something. An error says that the hub or the store did not come back.
func (r *proof) sufferOne(ctx context.Context, f plannedFault) error {
	err := r.suffer(ctx, f)
	switch {
	case errors.Is(err, errNotMet):
		r.say("%s: %v", f.name, err)
		return nil
	case err == nil && ctx.Err() == nil:
		r.happened(f.name)
	}
	return err
}

// suffer has one fault from its beginning to its end; an error that is not
// errNotMet says that the hub or the store did not come back.
func (r *proof) suffer(ctx context.Context, f plannedFault) error {
	switch f.name {
	case "hub-kill", "torn-write":
		return r.killHub(ctx, f)
	case "hub-restart":
		return r.restartHub(ctx, f)
	case "hub-stop":
		return r.stopHub(ctx, f)
	case "disk-full":
		return r.fillDisk(ctx, f)
	case "store-kill", "store-stop":
		return r.endStore(ctx, f)
	case "store-hang":
		return r.hangStore(ctx, f)
	case "store-cut":
		for end := time.Now().Add(f.lasts); time.Now().Before(end) && sleep(ctx, 100*time.Millisecond); {
			r.store.link.cut()
		}
	case "store-5xx", "store-429", "store-mute":
		return r.refuseWrites(ctx, f)
	case "buffer-full":
		return r.fillBuffer(ctx, f)
	case "link-cut":
		l := r.links[f.pick%uint64(len(r.links))]
		l.cut()
		if f.lasts > 500*time.Millisecond { // and once more, while they come back
			sleep(ctx, f.lasts)
			l.cut()
		}
	case "link-mute":
		return r.muteLink(ctx, f)
	case "link-deaf":
		return r.deafenLink(ctx, f)
	case "link-stall":
		r.stallLink(ctx, f)
	case "clock-skew":
		r.skewClock(ctx, f)
	case "conflict":
		r.sendConflicts(ctx, f)
	case "revoke":
		r.revoke(ctx, f)
	case "impostor":
		r.tryImpostor(ctx, f)
	case "middleman":
		r.tryMiddleman(ctx)
	case "usurper":
		return r.tryUsurper(ctx, f)
	}
	return nil
}

// killHub kills the hub right after it has acknowledged something: then, if
// ever, that is not durable yet. Every other time rows wait in its buffer.
func (r *proof) killHub(ctx context.Context, f plannedFault) error {
	defer r.hub.disturb()()
	thaw := func() {}
	if f.pick>>8%2 == 0 {
		thaw = r.holdStore(ctx)
	}
	r.awaitAck(ctx)
	r.hub.kill()
	r.doubtRecent(doubtHub)
	thaw()
	if f.name == "torn-write" {
		if err := tearWrite(r.hub.data, f.pick); err != nil {
			return err
		}
	}
	sleep(ctx, f.lasts)
	return r.hub.begin(ctx)
}

// awaitAck waits for the next acknowledgement.
func (r *proof) awaitAck(ctx context.Context) {
	wait := time.NewTimer(time.Second) // there may be none: the buffer may be full
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	case <-r.acking:
	}
}

// heldBack is for how long nothing gets to the store, so that acknowledged
// rows wait in the hub's buffer.
const heldBack = 400 * time.Millisecond

// holdStore has rows wait in the hub's buffer, until thaw.
func (r *proof) holdStore(ctx context.Context) (thaw func()) {
	if r.store == nil {
		return func() {}
	}
	r.store.link.freeze()
	sleep(ctx, heldBack)
	return r.store.link.thaw
}

// restartHub stops the hub in good order while rows wait in its buffer, and
// starts it again.
func (r *proof) restartHub(ctx context.Context, f plannedFault) error {
	defer r.hub.disturb()()
	thaw := r.holdStore(ctx)
	r.awaitAck(ctx)
	r.doubtRecent(doubtHub)
	r.doubting[doubtHub].Store(true)
	err := r.hub.stop(programStop)
	r.doubting[doubtHub].Store(false)
	thaw()
	if err != nil {
		r.find(theRun, "%v", err)
	}
	sleep(ctx, f.lasts)
	return r.hub.begin(ctx)
}

func (r *proof) stopHub(ctx context.Context, f plannedFault) error {
	defer r.hub.disturb()()
	if err := r.hub.suspend(); err != nil {
		return fmt.Errorf("stop the hub: %w", err)
	}
	sleep(ctx, f.lasts)
	return r.hub.resume()
}

// fillDisk takes all room from the hub for a while. Every other time the hub
// is killed then: what it has acknowledged is on the disk nevertheless.
func (r *proof) fillDisk(ctx context.Context, f plannedFault) error {
	defer r.hub.disturb()()
	r.doubtRecent(doubtHub)
	r.doubting[doubtHub].Store(true)
	defer r.doubting[doubtHub].Store(false)
	err := r.disk.fill()
	sleep(ctx, f.lasts)
	killed := f.pick%2 == 0
	if killed {
		r.hub.kill()
	}
	if err := r.disk.free(); err != nil || ctx.Err() != nil {
		return err
	}
	if killed {
		return r.hub.begin(ctx)
	}
	return errors.Join(err, r.hub.awaitReady(ctx, "its disk has room again")) // without an operator
}

func (r *proof) endStore(ctx context.Context, f plannedFault) error {
	if f.name == "store-kill" {
		r.store.kill()
	} else if err := r.store.stop(programStop); err != nil {
		return err
	}
	sleep(ctx, f.lasts)
	return r.store.begin(ctx)
}

func (r *proof) hangStore(ctx context.Context, f plannedFault) error {
	if err := r.store.suspend(); err != nil {
		return fmt.Errorf("hang InfluxDB: %w", err)
	}
	sleep(ctx, f.lasts)
	return r.store.resume()
}

// Bounds of the time that a buffer which is to be filled, or was full, has to
// empty itself. Then it is not waited for.
const (
	emptyBefore = 3 * time.Second
	emptyAfter  = 10 * time.Second
)

// fillBuffer takes the store away, and has devices send large rows until the
// buffer is full, and for a while longer. What it holds in that time, and until
// it is empty again, may be what a full one drops.
func (r *proof) fillBuffer(ctx context.Context, f plannedFault) error {
	r.awaitEmptied(ctx, emptyBefore)
	r.doubting[doubtFull].Store(true)
	defer r.doubting[doubtFull].Store(false)
	r.doubtRecent(doubtFull)
	r.store.kill()
	// So that the buffer is full after a third of the time.
	size := proveBuffer / r.cfg.Rate / (f.lasts.Seconds() / 3)
	r.ballast.Store(int32(min(max(size, 16), 4000)))
	sleep(ctx, f.lasts)
	r.ballast.Store(0)
	if err := r.store.begin(ctx); err != nil {
		return err
	}
	r.awaitEmptied(ctx, emptyAfter)
	return nil
}

// awaitEmptied waits until the hub's buffer holds no more than what it passes on
// at once, for so long at most.
func (r *proof) awaitEmptied(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		if chunks, err := r.buffered(ctx); err == nil && chunks <= 1 || !sleep(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// skewClock has a device's clock jump ahead. Its rows are rejected until it
// has learned the time from the hub, which it then holds on to; after a
// restart it reads its own clock again, for the next time.
func (r *proof) skewClock(ctx context.Context, f plannedFault) {
	d := r.devices[f.pick%uint64(len(r.devices))]
	d.skew.Store(int64(time.Duration(2+f.pick>>32%22) * time.Hour))
	sleep(ctx, f.lasts)
	d.skew.Store(0)
	select {
	case d.sim.restart <- struct{}{}:
	default:
	}
}

func (r *proof) sendConflicts(ctx context.Context, f plannedFault) {
	sick := slices.DeleteFunc(slices.Clone(r.devices), func(d *provenDevice) bool { return d.index%sickOneIn != 3 })
	d := sick[f.pick%uint64(len(sick))]
	d.sick.Store(1 + int32(f.pick>>32%20))
	sleep(ctx, f.lasts)
}
