package firmwaresim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// triedProof is a proof in which each promise was tried but that one.
func triedProof(but promise) *proof {
	r := &proof{
		cfg: ProveConfig{For: time.Minute}, leftOut: map[string]string{}, tried: map[string]int{},
		hub: new(provenHub), watch: new(hubWatch),
	}
	for p, try := range map[promise]func(){
		promiseDurable:   func() { r.tried["disk-full"]++ },
		promiseStored:    func() { r.tried["store-5xx"]++ },
		promiseOnce:      func() { r.verdict.Rows.FramesResent++ },
		promiseRefuses:   func() { r.verdict.Rows.Throttles++; r.watch.bufferPeak = 1 },
		promiseCommands:  func() { r.count.repeatedOrders.Add(1) },
		promiseDeadPeers: func() { r.count.lostPeers.Add(1) },
		promiseProofs:    func() { r.count.strangersRefused.Add(1) },
		promiseMemory: func() {
			for at := time.Duration(0); at < warmUp+2*longEnough; at += time.Second {
				r.watch.samples = append(r.watch.samples, hubSample{at: at})
			}
			r.verdict.Retained = new(retention)
		},
		promiseOwnName:    func() { r.count.usurpers.Add(1) },
		promiseRevocation: func() { r.count.revoked.Add(1) },
	} {
		if p != but {
			try()
		}
	}
	return r
}

// Whoever reads the outcome, or the last line, is told what was tried: only
// where each of the ten promises was, and held, is that a success.
func TestOutcomeTellsWhatWasTried(t *testing.T) {
	const everyPromise = "every promise was tried, and held"
	check := func(r *proof, early error, outcome string, untried []int, says string) {
		t.Helper()
		r.leaveOut(early != nil)
		r.decide(early)
		v := &r.verdict
		var text strings.Builder
		if _, err := v.WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		if v.Outcome != outcome || v.Held != (outcome == OutcomeHeld) || !slices.Equal(v.Untried, untried) {
			t.Errorf("the outcome is %s (held %v), not tried are %v; want %s, %v", v.Outcome, v.Held, v.Untried, outcome, untried)
		}
		if !strings.Contains(text.String(), says) || strings.Contains(text.String(), everyPromise) != v.Held {
			t.Errorf("%s: want %q in\n%s", outcome, says, &text)
		}
	}
	check(triedProof(promises), nil, OutcomeHeld, nil, everyPromise)
	for p := range promises {
		if p == theRun {
			continue // any run tries it
		}
		check(triedProof(p), nil, OutcomeIncomplete, []int{int(p)}, "NOT PROVEN: 1 of the ten promises")
		r := triedProof(p)
		r.find(theRun, "a row")
		check(r, nil, OutcomeBroken, []int{int(p)}, "A PROMISE IS BROKEN")
	}
	stop, interrupt := context.WithCancel(t.Context())
	interrupt()
	all := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	check(triedProof(promises), ErrInterrupted, OutcomeInterrupted, all, "NOTHING IS PROVEN")
	check(triedProof(promises), errors.New("stuck"), OutcomeIncomplete, all, "NOT COMPARED")
	r := triedProof(promises)
	r.find(promiseProofs, "an impostor")
	check(r, ErrInterrupted, OutcomeBroken, slices.Delete(slices.Clone(all), 6, 7), "an impostor")
	r = triedProof(promises)
	r.interrupted = stop.Done()
	r.find(promiseProofs, "what Ctrl-C did") // is none
	check(r, ErrInterrupted, OutcomeInterrupted, all, "NOTHING IS PROVEN")
	r = triedProof(promises)
	for _, name := range Faults() {
		r.tried[name]++
	}
	r.tried["store-5xx"], r.tried["conflict"] = 0, 1
	r.tried["store-429"] = 1
	check(r, nil, OutcomeHeld, nil, everyPromise+", but store-5xx met nothing (seed")
	if got := r.verdict.MetNothing; !slices.Equal(got, []string{"store-5xx"}) {
		t.Errorf("met nothing: %v", got)
	}
	r = triedProof(promises)
	r.leftOut["buffer-full"] = "no InfluxDB"
	check(r, nil, OutcomeHeld, nil, "NOT TRIED all the same: ")
	if why := r.verdict.LeftOut; why["buffer-full"] != "no InfluxDB" || why["hub-kill"] == "" || why["store-5xx"] != "" {
		t.Errorf("left out are %v", why)
	}
}

