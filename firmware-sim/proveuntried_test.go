package firmwaresim

import (
	"strings"
	"testing"
	"time"
)

// What was not tried is said with the reason, and with what tries it.
func TestUntriedPromisesHaveAReason(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg     ProveConfig
		leftOut map[string]string
		promise promise
		early   bool
		want    string
	}{
		"too short":        {cfg: ProveConfig{For: 13 * time.Second}, promise: promiseRefuses, want: "firmware-sim prove --for 2m"},
		"too short a life": {cfg: ProveConfig{For: 13 * time.Second}, promise: promiseMemory, want: "30s that a leak takes to show: firmware-sim prove --for 2m"},
		"no InfluxDB":      {leftOut: map[string]string{"buffer-full": "name an InfluxDB"}, promise: promiseRefuses, want: "it takes buffer-full: name an InfluxDB"},
		"not wanted":       {cfg: ProveConfig{Only: []string{"hub-kill"}}, promise: promiseRevocation, want: "it takes revoke was not wanted"},
		"one of two":       {cfg: ProveConfig{For: time.Minute, Without: []string{"impostor"}}, promise: promiseProofs, want: "middleman happened 0 times"},
		"too busy":         {cfg: ProveConfig{For: 5 * time.Minute, Only: []string{"link-stall"}}, promise: promiseDeadPeers, want: "--for 10m0s --only link-stall"},
		"early":            {promise: promiseDurable, early: true, want: "ended before"},
	} {
		r := &proof{cfg: tt.cfg, leftOut: tt.leftOut, tried: map[string]int{}}
		if got := r.whyUntried(tt.promise, tt.early); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q; want %q in it", name, got, tt.want)
		}
	}
}

// Each promise that takes a fault names faults that exist.
func TestEachPromiseIsTriedByKnownFaults(t *testing.T) {
	for p, names := range triedBy {
		for _, name := range names {
			if _, ok := faultNamed(name); !ok {
				t.Errorf("promise %d is tried by %q, which is no fault", p, name)
			}
		}
	}
}
