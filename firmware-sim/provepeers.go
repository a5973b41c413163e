package firmwaresim

import (
	"context"
	"fmt"
	"time"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// revoke disables a device that is connected, sees how long its socket lives
// on, and enables it again.
func (r *proof) revoke(ctx context.Context, f plannedFault) {
	d := r.calmDevice(ctx, f.pick)
	wasOnline := d.online.Load()
	var began time.Time // of the call that the hub has answered
	disable := func(enabled bool) bool {
		return r.insist(ctx, func() error {
			began = time.Now()
			_, err := call(ctx, r.hub.devices.SetDeviceEnabled, &operatorv1.SetDeviceEnabledRequest{Id: d.id, Enabled: enabled})
			return err
		})
	}
	if !disable(false) {
		return
	}
	since, answered := began.UnixNano(), time.Now()
	telling := func() bool { return wasOnline && r.hub.steadySince(began) && r.calmLink(d.link, began) }
	busy := revokePace < r.paceWhile(ctx, revokeNever, func() bool {
		return d.refused.Load() < since && (telling() || time.Since(began) < revokeLimit)
	})
	// What else broke meanwhile may have been the cause: then nothing is said.
	if telling() {
		switch shut := d.shut.Load(); {
		case shut >= since:
			r.revoked(revocationOf(began, answered, time.Unix(0, shut), busy))
		case d.refused.Load() < since && d.online.Load() && ctx.Err() == nil:
			r.find(promiseRevocation, "%s was disabled, and still connected after %v", d.id, revokeNever)
		}
	}
	sleep(ctx, f.lasts)
	if disable(true) {
		select {
		case d.enabled <- struct{}{}:
		default:
		}
	}
}

// calmDevice waits a while for a moment at which nothing is wrong with the hub
// and the link of a device that is connected.
func (r *proof) calmDevice(ctx context.Context, pick uint64) *provenDevice {
	all := uint64(len(r.devices))
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); sleep(ctx, 50*time.Millisecond) {
		if ctx.Err() != nil || !r.hub.steadySince(time.Now().Add(-300*time.Millisecond)) {
			continue
		}
		for i := range all {
			if d := r.devices[(pick+i)%all]; d.online.Load() && r.calmLink(d.link, time.Now()) {
				return d
			}
		}
	}
	return r.devices[pick%all]
}

// revokePromise is what is promised. What is measured here is when the device
// has heard of it, from when the operator asked: on a machine that is busy that
// may take longer, and proves nothing. It was busy where in the same time a
// pause of 5 ms, a call that asks the hub for little, or the one that disables
// the device took over revokePace. Where it was not, over revokeLimit it is the
// hub, and so it is where lateRevokes took longer than is promised and none did
// not. No machine makes revokeNever of it.
const (
	revokePromise = time.Second
	revokeLimit   = 3 * time.Second
	revokeNever   = 30 * time.Second
	revokePace    = 200 * time.Millisecond
	lateRevokes   = 3
)

// paceWhile waits while something holds, for so long at most. It returns the
// most that a short pause took meanwhile beyond what was asked for, or a call
// that asks the hub for little.
func (r *proof) paceWhile(ctx context.Context, most time.Duration, holds func() bool) (slowest time.Duration) {
	for end := time.Now().Add(most); holds() && time.Now().Before(end); {
		began := time.Now()
		if !sleep(ctx, 5*time.Millisecond) {
			break
		}
		slowest = max(slowest, time.Since(began)-5*time.Millisecond)
		began = time.Now()
		_ = r.hub.ready(ctx)
		slowest = max(slowest, time.Since(began))
	}
	return slowest
}

// revocationOf is how long a device that was disabled had its connection, and
// whether the machine was too busy for that to say anything. The hub answers
// when the change is on its disk: where that takes long, on a disk that others
// keep busy, it says nothing how long it took from when the operator asked, and
// still something how long it took from the answer.
func revocationOf(asked, answered, shut time.Time, wasBusy bool) (took time.Duration, busy bool) {
	after := shut.Sub(answered)
	switch {
	case answered.Sub(asked) <= revokePace:
		return shut.Sub(asked), wasBusy
	case after > revokeLimit:
		return after, wasBusy
	}
	return shut.Sub(asked), true
}

