package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tetherline/tetherline/device/client"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
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
	// Client is the SDK's config. Firmware, Describe and the hooks OnAck and
	// OnReject are the simulation's own.
	Client client.Config
}

// device is one simulated device.
type device struct {
	client   *client.Client
	sensors  sensors
	interval time.Duration
	rng      *rand.Rand
	clock    func() time.Time // nil: the SDK's
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
	cfg.Client.Firmware = m.firmware
	cfg.Client.Describe = &devicev1.Describe{Firmware: m.firmware, Fields: m.fields}
	cfg.Client.OnAck = t.acknowledged
	cfg.Client.OnReject = t.rejected
	c, err := client.New(cfg.Client)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(cfg.Seed, 0x7e7e))
	return &device{client: c, sensors: m.start(rng), interval: cfg.Interval, rng: rng}, nil
}

// run publishes until ctx ends, then lets the SDK flush. It returns the SDK's
// error, which is nil after ctx has ended.
func (d *device) run(ctx context.Context) error {
	work, cancel := context.WithCancel(ctx)
	published := make(chan error, 1)
	go func() { published <- d.publish(work) }()
	err := d.client.Run(ctx)
	cancel()
	return errors.Join(err, <-published)
}

// publish takes a row every interval, the first one after a random part of
// it, so that a fleet does not beat in time.
func (d *device) publish(ctx context.Context) error {
	var fields []client.Field
	timer := time.NewTimer(time.Duration(d.rng.Float64() * float64(d.interval)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(d.interval)
		fields = d.sensors(fields[:0], time.Now())
		err := d.client.Publish(ctx, client.Row{Fields: fields})
		switch {
		case err == nil:
		case ctx.Err() != nil || errors.Is(err, client.ErrClosed):
			return nil
		default:
			return fmt.Errorf("publish: %w", err)
		}
	}
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
