package hub_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// chaosScale is how much goes wrong in a run.
type chaosScale struct {
	devices, hosts, links           int
	commands                        int
	hubKills, hostKills, linkFaults int
	window                          time.Duration // in which all of it happens
}

// ciScale fits into a run of all tests; soakScale is `make chaos`.
var (
	ciScale   = chaosScale{devices: 40, hosts: 8, links: 5, commands: 400, hubKills: 3, hostKills: 10, linkFaults: 10, window: 10 * time.Second}
	soakScale = chaosScale{devices: 500, hosts: 50, links: 25, commands: 10_000, hubKills: 20, hostKills: 200, linkFaults: 200, window: 5 * time.Minute}
)

// chaosPlan is everything that is to happen, and when. The seed alone makes
// it, so that a seed replays it.
type chaosPlan struct {
	scale     chaosScale
	orders    []order
	hubKills  []time.Duration
	hostKills []hostKill
	faults    []linkFault
	links     []linkQuality
	group     time.Duration // when all devices get one command as a group
}

// order is a command to be sent.
type order struct {
	at          time.Duration
	device      int
	key         string
	spec        *operatorv1.CommandSpec
	cancelAfter time.Duration // after it was accepted; 0: it is not canceled
}

type hostKill struct {
	at   time.Duration
	host int
}

// linkQuality is how a link is where nothing is wrong with it.
type linkQuality struct{ latency, jitter time.Duration }

type faultKind int

const (
	cutLink   faultKind = iota // its connections break
	downLink                   // and nobody gets through for a while
	blackHole                  // what is sent vanishes; connections stay
	muteHub                    // what the hub sends vanishes, and nothing else
)

type linkFault struct {
	at    time.Duration
	link  int
	kind  faultKind
	lasts time.Duration
}

func planChaos(seed uint64, scale chaosScale) *chaosPlan {
	p := &chaosPlan{scale: scale}
	rng := rand.New(rand.NewPCG(seed, 1))
	moment := func() time.Duration { return time.Duration(rng.Int64N(int64(scale.window))) }
	for i := range scale.commands {
		p.orders = append(p.orders, newOrder(rng, moment(), rng.IntN(scale.devices), fmt.Sprintf("chaos-%d-%d", seed, i)))
	}
	slices.SortFunc(p.orders, func(a, b order) int { return int(a.at - b.at) })
	for range scale.hubKills {
		p.hubKills = append(p.hubKills, moment())
	}
	slices.Sort(p.hubKills)
	for range scale.hostKills {
		p.hostKills = append(p.hostKills, hostKill{moment(), rng.IntN(scale.hosts)})
	}
	slices.SortFunc(p.hostKills, func(a, b hostKill) int { return int(a.at - b.at) })
	for range scale.linkFaults {
		f := linkFault{at: moment(), link: rng.IntN(scale.links), kind: faultKind(rng.IntN(4))}
		f.lasts = 500*time.Millisecond + time.Duration(rng.ExpFloat64()*float64(scale.window)/20)
		f.lasts = min(f.lasts, 20*time.Second, scale.window/3)
		p.faults = append(p.faults, f)
	}
	slices.SortFunc(p.faults, func(a, b linkFault) int { return int(a.at - b.at) })
	for range scale.links {
		latency := time.Duration(1+rng.IntN(100)) * time.Millisecond
		p.links = append(p.links, linkQuality{latency, latency / 2})
	}
	p.group = scale.window / 2
	return p
}

// newOrder is a command of any kind: quick, long, failing, refused, hanging,
// or one that restarts the device.
func newOrder(rng *rand.Rand, at time.Duration, device int, key string) order {
	spec := &operatorv1.CommandSpec{Ttl: durationpb.New(10 * time.Minute), Timeout: durationpb.New(6 * time.Second)}
	args := ""
	switch n := rng.IntN(100); {
	case n < 50:
		spec.Name, args = "set-relay", fmt.Sprintf(`{"on":%v,"relay":%d}`, rng.IntN(2) == 0, 1+rng.IntN(4))
	case n < 60:
		spec.Name = "identify"
	case n < 75:
		spec.Name, args = "selftest", fmt.Sprintf(`{"seconds":%.2f}`, 0.1+1.5*rng.Float64())
	case n < 80:
		spec.Name, args = "fail", fmt.Sprintf(`{"code":%d}`, 1+rng.IntN(16))
	case n < 85:
		spec.Name = "reboot"
	case n < 88:
		spec.Name, spec.Timeout = "hang", durationpb.New(time.Second)
	case n < 94:
		spec.Name = "no-such-command"
	default:
		spec.Name, args = "set-relay", `{"relay":9}`
	}
	if args != "" {
		spec.Payload = &operatorv1.CommandSpec_Json{Json: args}
	}
	switch n := rng.IntN(20); {
	case n < 3:
		spec.Replay = operatorv1.ReplayClass_REPLAY_CLASS_ONCE
	case n < 6:
		spec.Replay = operatorv1.ReplayClass_REPLAY_CLASS_LATEST_WINS
	case n < 8:
		spec.Ttl = durationpb.New(time.Duration(1000+rng.IntN(3000)) * time.Millisecond)
	}
	o := order{at: at, device: device, key: key, spec: spec}
	if rng.IntN(12) == 0 {
		o.cancelAfter = time.Duration(1 + rng.Int64N(int64(2*time.Second)))
	}
	return o
}
