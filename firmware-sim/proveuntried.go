package firmwaresim

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Bounds of what a run does to try each promise.
const (
	// triesAll is the least time of a run that goes on until each promise
	// was tried. A shorter one says what it has left.
	triesAll = 30 * time.Second
	// tryRounds is how often a promise is tried anew where it could not be
	// judged, since too much was slow at that moment.
	tryRounds = 3
	// watchWithin is for the hub to live on for long enough, by itself.
	watchWithin = warmUp + longEnough + 30*time.Second
)

// triedBy are the faults that try a promise, the best first. The others are
// tried by any run.
var triedBy = [promises][]string{
	promiseDurable: {"hub-kill", "torn-write", "disk-full"},
	promiseStored: {"store-5xx", "store-429", "store-mute", "store-kill", "store-hang", "store-cut", "store-stop",
		"buffer-full", "hub-kill", "torn-write", "hub-restart"},
	promiseOnce:       {"link-deaf", "link-cut", "hub-kill", "torn-write"},
	promiseCommands:   {"link-mute"},
	promiseRefuses:    {"buffer-full"},
	promiseDeadPeers:  {"link-stall"},
	promiseProofs:     {"impostor", "middleman"},
	promiseOwnName:    {"usurper"},
	promiseRevocation: {"revoke"},
}

// tryTheRest has each fault that is wanted, and that the schedule had no time
// for, once, and then those by which promises are tried that could not be
// judged yet, because too much broke at the same time to tell. Then it lets the hub live for long enough to see
// whether it grows. An error is as that of breakThings.
func (r *proof) tryTheRest(ctx context.Context) error {
	if r.cfg.For < triesAll {
		return nil
	}
	for _, f := range faults {
		if !r.wanted(f.name) || r.happens(f.name) > 0 || ctx.Err() != nil {
			continue
		}
		r.say("it has not happened yet: %s for %v", f.name, f.shortest)
		if err := r.sufferOne(ctx, plannedFault{fault: f, lasts: f.shortest, pick: r.cfg.Seed}); err != nil {
			return err
		}
	}
	for round := range uint64(tryRounds) {
		for p := range promises {
			r.countSessions()
			fault, ok := r.possibleFor(p)
			if r.wasTried(p) || !ok || ctx.Err() != nil {
				continue
			}
			r.say("promise %d was not tried yet: %s for %v", p, fault.name, fault.shortest)
			if err := r.sufferOne(ctx, plannedFault{fault: fault, lasts: fault.shortest, pick: r.cfg.Seed + round}); err != nil {
				return err
			}
		}
	}
	if err := r.tryStubbornRow(ctx); err != nil {
		return err
	}
	if r.watch.longest() == nil {
		r.say("watching the hub for a while in which nothing breaks")
	}
	for limit := time.Now().Add(watchWithin); r.watch.longest() == nil && time.Now().Before(limit); {
		if !sleep(ctx, time.Second) {
			break
		}
	}
	return nil
}

// possibleFor is the best fault that is possible here and wanted.
func (r *proof) possibleFor(p promise) (fault, bool) {
	for _, name := range triedBy[p] {
		if r.wanted(name) {
			return faultNamed(name)
		}
	}
	return fault{}, false
}

// wanted reports whether a fault is, and can be had here.
func (r *proof) wanted(name string) bool {
	_, left := r.leftOut[name]
	return !left && r.cfg.wants(name)
}

func (r *proof) happens(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tried[name]
}

const metNothing = "it met nothing: too much else was slow or broken"

// neverHappened is the faults that did not, with the reason.
func (r *proof) neverHappened(early bool) map[string]string {
	never := map[string]string{}
	for _, name := range Faults() {
		why, left := r.leftOut[name]
		switch {
		case r.tried[name] > 0:
		case left:
			never[name] = why
		case !r.cfg.wants(name):
			never[name] = "not wanted (--only, --without)"
		case early:
			never[name] = "the run ended early"
		case r.cfg.For < triesAll:
			never[name] = fmt.Sprintf("a run of %v has no time for all (from %v on it takes its time)", r.cfg.For, triesAll)
		default:
			never[name] = metNothing
		}
	}
	return never
}

// whyUntried says why a promise was not tried, and what does try it.
func (r *proof) whyUntried(p promise, early bool) string {
	if early {
		return "the run ended before it could be judged"
	}
	var left []string
	for _, name := range triedBy[p] {
		switch why, ok := r.leftOut[name]; {
		case ok:
			left = append(left, name+": "+why)
		case !r.cfg.wants(name):
			left = append(left, name+" was not wanted (--only, --without)")
		}
	}
	if len(left) > 0 && len(left) == len(triedBy[p]) {
		return "it takes " + strings.Join(left, "; ")
	}
	command := "firmware-sim prove --for 2m"
	if r.cfg.For >= 2*time.Minute {
		command = fmt.Sprintf("firmware-sim prove --for %v", 2*r.cfg.For)
	}
	if len(r.cfg.Only) > 0 {
		command += " --only " + strings.Join(r.cfg.Only, ",")
	}
	switch {
	case p == promiseMemory:
		return fmt.Sprintf("no life of the hub was watched for the %v that a leak takes to show: %s", warmUp+longEnough, command)
	case r.cfg.For < triesAll:
		return fmt.Sprintf("a run of %v has no time for all: %s", r.cfg.For, command)
	}
	fault, _ := r.possibleFor(p)
	return fmt.Sprintf("%s happened %d times, and could not be judged: too much else was slow or broken; %s, on a machine with less to do", fault.name, r.tried[fault.name], command)
}

// countSessions sums up what the devices' SDK counts.
func (r *proof) countSessions() {
	rows := &r.verdict.Rows
	rows.FramesResent, rows.Throttles, rows.Sessions = 0, 0, 0
	for _, d := range r.devices {
		st := d.sim.stats()
		rows.FramesResent += st.FramesResent
		rows.Throttles += st.Throttles
		rows.Sessions += st.Sessions
	}
}

// restarts of devices, with what they keep over one.
func (r *proof) restarts() (n int) {
	for _, d := range r.devices {
		n += d.sim.restarts()
	}
	return n
}
