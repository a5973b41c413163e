package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// prepare starts everything, up to the first rows in the store.
func (r *proof) prepare(ctx context.Context) (*provePlan, error) {
	freeLeftDisks(r.say)
	removeLeftProofs(r.say)
	if err := r.makeFolder(); err != nil {
		return nil, err
	}
	release, err := holdFolder(r.dir)
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", r.dir, err)
	}
	r.later(release)
	hubd, where, err := FindHubd(ctx, r.cfg.Hubd, r.dir)
	if err != nil {
		return nil, err
	}
	if r.influxd, err = findInfluxd(r.cfg.Influxd); err != nil {
		return nil, err
	}
	r.verdict.Hub = hubd
	r.say("hub: %s (%s)", hubd, where)
	if err := r.checkRoom(); err != nil {
		return nil, err
	}
	plan := planProve(&r.cfg, r.possible)
	if !slices.ContainsFunc(Faults(), r.wanted) {
		return nil, fmt.Errorf("none of the faults that are wanted is possible here: %s", strings.Join(Verdict{LeftOut: r.leftOut}.leftOut(), "; "))
	}
	if err := r.announce(plan); err != nil {
		return nil, err
	}
	if err := r.startStore(ctx); err != nil {
		return nil, err
	}
	log, err := openBoundedLog(filepath.Join(r.dir, "hub.log"))
	if err != nil {
		return nil, err
	}
	r.later(log.close)
	data := filepath.Join(r.dir, "hub")
	if r.disk != nil {
		data = filepath.Join(r.disk.folder, "hub")
	}
	if r.hub, err = newProvenHub(ctx, hubd, data, log, r.store, func(err error) { r.find(theRun, "%v", err) }); err != nil {
		return nil, err
	}
	r.later(func() { r.hub.kill() })
	for range min(max(r.cfg.Devices/20, 3), 20) {
		l, err := newFaultyLink(r.hub.addr)
		if err != nil {
			return nil, err
		}
		r.later(l.close)
		r.links = append(r.links, l)
	}
	r.began = time.Now()
	if err := r.enrolDevices(ctx); err != nil {
		return nil, err
	}
	r.watch = &hubWatch{hub: r.hub, began: r.began, full: func() { r.doubtRecent(doubtFull) }}
	if _, err := r.watch.sample(ctx); err != nil {
		return nil, fmt.Errorf("metrics of the hub: %w", err)
	}
	r.idle = r.watch.samples[0]
	return plan, nil
}

func (r *proof) makeFolder() error {
	if r.cfg.Dir == "" {
		dir, err := os.MkdirTemp("", temporaryFolder("proof"))
		if err != nil {
			return err
		}
		r.dir = dir
		return os.WriteFile(filepath.Join(dir, unfinishedFile), nil, 0o600)
	}
	dir, err := filepath.Abs(r.cfg.Dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return errors.Join(fmt.Errorf("%s is not empty: a proof begins from nothing", dir), err)
	}
	r.dir = dir
	return nil
}

func (r *proof) checkRoom() error {
	free, err := freeBytes(r.dir)
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	if need := r.cfg.diskNeeded(r.influxd != ""); free < need {
		return fmt.Errorf("this may take %d MiB in %s, where %d MiB are free: lower --rate, or name another folder with --dir", need>>20, r.dir, free>>20)
	}
	return nil
}

// possible reports whether a fault can be had here, and notes why not.
func (r *proof) possible(name string) bool {
	f, _ := faultNamed(name)
	why := ""
	switch {
	case f.lane == storeLane && r.influxd == "":
		why = "the embedded store is part of the hub's process; --influxd names an InfluxDB"
	case name == "conflict" && r.influxd == "":
		why = "the embedded store takes values of any kind; --influxd names an InfluxDB"
	case (name == "hub-stop" || name == "store-hang") && !canSuspend:
		why = "this system cannot stop a process where it stands"
	case name == "disk-full" && r.disk == nil:
		disk, err := newSmallDisk(r.dir, r.cfg.hubDisk(r.influxd != ""))
		if err != nil {
			why = err.Error()
			break
		}
		r.disk = disk
		r.later(func() { _ = disk.close() })
	}
	if why != "" {
		r.leftOut[name] = why
	}
	return why == ""
}

func (r *proof) startStore(ctx context.Context) error {
	r.verdict.Store = "the embedded store"
	if r.influxd == "" {
		return nil
	}
	r.verdict.Store = "InfluxDB"
	dir := filepath.Join(r.dir, "influxdb")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log, err := openBoundedLog(filepath.Join(r.dir, "influxdb.log"))
	if err != nil {
		return err
	}
	r.later(log.close)
	r.store, err = newProvenStore(ctx, r.influxd, dir, log, func(err error) { r.find(theRun, "%v", err) })
	if err != nil {
		return err
	}
	r.later(r.store.close)
	r.say("store: %s", r.influxd)
	return nil
}

// announce prints the schedule, and keeps the whole of it.
func (r *proof) announce(plan *provePlan) error {
	file, err := os.Create(filepath.Join(r.dir, "schedule.txt"))
	if err != nil {
		return err
	}
	_, err = plan.WriteTo(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	all := plan.all()
	r.say("seed %d: %d faults in %v; the same seed, time and faults repeat this schedule", r.cfg.Seed, len(all), r.cfg.For)
	const shown = 60
	for i, f := range all {
		if i == shown {
			where := "each is told when it happens"
			if r.cfg.Dir != "" { // else the folder goes, where every promise holds
				where = file.Name()
			}
			r.say("… and %d more: %s", len(all)-shown, where)
			break
		}
		r.say("%9.2f s  %-11s for %v", f.at.Seconds(), f.name, f.lasts)
	}
	for _, f := range faults {
		if why, ok := r.leftOut[f.name]; ok {
			r.say("left out: %s: %s", f.name, why)
		}
	}
	return nil
}
