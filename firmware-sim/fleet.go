package firmwaresim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	credential "github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
)

// FleetConfig describes a fleet of simulated devices.
type FleetConfig struct {
	Hub     string         // URL of the operator API, https://host:port
	Token   string         // of an operator
	RootCAs *x509.CertPool // that the hub's certificate comes from; nil: the system's

	Devices  int           // from 1
	Interval time.Duration // between the rows of a device; 0: 1 s
	BatchAge time.Duration // how long a row waits for others; 0: 1 s
	Prefix   string        // of the ids; "": "sim"
	Seed     uint64
	// BadLinks and DeadClocks are shares, 0 to 1, of devices with a link
	// that is slow and is cut every 20 s or so, and without a clock.
	BadLinks, DeadClocks float64
	// SpoolBytes of each device; 0: client.DefaultSpoolBytes.
	SpoolBytes int64
	// FlushTimeout bounds the end of each device; 0: 15 s.
	FlushTimeout time.Duration

	// Journals is the folder in which each device remembers the commands it
	// has run, in a file of its own; "": in memory, until it reboots.
	Journals string
	// OnCommand hears of every command before it is run; nil: nobody does.
	OnCommand func(device, id, name string)

	// Dial opens the connections of devices; nil: net.Dialer. Tests put
	// their faults here.
	Dial   dialFunc
	Logger *slog.Logger // nil: silence
	// Enrolled hears how many devices have their credential, while the fleet
	// is enrolled; nil: nobody.
	Enrolled func(done int)
}

func (c *FleetConfig) complete() error {
	if c.Devices < 1 {
		return fmt.Errorf("a fleet has at least 1 device, not %d", c.Devices)
	}
	if c.BadLinks < 0 || c.BadLinks > 1 || c.DeadClocks < 0 || c.DeadClocks > 1 {
		return errors.New("the shares of bad links and dead clocks are 0 to 1")
	}
	if c.Prefix == "" {
		c.Prefix = "sim"
	}
	if err := credential.CheckID(fmt.Sprintf("%s-%05d", c.Prefix, c.Devices)); err != nil {
		return fmt.Errorf("prefix of device ids: %w", err)
	}
	if u, err := url.Parse(c.Hub); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("hub %q is no URL, as https://127.0.0.1:8443", c.Hub)
	}
	if c.FlushTimeout == 0 {
		c.FlushTimeout = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Fleet is a number of enrolled devices.
type Fleet struct {
	cfg     FleetConfig
	devices []*device
	ids     []string
	tally   *tally
	refused atomic.Int64
}

// NewFleet enrols the devices of cfg at the hub. A device that exists already
// gets a new credential.
func NewFleet(ctx context.Context, cfg FleetConfig) (*Fleet, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	f := &Fleet{cfg: cfg, tally: newTally()}
	for i := range cfg.Devices {
		f.ids = append(f.ids, fmt.Sprintf("%s-%05d", cfg.Prefix, i+1))
	}
	enrolment, err := enrol(ctx, &cfg, f.ids)
	if err != nil {
		return nil, err
	}
	host, err := url.Parse(enrolment.hubURL)
	if err != nil {
		return nil, fmt.Errorf("the hub's address for devices: %w", err)
	}
	shared := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host.Hostname(), RootCAs: enrolment.roots}
	for i, id := range f.ids {
		d, err := f.newDevice(i, enrolment.hubURL, enrolment.credentials[id], shared)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", id, err)
		}
		f.devices = append(f.devices, d)
	}
	return f, nil
}

func (f *Fleet) newDevice(i int, hubURL string, c credential.Credential, shared *tls.Config) (*device, error) {
	rng := rand.New(rand.NewPCG(f.cfg.Seed, uint64(i)))
	config := client.Config{
		URL:            hubURL,
		Credentials:    client.NewMemoryStore(c),
		TLSConfig:      shared,
		NetDialContext: f.cfg.Dial,
		MaxBatchAge:    f.cfg.BatchAge,
		Spool:          client.NewMemorySpool(f.cfg.SpoolBytes),
		FlushTimeout:   f.cfg.FlushTimeout,
		Logger:         f.cfg.Logger,
		// A clock that stands at its epoch: the SDK takes the hub's.
		ClockUnreliable: rng.Float64() < f.cfg.DeadClocks,
	}
	if f.cfg.Journals != "" {
		config.JournalPath = filepath.Join(f.cfg.Journals, f.ids[i]+".journal")
	}
	if rng.Float64() < f.cfg.BadLinks && f.cfg.Dial == nil {
		link := &badLink{latency: 30 * time.Millisecond, lifetime: 20 * time.Second, rng: rng}
		config.NetDialContext = link.dial
	}
	return newDevice(DeviceConfig{
		Model: models[i%len(models)].name, Interval: f.cfg.Interval, Seed: f.cfg.Seed + uint64(i),
		OnCommand: f.cfg.OnCommand, Client: config,
	}, f.tally)
}

// IDs of the devices, in order.
func (f *Fleet) IDs() []string { return f.ids }

// Run runs the fleet until ctx ends, and returns when every device has
// flushed or given up.
func (f *Fleet) Run(ctx context.Context) Summary {
	f.tally.started = time.Now()
	var devices sync.WaitGroup
	for i, d := range f.devices {
		devices.Go(func() {
			if err := d.run(ctx); err != nil {
				f.refused.Add(1)
				f.cfg.Logger.Warn("simulated device ended", "device", f.ids[i], "error", err)
			}
		})
	}
	devices.Wait()
	return f.Summary()
}

// Summary of the fleet so far.
func (f *Fleet) Summary() Summary {
	s := f.tally.summary(f.devices)
	s.Refused = int(f.refused.Load())
	return s
}

// Online is how many devices have a hub that has proved itself.
func (f *Fleet) Online() int {
	n := 0
	for _, d := range f.devices {
		if d.client().State() == client.Online {
			n++
		}
	}
	return n
}

// Acked is how many rows of each device the hub has acknowledged, by id.
func (f *Fleet) Acked() map[string]uint64 {
	acked := make(map[string]uint64, len(f.devices))
	for i, d := range f.devices {
		acked[f.ids[i]] = d.stats().RowsAcked
	}
	return acked
}