// What is measured is held against its limit, and the words tell the limit.
func TestMeasuredPromises(t *testing.T) {
	for name, tt := range map[string]struct {
		promise promise
		measure func(r *proof)
		verdict string
		says    string
	}{
		"one cut off soon, one late": {promiseRevocation, func(r *proof) { r.revoked(time.Millisecond, true); r.revoked(2018*time.Millisecond, false) },
			held, "1 later: BROKEN is over 3s, or all of 3; the slowest after 2.018s"},
		"one cut off late": {promiseRevocation, func(r *proof) { r.revoked(2*time.Second, false) }, notTried, "0 live sockets closed within 1s"},
		"all cut off late": {promiseRevocation, func(r *proof) {
			for range lateRevokes {
				r.revoked(2*time.Second, false)
			}
		}, broken, "3 later"},
		"all cut off late by load": {promiseRevocation, func(r *proof) {
			for range lateRevokes {
				r.revoked(7*time.Second, true)
			}
		}, notTried, "0 live sockets closed within 1s and 3 later on a machine so busy"},
		"one cut off too late":    {promiseRevocation, func(r *proof) { r.revoked(time.Millisecond, false); r.revoked(4*time.Second, false) }, broken, "the slowest after 4s"},
		"one word to an impostor": {promiseProofs, func(r *proof) { r.find(promiseProofs, "a word") }, broken, "1 impostors and middlemen were sent away; 0"},
		"one row of another device": {promiseOwnName, func(r *proof) { r.find(promiseOwnName, "a row") }, broken,
			"1 times a device reported on another's command and named another in its rows"},
		"rows in another series": {promiseOnce, func(r *proof) { r.verdict.Rows.Stored = 100; r.judgeCounted(103) }, broken, "3 rows twice"},
		"rows in no series":      {theRun, func(r *proof) { r.verdict.Rows.Stored = 100; r.judgeCounted(97) }, broken, ""},
		"frames kept":            {promiseMemory, func(r *proof) { r.verdict.Retained = &retention{16000, 512, 197} }, broken, "512 bytes kept of each of 16000 frames, where less than 197"},
		"no frames kept":         {promiseMemory, func(r *proof) { r.verdict.Retained = &retention{16000, 100, 197} }, held, "where less than 197 would not have been seen"},
		"a goroutine a session": {promiseDeadPeers, func(r *proof) { r.verdict.Leaks = &leaks{Sessions: 400, Goroutines: 400, MostBytes: 7864} },
			broken, "+400 and +0 after 400 sessions, where more than 100"},
		"a descriptor a session": {promiseDeadPeers, func(r *proof) { r.verdict.Leaks = &leaks{Sessions: 400, Descriptors: 390, MostBytes: 7864} },
			broken, "+0 and +390 after 400 sessions"},
		"connections to the store": {promiseDeadPeers, func(r *proof) {
			r.verdict.Leaks = &leaks{Sessions: 400, Goroutines: 32, Descriptors: 16, PerSession: 4000, MostBytes: 7864}
		}, held, "+32 and +16 after 400 sessions"},
		"sessions kept": {promiseMemory, func(r *proof) { r.verdict.Leaks = &leaks{Sessions: 400, PerSession: 15000, MostBytes: 7864} },
			broken, "15000 bytes kept of each of 400 sessions, where less than 7864"},
	} {
		r := triedProof(promises)
		r.count.revoked.Store(0)
		tt.measure(r)
		r.judgeRetained()
		r.judgeLeaks()
		r.judgeRevocation()
		r.decide(nil)
		got := r.verdict.Promises[tt.promise]
		if got.Verdict != tt.verdict || !strings.Contains(got.Evidence, tt.says) ||
			got.Verdict == broken && (strings.Contains(got.Evidence, "none got") || strings.Contains(got.Evidence, "nothing was taken")) {
			t.Errorf("%s: %s: %s; want %s, %q", name, got.Verdict, got.Evidence, tt.verdict, tt.says)
		}
	}
}
