package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tetherline/tetherline/device/client"
)

// Models are the kinds of devices there are: "climate", "motor", "tracker"
// and "gate".
func Models() []string {
	names := make([]string, len(models))
	for i := range models {
		names[i] = models[i].name
	}
	return names
}

func modelNamed(name string) (*model, error) {
	for i := range models {
		if models[i].name == name {
			return &models[i], nil
		}
	}
	return nil, fmt.Errorf("there is no model %q; there are %v", name, Models())
}

// DeviceConfig describes one simulated device.
type DeviceConfig struct {
	Model    string        // one of Models; "": climate
	Interval time.Duration // between rows, from 1 ms; 0: 1 s
	Seed     uint64        // of the signals
	// OnCommand hears of every command before it is run; nil: nobody does.
	// It may be called by several goroutines at once.
	OnCommand func(device, id, name string)
	// OnResult hears how the device ended a command: nil for a success; nil:
	// nobody does. As OnCommand otherwise.
	OnResult func(device, id string, err error)
	// Client is the SDK's config. Firmware, Describe, Commands and the hook
	// OnAck are the simulation's own. With a JournalPath a rebooted device
	// remembers the commands that it has run.
	Client client.Config
}

// bootTime is how long a simulated device is away when it restarts.
const bootTime = 200 * time.Millisecond

// device is one simulated device. It is booted by making a client, and again
// by every reboot.
type device struct {
	// Set once.
	config    client.Config
	model     *model
	sensors   sensors
	rng       *rand.Rand
	onCommand func(device, id, name string)
	onResult  func(device, id string, err error)
	restart   chan struct{} // a reboot is wanted
	retimed   chan struct{} // the interval has changed

	mu       sync.Mutex
	current  *client.Client
	past     client.Stats // of clients before the current one
	boots    int          // clients so far
	interval time.Duration
	relays   [relays]bool
}

func newDevice(cfg DeviceConfig, t *tally) (*device, error) {
	if cfg.Model == "" {
		cfg.Model = climateModel.name
	}
	m, err := modelNamed(cfg.Model)
	if err != nil {
		return nil, err
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	if cfg.Interval < time.Millisecond {
		return nil, fmt.Errorf("interval %v is under 1ms", cfg.Interval)
	}
	rng := rand.New(rand.NewPCG(cfg.Seed, 0x7e7e))
	d := &device{
		config: cfg.Client, model: m, sensors: m.start(rng), rng: rng, onCommand: cfg.OnCommand, onResult: cfg.OnResult,
		restart: make(chan struct{}, 1), retimed: make(chan struct{}, 1), interval: cfg.Interval,
	}
	d.config.Firmware = m.firmware
	d.config.Describe = m.describe
	d.config.OnAck = t.acknowledged
	d.config.Commands = d.handlers()
	if d.config.Spool == nil {
		d.config.Spool = client.NewMemorySpool(0) // outlives a reboot
	}
	return d, d.boot()
}

// boot makes the next client.
func (d *device) boot() error {
	c, err := client.New(d.config)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current != nil {
		addStats(&d.past, d.current.Stats())
	}
	d.current = c
	d.boots++
	return nil
}

// restarts is how often it has started anew, with its spool and its journal.
func (d *device) restarts() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.boots - 1
}

func (d *device) client() *client.Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// run publishes and obeys until ctx ends, then lets the SDK flush. It returns
// the SDK's error, which is nil after ctx has ended.
func (d *device) run(ctx context.Context) error {
	work, cancel := context.WithCancel(ctx)
	published := make(chan error, 1)
	go func() { published <- d.publish(work) }()
	err := d.runBoots(ctx)
	cancel()
	return errors.Join(err, <-published)
}

func (d *device) runBoots(ctx context.Context) error {
	for {
		boot, end := context.WithCancelCause(ctx)
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			select {
			case <-d.restart:
				end(errRestart)
			case <-boot.Done():
			}
		}()
		err := d.client().Run(boot)
		restarted := errors.Is(context.Cause(boot), errRestart)
		end(nil)
		<-watched
		if err != nil || !restarted {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(bootTime):
		}
		if err := d.boot(); err != nil {
			return fmt.Errorf("boot: %w", err)
		}
	}
}

// publish takes a row every interval, the first one after a random part of
// it, so that a fleet does not beat in time.
func (d *device) publish(ctx context.Context) error {
	var fields []client.Field
	timer := time.NewTimer(time.Duration(d.rng.Float64() * float64(d.period())))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.retimed:
			timer.Reset(d.period())
			continue
		case <-timer.C:
		}
		timer.Reset(d.period())
		fields = d.sensors(fields[:0], time.Now())
		err := d.client().Publish(ctx, client.Row{Fields: fields})
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, client.ErrClosed): // it restarts: nothing measures
		default:
			return fmt.Errorf("publish: %w", err)
		}
	}
}

func (d *device) period() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.interval
}

// stats over all boots.
func (d *device) stats() client.Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	total := d.current.Stats()
	addStats(&total, d.past)
	return total
}

// addStats adds the totals of from to those of to.
func addStats(to *client.Stats, from client.Stats) {
	to.RowsPublished += from.RowsPublished
	to.RowsAcked += from.RowsAcked
	to.RowsRejected += from.RowsRejected
	to.RowsDropped += from.RowsDropped
	to.FramesSent += from.FramesSent
	to.FramesResent += from.FramesResent
	to.Sessions += from.Sessions
	to.Throttles += from.Throttles
	to.Commands += from.Commands
}

// RunDevice runs one simulated device until ctx ends or the hub refuses it.
// What it has sent stands in the Summary, after an error too.
func RunDevice(ctx context.Context, cfg DeviceConfig) (Summary, error) {
	t := newTally()
	d, err := newDevice(cfg, t)
	if err != nil {
		return Summary{}, err
	}
	err = d.run(ctx)
	return t.summary([]*device{d}), err
}
