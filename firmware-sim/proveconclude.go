package firmwaresim

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// conclude makes the verdict.
func (r *proof) conclude(early error) Verdict {
	v := &r.verdict
	v.Seed, v.Devices, v.Seconds = r.cfg.Seed, len(r.devices), time.Since(r.began).Seconds()
	v.Faults = r.tried
	r.countSessions()
	v.Rows.AckP99 = r.tally.acks.quantile(0.99)
	var watched time.Duration
	v.Trends, watched = r.watch.trends()
	v.WatchedSeconds = watched.Seconds()
	for _, t := range v.Trends {
		if t.grown {
			r.find(promiseMemory, "%s of the hub's process have grown from %.1f to %.1f in %.0f s of one life", t.Name, t.Early, t.Late, v.WatchedSeconds)
		}
	}
	r.judgeRetained()
	r.judgeLeaks()
	r.judgeRevocation()
	if early != nil {
		r.ledgerRows()
		r.countSessions()
		v.Rows.AckP99 = r.tally.acks.quantile(0.99)
	}
	r.leaveOut(early != nil)
	r.decide(early)
	if v.Outcome == OutcomeBroken || r.cfg.Dir != "" {
		v.Kept = r.dir
		if r.disk != nil {
			v.KeptDisk = filepath.Join(r.dir, smallDiskImage)
		}
	}
	return *v
}

// leaveOut notes the faults that never happened.
func (r *proof) leaveOut(early bool) {
	v := &r.verdict
	v.LeftOut = r.neverHappened(early)
	for _, name := range Faults() {
		if v.LeftOut[name] == metNothing {
			v.MetNothing = append(v.MetNothing, name)
		}
	}
}

// decide makes the verdict on each promise, and from them the outcome.
func (r *proof) decide(early error) {
	v := &r.verdict
	if early != nil {
		v.Early = early.Error()
	}
	for p := range promises {
		one := r.wrong[p]
		one.Number, one.Says, one.Elsewhere = int(p), promiseNames[p].says, promiseNames[p].tests
		one.Evidence = r.evidence(p, early == nil)
		switch {
		case one.broken():
			one.Verdict, v.Outcome = broken, OutcomeBroken
		case early != nil || !r.wasTried(p):
			one.Verdict, one.Untried = notTried, r.whyUntried(p, early != nil)
			if p != theRun {
				v.Untried = append(v.Untried, int(p))
			}
		default:
			one.Verdict = held
		}
		v.Promises = append(v.Promises, one)
	}
	switch {
	case v.Outcome != "":
	case errors.Is(early, ErrInterrupted):
		v.Outcome = OutcomeInterrupted
	case len(v.Untried) > 0:
		v.Outcome = OutcomeIncomplete
	default:
		v.Outcome, v.Held = OutcomeHeld, true
	}
}

// wasTried reports whether something happened that could have broken a
// promise.
func (r *proof) wasTried(p promise) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch p {
	case promiseDurable, promiseStored:
		return r.anyHappened(triedBy[p])
	case promiseCommands:
		return r.count.repeatedOrders.Load() > 0
	case promiseOnce:
		return r.verdict.Rows.FramesResent > 0
	case promiseRefuses:
		return r.verdict.Rows.Throttles > 0 && r.watch.fullest() > 0.9
	case promiseDeadPeers:
		return r.count.lostPeers.Load() > 0
	case promiseProofs:
		return r.count.strangersRefused.Load() > 0
	case promiseMemory:
		return r.watch.longest() != nil && (r.verdict.Retained != nil || !canMeasure)
	case promiseOwnName:
		return r.count.usurpers.Load() > 0
	case promiseRevocation:
		return r.count.revoked.Load() > 0
	}
	return true
}

func (r *proof) anyHappened(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return r.tried[name] > 0 })
}

