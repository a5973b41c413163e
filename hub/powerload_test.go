//go:build linux

package hub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/powertest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// power is a hub whose power goes again and again, and everybody who was told
// something by it.
type power struct {
	disk   *powertest.Disk
	h      *hubtest.Process
	flock  *flock
	began  time.Time
	cuts   int
	losses powertest.Loss

	mu       sync.Mutex
	runs     map[string]int                     // of commands on devices
	accepted []string                           // commands
	ends     map[string]operatorv1.CommandState // as they were told
	enrolled map[string]device.Credential
	disabled map[string]bool // of the enrolled
	deleted  map[string]bool
	audited  []string // method and subject of every change that was confirmed
}

func newPower(t *testing.T, devices int, change func(*hub.Config)) *power {
	p := &power{
		disk: powertest.New(t, powerOptions(t)), began: time.Now(),
		runs: map[string]int{}, ends: map[string]operatorv1.CommandState{},
		enrolled: map[string]device.Credential{}, disabled: map[string]bool{}, deleted: map[string]bool{},
	}
	cfg := powerConfig(t, p.disk)
	change(&cfg)
	p.h = hubtest.StartProcess(t, cfg)
	t.Cleanup(func() {
		if t.Failed() {
			answer, err := p.h.Status.GetStatus(context.Background(), connect.NewRequest(new(operatorv1.GetStatusRequest)))
			if err != nil {
				t.Logf("after %d cuts the hub does not answer: %v", p.cuts, err)
				return
			}
			t.Logf("after %d cuts the hub's buffer is %v", p.cuts, answer.Msg.Buffer)
		}
	})
	p.flock = newFlock(t, p.h.Endpoint, devices, func(_ int, cfg *client.Config) {
		cfg.Commands = map[string]client.Handler{"tick": {Run: p.tick}}
	})
	return p
}

func (p *power) tick(_ context.Context, cmd *client.Command) (client.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs[cmd.ID]++
	return client.Result{}, nil
}

// run cuts the power some times, at any moment of the work, and calls between
// before each. Every device takes a row of 3 KiB each interval.
func (p *power) run(t *testing.T, cuts int, interval time.Duration, between func(cut int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var operators sync.WaitGroup
	defer operators.Wait()
	defer cancel()
	for i := range 3 {
		operators.Go(func() { p.command(ctx, t, i) })
	}
	operators.Go(func() { p.enrol(ctx, t) })
	p.flock.publish(t, interval, padding)
	for cut := range cuts {
		between(cut)
		p.flock.awaitAcks(t, p.flock.acked())
		pauseUpTo(t, time.Second)
		p.h.Kill()
		l := p.disk.Cut(t)
		p.cuts++
		p.losses.Files += l.Files
		p.losses.Bytes += l.Bytes
		p.losses.KeptBytes += l.KeptBytes
		p.losses.Names += l.Names
		p.losses.KeptNames += l.KeptNames
		p.losses.GoneBlocks += l.GoneBlocks
		p.h.Start()
	}
	p.flock.awaitAcks(t, p.flock.acked())
}

// command sends commands one after the other and awaits the end of each.
func (p *power) command(ctx context.Context, t *testing.T, sender int) {
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("power-%d-%d", sender, n)
		spec := &operatorv1.CommandSpec{Name: "tick", Timeout: durationpb.New(20 * time.Second)}
		to := p.flock.gauges[rand.IntN(len(p.flock.gauges))].id
		if !p.insist(ctx, t, func(ctx context.Context) error {
			_, err := p.h.Commands.SendCommand(ctx, connect.NewRequest(&operatorv1.SendCommandRequest{DeviceId: to, Key: key, Spec: spec}))
			return err
		}) {
			return
		}
		p.mu.Lock()
		p.accepted = append(p.accepted, key)
		p.mu.Unlock()
		for state := operatorv1.CommandState(0); !ended(state); {
			if !p.insist(ctx, t, func(ctx context.Context) error {
				answer, err := p.h.Commands.GetCommand(ctx, connect.NewRequest(&operatorv1.GetCommandRequest{Id: key}))
				if err == nil {
					state = answer.Msg.Command.State
				}
				return err
			}) {
				return
			}
			p.mu.Lock()
			if ended(state) {
				p.ends[key] = state
			}
			p.mu.Unlock()
		}
	}
}

// enrol makes devices, takes the access of some and deletes others.
func (p *power) enrol(ctx context.Context, t *testing.T) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("extra-%d", n)
		var credential string
		if !p.insist(ctx, t, func(ctx context.Context) error {
			answer, err := p.h.Devices.CreateDevice(ctx, connect.NewRequest(&operatorv1.CreateDeviceRequest{Device: &operatorv1.NewDevice{Id: id}}))
			if connect.CodeOf(err) == connect.CodeAlreadyExists {
				return nil // the answer was lost, and the credential with it
			}
			if err == nil {
				credential = answer.Msg.Credential
			}
			return err
		}) {
			return
		}
		c, err := device.ParseCredential(credential)
		if err != nil {
			continue
		}
		// A change that nobody confirmed may be done or not: such a device
		// does not count.
		p.confirm("DeviceService/CreateDevice "+id, func() {
			if n%3 == 0 {
				p.enrolled[id] = c
			}
		})
		switch n % 3 {
		case 1:
			if p.insist(ctx, t, func(ctx context.Context) error {
				_, err := p.h.Devices.SetDeviceEnabled(ctx, connect.NewRequest(&operatorv1.SetDeviceEnabledRequest{Id: id, Enabled: false}))
				return err
			}) {
				p.confirm("DeviceService/SetDeviceEnabled "+id, func() { p.enrolled[id], p.disabled[id] = c, true })
			}
		case 2:
			if p.insist(ctx, t, func(ctx context.Context) error {
				_, err := p.h.Devices.DeleteDevice(ctx, connect.NewRequest(&operatorv1.DeleteDeviceRequest{Id: id}))
				if connect.CodeOf(err) == connect.CodeNotFound {
					return nil // done, and the answer was lost
				}
				return err
			}) {
				p.confirm("DeviceService/DeleteDevice "+id, func() { p.enrolled[id], p.deleted[id] = c, true })
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func (p *power) confirm(audited string, note func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.audited = append(p.audited, audited)
	note()
}

// insist calls until the hub answers; false: it is time to end.
func (p *power) insist(ctx context.Context, t *testing.T, call func(context.Context) error) bool {
	for {
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := call(limited)
		cancel()
		switch code := connect.CodeOf(err); {
		case ctx.Err() != nil:
			return false
		case err == nil:
			return true
		case code == connect.CodeUnavailable || code == connect.CodeResourceExhausted || !connect.IsWireError(err):
		default:
			t.Errorf("the hub answers %v", err)
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}