func (r *proof) revoked(took time.Duration, busy bool) {
	r.count.slowestRevoke.raise(int64(took))
	switch {
	case took > revokeLimit && !busy:
		r.find(promiseRevocation, "a device that was disabled was connected for %v more, while the hub answered within %v", took, revokePace)
	case took > revokePromise && busy:
		r.count.revokedBusy.Add(1)
	case took > revokePromise:
		r.count.revokedLate.Add(1)
	default:
		r.count.revoked.Add(1)
	}
}

// judgeRevocation looks at all that were disabled.
func (r *proof) judgeRevocation() {
	if late := r.count.revokedLate.Load(); late >= lateRevokes && r.count.revoked.Load() == 0 {
		r.find(promiseRevocation, "none of %d devices that were disabled was cut off within %v", late, revokePromise)
	}
}

func (r *proof) revocationEvidence() string {
	c := &r.count
	words := fmt.Sprintf("%d live sockets closed within %v", c.revoked.Load(), revokePromise)
	if late := c.revokedLate.Load(); late > 0 {
		words += fmt.Sprintf(" and %d later: BROKEN is over %v, or all of %d", late, revokeLimit, lateRevokes)
	}
	if busy := c.revokedBusy.Load(); busy > 0 {
		words += fmt.Sprintf(" and %d later on a machine so busy that it says nothing (a small call took over %v)", busy, revokePace)
	}
	if slowest := c.slowestRevoke.Load(); slowest > 0 {
		words += fmt.Sprintf("; the slowest after %v, until the device knew", time.Duration(slowest).Round(time.Millisecond))
	}
	return words
}

// stallLink freezes a link, and sees how long both sides take to find out.
func (r *proof) stallLink(ctx context.Context, f plannedFault) {
	l := r.links[f.pick%uint64(len(r.links))]
	var met []*provenDevice
	for _, d := range r.devices {
		if d.link == l && d.online.Load() {
			met = append(met, d)
		}
	}
	began := time.Now()
	r.stalled.Store(l, began)
	l.freeze()
	defer func() {
		l.thaw()
		r.stalled.Store(l, time.Now())
	}()
	end := began.Add(f.lasts)
	unseen := r.awaitLost(ctx, met, began, end)
	if !r.hub.steadySince(began.Add(-time.Second)) || ctx.Err() != nil {
		return
	}
	if time.Since(began) >= foundWithin { // or else all were found sooner
		for what, n := range unseen {
			if n > 0 {
				r.find(promiseDeadPeers, "%d of %d dead peers were not found within %v: %s", n, len(met), foundWithin, what)
			}
		}
	}
}

// foundWithin is the promise, interval and pong timeout, and some for a
// machine that is busy.
const foundWithin = proveHeartbeat + provePongTimeout + 8*time.Second

// awaitLost waits until the devices know that their hub is dead, and the hub
// knows it of them. It counts those that do not.
func (r *proof) awaitLost(ctx context.Context, met []*provenDevice, began, end time.Time) map[string]int {
	unseen := map[string]int{}
	for time.Now().Before(end) && sleep(ctx, 200*time.Millisecond) {
		byDevice := 0
		for _, d := range met {
			if d.left.Load() < began.UnixNano() {
				byDevice++
			}
		}
		online, err := r.onlineSince(ctx, began)
		if err != nil {
			continue
		}
		byHub := 0
		for _, d := range met {
			if online[d.id] {
				byHub++
			}
		}
		if byDevice+byHub == 0 && unseen["sum"] != 0 && r.hub.steadySince(began.Add(-time.Second)) {
			r.count.lostPeers.Add(int64(len(met)))
			r.count.slowestLoss.raise(int64(time.Since(began)))
		}
		unseen["seen by the device"], unseen["seen by the hub"], unseen["sum"] = byDevice, byHub, byDevice+byHub
		if byDevice+byHub == 0 {
			break
		}
	}
	sleep(ctx, min(time.Until(end), time.Until(r.began.Add(r.cfg.For))))
	delete(unseen, "sum")
	return unseen
}

// onlineSince is the devices that the hub takes as connected, from before t.
func (r *proof) onlineSince(ctx context.Context, t time.Time) (map[string]bool, error) {
	online, yes := map[string]bool{}, true
	for token := ""; ; {
		answer, err := call(ctx, r.hub.devices.ListDevices, &operatorv1.ListDevicesRequest{PageSize: 1000, PageToken: token, Online: &yes})
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		for _, d := range answer.Devices {
			online[d.Id] = d.Presence.GetSince().AsTime().Before(t)
		}
		if token = answer.NextPageToken; token == "" {
			return online, nil
		}
	}
}
