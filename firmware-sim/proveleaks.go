package firmwaresim

import (
	"context"
	"fmt"
	"time"
)

// What a hub keeps of each session shows best where nothing else happens: so,
// when all is said and stored, every link is cut until that many sessions are
// over, and what the hub holds with all devices connected is compared. What a
// healthy hub holds more at one such moment than at another are some idle
// connections, however many sessions there were between them, and for a while
// a goroutine for each device whose presence is being saved. A leak of one
// goroutine, or descriptor, a session is as many as there were: a quarter of
// that is the limit, and the hub has time to get below it.
const (
	leakSessions = 400              // of a round, at least
	leakRound    = time.Minute      // that cutting takes at most; with fewer sessions then, nothing is said
	leakRounds   = 3                // a leak grows in each of them, anything else does not
	leakRest     = 3 * time.Second  // in which the least that the hub holds is looked for
	leakPatience = 45 * time.Second // for it to let go of what it does not keep
)

// leaks is what the hub has kept of each session.
type leaks struct {
	Sessions    int64   `json:"sessions"`
	Goroutines  float64 `json:"goroutines"` // more than before
	Descriptors float64 `json:"descriptors"`
	PerSession  float64 `json:"bytes_per_session"` // of the heap, after a collection; negative: it held less than before
	MostBytes   float64 `json:"bytes_limit"`       // above it the promise is broken: less than this would not be seen
}

// limit of goroutines and of descriptors.
func (x *leaks) limit() float64 { return float64(x.Sessions) / 4 }

func (x *leaks) leaves() bool { return x.Goroutines > x.limit() || x.Descriptors > x.limit() }
func (x *leaks) keeps() bool  { return x.PerSession > x.MostBytes }

// weighSessions measures what the hub keeps of a session. nil: it cannot be
// measured here, or there were too few sessions.
func (r *proof) weighSessions(ctx context.Context) (*leaks, error) {
	if r.cfg.For < triesAll || !canMeasure {
		return nil, nil
	}
	r.say("cutting every link until %d sessions are over, to see what the hub keeps of them", leakSessions)
	before, err := r.atRest(ctx, func(hubSample) bool { return false })
	if err != nil {
		return nil, err
	}
	var x *leaks
	for range leakRounds {
		sessions, err := r.endSessions(ctx)
		if err != nil {
			return nil, err
		}
		if sessions < leakSessions {
			return nil, nil
		}
		n := float64(sessions)
		compare := func(now hubSample) *leaks {
			return &leaks{
				Sessions: sessions, Goroutines: now.goroutines - before.goroutines, Descriptors: now.descriptors - before.descriptors,
				PerSession: (now.heap - before.heap) / n, MostBytes: retainNoise / n,
			}
		}
		now, err := r.atRest(ctx, func(s hubSample) bool { return compare(s).leaves() })
		if err != nil {
			return nil, err
		}
		x = compare(now)
		if !x.leaves() && !x.keeps() {
			break
		}
		before = now
	}
	return x, nil
}

// endSessions cuts every device's connection, again and again, and returns how
// many sessions have begun meanwhile when all devices are back.
func (r *proof) endSessions(ctx context.Context) (begun int64, err error) {
	r.countSessions()
	first := r.verdict.Rows.Sessions
	for end := time.Now().Add(leakRound); begun < leakSessions && time.Now().Before(end); {
		r.countSessions()
		before := r.verdict.Rows.Sessions
		for _, l := range r.links {
			l.cut()
		}
		// Each device has at least one more; which of them has it, the sum
		// does not say, so all must be online too.
		err := r.await(ctx, "devices are not back after their links were cut", func() (left int, err error) {
			r.countSessions()
			left = max(len(r.devices)-int(r.verdict.Rows.Sessions-before), 0)
			for _, d := range r.devices {
				left += btoi(!d.online.Load())
			}
			return left, nil
		})
		if err != nil {
			return 0, err
		}
		begun = int64(r.verdict.Rows.Sessions - first)
	}
	return begun, r.await(ctx, "devices have rows that are not acknowledged", r.unsettled)
}

// atRest is the least that the hub holds in a while in which nothing happens,
// a longer one where that is too much, and its heap after a collection then.
func (r *proof) atRest(ctx context.Context, tooMuch func(hubSample) bool) (least hubSample, err error) {
	began := time.Now()
	for first := true; ; first = false {
		m, err := r.hub.metrics(ctx)
		if err != nil {
			return least, fmt.Errorf("metrics of the hub: %w", err)
		}
		s := sampleOf(m)
		if first {
			least = s
		}
		least.goroutines, least.descriptors = min(least.goroutines, s.goroutines), min(least.descriptors, s.descriptors)
		if past := time.Since(began); past > leakPatience || past > leakRest && !tooMuch(least) {
			break
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return least, ctx.Err()
		}
	}
	if least.heap, err = r.liveHeap(ctx); err != nil {
		return least, fmt.Errorf("memory of the hub: %w", err)
	}
	return least, nil
}

// judgeLeaks looks at what was measured.
func (r *proof) judgeLeaks() {
	x := r.verdict.Leaks
	if x == nil {
		return
	}
	if x.leaves() {
		r.find(promiseDeadPeers, "%d sessions began and ended, and the hub holds %+.0f goroutines and %+.0f descriptors; one that leaves nothing of a session holds less than %.0f more of either",
			x.Sessions, x.Goroutines, x.Descriptors, x.limit())
	}
	if x.keeps() {
		r.find(promiseMemory, "the hub's heap has kept %.0f bytes of each of %d sessions, after a collection of garbage; that of a hub which keeps nothing differs by less than %.0f",
			x.PerSession, x.Sessions, x.MostBytes)
	}
}
