package firmwaresim

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"text/tabwriter"
	"time"
)

// lane is a thing that can be broken in one way at a time. Lanes overlap.
type lane int

const (
	hubLane lane = iota
	storeLane
	cutLane
	stallLane
	deviceLane
	strangerLane
	lanes
)

// fault is one way in which things break.
type fault struct {
	name string
	lane lane
	// about is for people; what it needs stands there too.
	about             string
	shortest, longest time.Duration // that it lasts
	often             int           // how often it comes for each of the others of its lane
}

// faults are all there are. The order is that of the help, and part of what a
// seed means.
var faults = []fault{
	{"hub-kill", hubLane, "SIGKILL of the hub, and a new start", 0, 3 * time.Second, 3},
	{"hub-restart", hubLane, "the hub is stopped in good order while rows wait in its buffer, and started again", 0, 2 * time.Second, 1},
	{"hub-stop", hubLane, "SIGSTOP of the hub for longer than a heartbeat, then SIGCONT", 6 * time.Second, 25 * time.Second, 1},
	{"torn-write", hubLane, "SIGKILL of the hub, garbage behind the last record of a file of its buffer or of its commands, and a new start", 0, time.Second, 1},
	{"disk-full", hubLane, "the hub's disk is full for a while (root on Linux: an ext4 of its own)", 3 * time.Second, 20 * time.Second, 1},
	{"store-kill", storeLane, "SIGKILL of InfluxDB, and a new start", 2 * time.Second, 30 * time.Second, 1},
	{"store-stop", storeLane, "InfluxDB is stopped in good order, and started again", time.Second, 30 * time.Second, 1},
	{"store-hang", storeLane, "SIGSTOP of InfluxDB, then SIGCONT", 3 * time.Second, 25 * time.Second, 1},
	{"store-cut", storeLane, "connections to InfluxDB are reset, again and again", 2 * time.Second, 10 * time.Second, 1},
	{"store-5xx", storeLane, "writes are answered with 500, 502, 503 or 504, and some of them are stored nevertheless", 2 * time.Second, 10 * time.Second, 1},
	{"store-429", storeLane, "writes are answered with 429 and Retry-After, and some of them are stored nevertheless", 2 * time.Second, 10 * time.Second, 1},
	{"store-mute", storeLane, "writes are taken, some of them are stored, and there is no answer", 3 * time.Second, 12 * time.Second, 1},
	{"buffer-full", storeLane, "InfluxDB is away and devices send large rows until the hub's buffer is full", 8 * time.Second, 20 * time.Second, 1},
	{"link-cut", cutLane, "connections of a group of devices are reset", 0, 2 * time.Second, 1},
	{"link-mute", cutLane, "the hub hears nothing of a group of devices that obey commands, and their connections are reset", time.Second, 2 * time.Second, 1},
	{"link-deaf", cutLane, "a group of devices hears no acknowledgement of what the hub has got, and their connections are reset", 500 * time.Millisecond, 2 * time.Second, 1},
	{"link-stall", stallLane, "nothing gets through to a group of devices, and no connection ends", 24 * time.Second, 40 * time.Second, 1},
	{"clock-skew", deviceLane, "a device's clock jumps hours ahead, and back", time.Second, 5 * time.Second, 1},
	{"conflict", deviceLane, "a device sends text in a field that InfluxDB knows as a number", time.Second, 5 * time.Second, 1},
	{"revoke", deviceLane, "a device is disabled while it is connected, and enabled again", time.Second, 4 * time.Second, 1},
	{"impostor", strangerLane, "somebody connects with a device's id and a wrong secret", 0, time.Second, 1},
	{"middleman", strangerLane, "somebody with a certificate that the device trusts stands between device and hub", 0, time.Second, 1},
	{"usurper", strangerLane, "a device with its own credential reports the end of another's command, and names another in its rows", 0, time.Second, 1},
}

// Faults are the names of what a proof breaks, in the order of FaultHelp.
func Faults() []string {
	names := make([]string, len(faults))
	for i, f := range faults {
		names[i] = f.name
	}
	return names
}

