package hub_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

var chaosSeed = flag.Uint64("chaos.seed", 0, "seed of the schedule of TestChaos; 0: a new one")

// Thousands of commands of all kinds go to devices on bad links, while the
// hub and the devices are killed at any moment: each command has exactly one
// end, no id runs twice on any device, and none gets stuck. The schedule comes
// from the seed alone: -chaos.seed repeats it. `make chaos` is the long form.
func TestChaos(t *testing.T) {
	t.Parallel()
	scale := ciScale
	if long {
		scale = soakScale
	}
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("to repeat this schedule: -chaos.seed=%d", seed)
	c := newChaos(t, planChaos(seed, scale))
	c.run()
	c.settle()
	ends := c.wantOneEndEach()
	c.wantNoneRanTwice(ends)
	c.h.Kill()
	c.h.Start()
	c.wantSameEnds(ends)
	c.report(ends)
}

// A seed makes the same schedule each time.
func TestChaosScheduleRepeats(t *testing.T) {
	a, b := planChaos(7, ciScale), planChaos(7, ciScale)
	if fmt.Sprint(a.hubKills, a.hostKills, a.faults, a.links) != fmt.Sprint(b.hubKills, b.hostKills, b.faults, b.links) {
		t.Error("two plans of one seed have different faults")
	}
	for i := range a.orders {
		if x, y := a.orders[i], b.orders[i]; x.at != y.at || x.device != y.device || x.cancelAfter != y.cancelAfter || !reflect.DeepEqual(x.spec, y.spec) {
			t.Fatalf("order %d differs: %v and %v", i, x, y)
		}
	}
}

// chaos is a run of a plan.
type chaos struct {
	t     *testing.T
	plan  *chaosPlan
	h     *hubtest.Process
	api   hubtest.Endpoint
	dir   string // of journals and ledgers
	ids   []string
	links []*link
	hosts []*host
	group string

	began    time.Time
	accepted atomic.Int64
	repeated atomic.Int64 // sendings that had been accepted without an answer
	full     atomic.Int64 // refusals for too many pending
	canceled atomic.Int64
}

func newChaos(t *testing.T, plan *chaosPlan) *chaos {
	cfg := hubtest.Config(t)
	cfg.Listen = hubtest.FreeAddr(t)
	cfg.LogLevel = "error"
	cfg.AddressRate = 10_000
	cfg.Heartbeat = 5 * time.Second
	c := &chaos{t: t, plan: plan, dir: t.TempDir(), group: "chaos-group"}
	c.h = hubtest.StartProcess(t, cfg)
	c.api = c.h.Endpoint
	for _, q := range plan.links {
		l := newLink(t, cfg.Listen)
		l.slow(q)
		c.links = append(c.links, l)
	}
	ca, err := os.ReadFile(filepath.Join(cfg.Data, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	credentials := c.enrol()
	for i := range plan.scale.hosts {
		host := hostConfig{URL: "wss://" + cfg.Listen + device.Path, CAPEM: string(ca), Dir: c.dir}
		for d := i; d < len(credentials); d += plan.scale.hosts {
			host.Devices = append(host.Devices, hostedDevice{credentials[d], c.links[d%len(c.links)].addr()})
		}
		c.hosts = append(c.hosts, startHost(t, host))
	}
	t.Cleanup(func() {
		for _, h := range c.hosts {
			h.kill()
		}
	})
	hubtest.Eventually(t, "all devices are online", func() bool {
		return int(status(t, c.api).DevicesOnline) == len(c.ids)
	})
	return c
}

func (c *chaos) enrol() (credentials []string) {
	c.t.Helper()
	for i := range c.plan.scale.devices {
		c.ids = append(c.ids, fmt.Sprintf("dev-%03d", i))
	}
	for _, credential := range createDevices(c.t, c.api, c.ids) {
		credentials = append(credentials, credential.Encode())
	}
	return credentials
}

// run has everything happen as planned. It returns when all commands are
// accepted, and all faults are over.
func (c *chaos) run() {
	ctx := c.t.Context()
	c.began = time.Now()
	var all sync.WaitGroup
	defer all.Wait()
	orders := make(chan order)
	for range 32 {
		all.Go(func() {
			for o := range orders {
				c.issue(ctx, o, &all)
			}
		})
	}
	all.Go(func() {
		defer close(orders)
		for _, o := range c.plan.orders {
			if !c.await(ctx, o.at) {
				return
			}
			orders <- o
		}
	})
	all.Go(func() {
		if c.await(ctx, c.plan.group) {
			c.issueGroup(ctx)
		}
	})
	for i, l := range c.links {
		all.Go(func() {
			for _, f := range c.plan.faults {
				if f.link == i && c.await(ctx, f.at) {
					l.suffer(ctx, f)
				}
			}
		})
	}
	all.Go(func() {
		for _, k := range c.plan.hostKills {
			if !c.await(ctx, k.at) {
				return
			}
			c.hosts[k.host].kill()
			if err := c.hosts[k.host].start(); err != nil {
				c.t.Errorf("start devices again: %v", err)
			}
		}
	})
	for _, at := range c.plan.hubKills {
		if c.await(ctx, at) {
			c.h.Kill()
			c.h.Start()
		}
	}
}

// await the moment of the plan; false: the test is over.
func (c *chaos) await(ctx context.Context, at time.Duration) bool {
	timer := time.NewTimer(time.Until(c.began.Add(at)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// issue sends one command, as a careful operator does: with its key, again
// and again, until the hub says that it has it.
func (c *chaos) issue(ctx context.Context, o order, all *sync.WaitGroup) {
	if !c.insist(ctx, func(ctx context.Context) error {
		answer, err := c.api.Commands.SendCommand(ctx, connect.NewRequest(&operatorv1.SendCommandRequest{
			DeviceId: c.ids[o.device], Spec: o.spec, Key: o.key,
		}))
		if err == nil && answer.Msg.Existed {
			c.repeated.Add(1)
		}
		return err
	}) {
		return
	}
	c.accepted.Add(1)
	if o.cancelAfter == 0 {
		return
	}
	accepted := time.Since(c.began)
	all.Go(func() {
		if c.await(ctx, accepted+o.cancelAfter) && c.insist(ctx, func(ctx context.Context) error {
			_, err := c.api.Commands.CancelCommand(ctx, connect.NewRequest(&operatorv1.CancelCommandRequest{Id: o.key}))
			if connect.CodeOf(err) == connect.CodeFailedPrecondition {
				return nil // it has ended
			}
			return err
		}) {
			c.canceled.Add(1)
		}
	})
}

func (c *chaos) issueGroup(ctx context.Context) {
	c.insist(ctx, func(ctx context.Context) error {
		_, err := c.api.Commands.SendGroupCommand(ctx, connect.NewRequest(&operatorv1.SendGroupCommandRequest{
			Selector: "site=field", Key: c.group, Spec: &operatorv1.CommandSpec{Name: "identify"},
		}))
		return err
	})
}

// insist calls until the hub has answered; false: the test is over. A hub
// that is away answers nothing, and one that is full says so.
func (c *chaos) insist(ctx context.Context, call func(context.Context) error) bool {
	for {
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := call(limited)
		cancel()
		if err == nil {
			return true
		}
		switch code := connect.CodeOf(err); {
		case ctx.Err() != nil:
			return false
		case code == connect.CodeResourceExhausted:
			c.full.Add(1)
		case code == connect.CodeUnavailable || !connect.IsWireError(err):
		default:
			c.t.Errorf("the hub answers %v", err)
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(100 * time.Millisecond):
		}
	}
}
