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
		},
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
		r.verdict.LeftOut = r.neverHappened(early != nil)
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
		if p == theRun || p == promiseOwnName {
			continue // any run tries these
		}
		check(triedProof(p), nil, OutcomeIncomplete, []int{int(p)}, "NOT PROVEN: 1 of the ten promises")
		r := triedProof(p)
		r.find(promiseOwnName, "a row")
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
	r.leftOut["buffer-full"] = "no InfluxDB"
	check(r, nil, OutcomeHeld, nil, "NOT TRIED all the same: ")
	if why := r.verdict.LeftOut; why["buffer-full"] != "no InfluxDB" || why["hub-kill"] == "" || why["store-5xx"] != "" {
		t.Errorf("left out are %v", why)
	}
}
