package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
				if err = r.suffer(ctx, f); err == nil {
					r.happened(f.name)
				}
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

// suffer has one fault from its beginning to its end. An error says that the
// hub or the store did not come back.
func (r *proof) suffer(ctx context.Context, f plannedFault) error {
	switch f.name {
	case "hub-kill", "torn-write":
		return r.killHub(ctx, f)
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
	case "buffer-full":
		return r.fillBuffer(ctx, f)
	case "link-cut":
		l := r.links[f.pick%uint64(len(r.links))]
		l.cut()
		if f.lasts > 500*time.Millisecond { // and once more, while they come back
			sleep(ctx, f.lasts)
			l.cut()
		}
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
	}
	return nil
}

// killHub kills the hub right after it has acknowledged something: then, if
// ever, that is not durable yet.
func (r *proof) killHub(ctx context.Context, f plannedFault) error {
	defer r.hub.disturb()()
	r.killAfterAck(ctx)
	if f.name == "torn-write" {
		if err := tearWrite(r.hub.data, f.pick); err != nil {
			return err
		}
	}
	sleep(ctx, f.lasts)
	return r.hub.begin(ctx)
}

func (r *proof) killAfterAck(ctx context.Context) {
	wait := time.NewTimer(time.Second) // there may be none: the buffer may be full
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	case <-r.acking:
	}
	r.hub.kill()
	r.doubtRecent()
}

func (r *proof) stopHub(ctx context.Context, f plannedFault) error {
	defer r.hub.disturb()()
	if err := r.hub.suspend(); err != nil {
		return fmt.Errorf("stop the hub: %w", err)
	}
	sleep(ctx, f.lasts)
	return r.hub.resume()
}

// tearWrite leaves behind the newest file of a stream what a power cut leaves
// of a write that was under way: bytes that are no record, behind the last
// record that was acknowledged. Nothing acknowledged is touched, so nothing
// may be missing afterwards.
func tearWrite(data string, pick uint64) error {
	stream := []string{"TELEMETRY", "COMMANDS"}[pick%2]
	var newest string
	var newestTime time.Time
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".blk" || !strings.Contains(path, filepath.Join(stream, "msgs")) {
			return err
		}
		info, err := e.Info()
		if err == nil && !info.ModTime().Before(newestTime) {
			newest, newestTime = path, info.ModTime()
		}
		return err
	})
	if err != nil || newest == "" {
		return err
	}
	file, err := os.OpenFile(newest, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("tear a write: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("tear a write: %w", err)
	}
	if _, err := file.WriteAt(tornBytes(file, info.Size(), pick), info.Size()); err != nil {
		return fmt.Errorf("tear a write: %w", err)
	}
	return nil
}

// tornBytes are zeros, noise, or the beginning of what looks like a record.
func tornBytes(file *os.File, size int64, pick uint64) []byte {
	rng := rand.New(rand.NewPCG(pick, 1))
	torn := make([]byte, 1+rng.IntN(4096))
	switch pick / 2 % 3 {
	case 0: // zeros: a file that had grown, and no more
	case 1:
		for i := range torn {
			torn[i] = byte(rng.Uint32())
		}
	default:
		torn = torn[:min(int64(len(torn)), max(size-1, 1))]
		_, _ = file.ReadAt(torn, 0)
	}
	return torn
}

// fillDisk takes all room from the hub for a while. Every other time the hub
// is killed then: what it has acknowledged is on the disk nevertheless.
func (r *proof) fillDisk(ctx context.Context, f plannedFault) error {
	defer r.hub.disturb()()
	r.doubtRecent()
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

// fillBuffer takes the store away, and has devices send large rows until the
// buffer is full, and for a while longer.
func (r *proof) fillBuffer(ctx context.Context, f plannedFault) error {
	r.doubting[doubtFull].Store(true)
	defer r.doubting[doubtFull].Store(false)
	r.store.kill()
	// So that the buffer is full after a third of the time.
	size := proveBuffer / r.cfg.Rate / (f.lasts.Seconds() / 3)
	r.ballast.Store(int32(min(max(size, 16), 4000)))
	sleep(ctx, f.lasts)
	r.ballast.Store(0)
	return r.store.begin(ctx)
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