// evidence is what was looked at for a promise.
func (r *proof) evidence(p promise, whole bool) string {
	rows, c, t := &r.verdict.Rows, &r.count, r.tried
	if !whole && p != theRun {
		return "the run ended before everything could be compared"
	}
	switch p {
	case theRun:
		return fmt.Sprintf("%d lives of the hub, ready again within %.1f s", r.hub.lives.Load(), time.Duration(r.hub.slowest.Load()).Seconds())
	case promiseDurable:
		return fmt.Sprintf("%d kills, %d restarts, %d torn writes, %d full disks; %d rows acknowledged, %d missing", t["hub-kill"], t["hub-restart"], t["torn-write"], t["disk-full"], rows.Acknowledged, rows.Missing)
	case promiseStored:
		return fmt.Sprintf("%d rows stored, %d in quarantine with the store's words; %d writes refused by the store, and the buffer is empty", rows.Stored, rows.Quarantined, c.refusedWrites.Load()) + r.stubbornEvidence()
	case promiseOnce:
		return fmt.Sprintf("%d frames were sent again; %d rows twice, %d changed, %d that nobody published", rows.FramesResent, rows.Twice, rows.Changed, rows.Strange)
	case promiseRefuses:
		memory := ""
		if r.watch.fullest() > 1 {
			memory = " (over 100: what it had taken waited in memory for its disk, which is bounded too)"
		}
		return fmt.Sprintf("the buffer was up to %.0f %% full%s; devices were throttled %d times; they gave up %d rows, an operator sees %d", 100*r.watch.fullest(), memory, rows.Throttles, c.droppedByDevices, c.droppedByHub)
	case promiseCommands:
		m := &r.verdict.Commands
		return fmt.Sprintf("%d commands, %d ran, %d twice; %d were sent again to a device that had run them, and of %d the hub was asked while it could hear nothing of their device, and did not call them delivered; devices restarted %d times, in good order and with their journal; %d with another end than the device's", m.Accepted, m.Ran, m.Twice, c.repeatedOrders.Load(), c.unheardOrders.Load(), r.restarts(), m.Wrong)
	case promiseDeadPeers:
		words := fmt.Sprintf("%d devices on frozen links, lost by both sides within %.1f s; at the end %.0f connections, %+.0f goroutines, %+.0f descriptors", c.lostPeers.Load(),
			time.Duration(c.slowestLoss.Load()).Seconds(), c.connectionsLeft, c.goroutinesLeft, c.descriptorsLeft)
		if x := r.verdict.Leaks; x != nil {
			words += fmt.Sprintf("; %+.0f and %+.0f after %d sessions, where more than %.0f is a leak", x.Goroutines, x.Descriptors, x.Sessions, x.limit())
		}
		return words
	case promiseProofs:
		words := fmt.Sprintf("%d impostors and middlemen were sent away", c.strangersRefused.Load())
		if !r.wrong[p].broken() {
			words += ", none got a word"
		}
		return words + fmt.Sprintf("; %d found no hub", c.strangersUnheard.Load())
	case promiseOwnName:
		if r.wrong[p].broken() {
			return fmt.Sprintf("%d rows were looked at; %d times a device reported on another's command and named another in its rows", rows.Stored+rows.Quarantined, c.usurpers.Load())
		}
		return fmt.Sprintf("each of %d rows names its device, and stands under its name; %d times a device reported on another's command and named another in its rows: nothing was taken", rows.Stored+rows.Quarantined, c.usurpers.Load())
	case promiseMemory:
		return r.memoryEvidence()
	default:
		return r.revocationEvidence()
	}
}

// memoryEvidence says how much the hub may leak without it being seen, too.
func (r *proof) memoryEvidence() string {
	v := &r.verdict
	words := fmt.Sprintf("watched for %.0f s of one life; at most %.0f MiB resident with %d devices", v.WatchedSeconds, r.watch.peak.rss/(1<<20), len(r.devices))
	for _, t := range v.Trends {
		if t.Name == liveHeap && v.WatchedSeconds > 0 {
			words += fmt.Sprintf("; live heap %+.1f MiB an hour, where less than %.0f would not have been seen", t.Slope, t.Unseen)
		}
	}
	if x := v.Retained; x != nil {
		words += fmt.Sprintf("; %.0f bytes kept of each of %d frames, where less than %.0f would not have been seen", max(x.PerFrame, 0), x.Frames, x.Limit)
	}
	if x := v.Leaks; x != nil {
		words += fmt.Sprintf("; %.0f bytes kept of each of %d sessions, where less than %.0f would not have been seen", max(x.PerSession, 0), x.Sessions, x.MostBytes)
	}
	return words
}