// FaultHelp tells what each of Faults is.
func FaultHelp(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, f := range faults {
		_, _ = fmt.Fprintf(table, "  %s\t%s\n", f.name, f.about)
	}
	return table.Flush()
}

func faultNamed(name string) (fault, bool) {
	i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
	if i < 0 {
		return fault{}, false
	}
	return faults[i], true
}

// plannedFault is a fault with its time.
type plannedFault struct {
	fault
	at    time.Duration // from the beginning
	lasts time.Duration
	pick  uint64 // chooses whom it meets
}

// provePlan is everything that is to break, and when, by lane. The seed, the
// time and the faults that are wanted make it, and nothing else.
type provePlan [lanes][]plannedFault

func planProve(cfg *ProveConfig, possible func(name string) bool) *provePlan {
	p := new(provePlan)
	for l := range lanes {
		var kinds []fault
		for _, f := range faults {
			if f.lane == l && cfg.wants(f.name) && possible(f.name) {
				kinds = append(kinds, f)
			}
		}
		if len(kinds) > 0 {
			p[l] = planLane(rand.New(rand.NewPCG(cfg.Seed, uint64(l))), kinds, cfg.For, l)
		}
	}
	return p
}

// laneEnd is the part of the time after which a lane is quiet. The last life
// of the hub is long, so that a leak has time to show.
func laneEnd(l lane) float64 {
	if l == hubLane {
		return 0.7
	}
	return 0.95
}

// planLane takes each kind once, and then each as often as it is due before it
// begins anew. What is too long for the rest of the time is left out.
func planLane(rng *rand.Rand, kinds []fault, window time.Duration, l lane) (planned []plannedFault) {
	end := time.Duration(float64(window) * laneEnd(l))
	longestGap := min(max(window/16, 3*time.Second), 10*time.Minute)
	if l != hubLane {
		longestGap = min(longestGap, 90*time.Second)
	}
	if l == stallLane && window < 3*time.Minute {
		// So that it can be seen to its end: no kill of the hub comes after it.
		at := time.Duration(float64(window)*laneEnd(hubLane)) + 3*time.Second
		return []plannedFault{{fault: kinds[0], at: at, lasts: kinds[0].shortest, pick: rng.Uint64()}}
	}
	round := slices.Clone(kinds)
	at := between(rng, time.Second, 3*time.Second)
	for fits := true; fits; {
		fits = false
		rng.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		for _, f := range round {
			lasts := between(rng, f.shortest, max(f.shortest, min(f.longest, window/time.Duration(max(8, 2*len(kinds))))))
			gap := between(rng, 1500*time.Millisecond, longestGap)
			pick := rng.Uint64()
			if at+lasts <= end {
				planned = append(planned, plannedFault{fault: f, at: at, lasts: lasts, pick: pick})
				at += lasts + gap
				fits = true
			}
		}
		round = round[:0]
		for _, f := range kinds {
			round = append(round, slices.Repeat([]fault{f}, f.often)...)
		}
	}
	return planned
}

// between is log-uniform: many short ones, and some long ones.
func between(rng *rand.Rand, shortest, longest time.Duration) time.Duration {
	share := rng.Float64() // always drawn, so that a bound moves nothing else
	if longest <= shortest {
		return shortest
	}
	lo := math.Log(float64(max(shortest, 50*time.Millisecond)))
	hi := math.Log(float64(longest))
	return time.Duration(math.Exp(lo + share*(hi-lo))).Round(time.Millisecond)
}

// all planned faults in the order of time.
func (p *provePlan) all() []plannedFault {
	all := slices.Concat(p[:]...)
	slices.SortStableFunc(all, func(a, b plannedFault) int { return int(a.at - b.at) })
	return all
}

// WriteTo writes the schedule, one line a fault.
func (p *provePlan) WriteTo(w io.Writer) (int64, error) {
	var n int64
	for _, f := range p.all() {
		m, err := fmt.Fprintf(w, "%9.2f s  %-11s for %v\n", f.at.Seconds(), f.name, f.lasts)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
