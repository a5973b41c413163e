package hub_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// outage is a store, a hub, and devices that publish all the time.
type outage struct {
	db      *influxtest.Server
	hub     *hubtest.Process
	devices []*outageDevice
	burstOf int // rows

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// outageDevice is a device with a bounded spool, on disk for every second one,
// which gives up what is oldest.
type outageDevice struct {
	gauge
	cfg     client.Config
	dir     string // of the spool; "": in memory
	before  uint64 // rows dropped by the processes before this one
	odd     bool   // some rows cannot be stored
	calls   atomic.Int64
	ballast string
}

// Of the first devices one row of so many cannot be stored: it has text where
// another device has a number.
const (
	oddDevices = 2
	oddEvery   = 97
)

func startOutage(t testing.TB) *outage {
	t.Helper()
	devices, spool := 8, int64(256<<10)
	o := &outage{db: influxtest.Start(t), burstOf: 100}
	cfg := influxConfig(t, o.db)
	cfg.Listen, cfg.LogLevel, cfg.BufferBytes = hubtest.FreeAddr(t), "error", 1<<20
	cfg.DeviceFrames, cfg.DeviceBytes = 1e6, 1e9
	cfg.WindowFrames, cfg.WindowBytes = 8, 64<<10
	if long {
		devices, cfg.BufferBytes, o.burstOf = 200, 64<<20, 500
	}
	o.hub = hubtest.StartProcess(t, cfg)
	numbers := newGauge(t, o.hub.Endpoint, "numbers", nil)
	if err := numbers.publish(t.Context(), client.Double("mode", 0.5)); err != nil {
		t.Fatal(err)
	}
	numbers.flush(t)
	hubtest.Eventually(t, "the mode is known to be a number", func() bool { return len(stored(o.db, "telemetry")) == 1 })
	dir := t.TempDir()
	for i := range devices {
		id := fmt.Sprintf("outage-%03d", i)
		d := &outageDevice{gauge: gauge{id: id}, odd: i < oddDevices, cfg: o.hub.Client(o.hub.CreateDevice(t, id)), ballast: strings.Repeat("x", 512)}
		d.cfg.Full, d.cfg.FlushTimeout, d.cfg.MaxBatchBytes = client.DropOldest, -1, 8<<10
		d.cfg.Spool = client.NewMemorySpool(spool)
		if i%2 == 1 {
			d.dir = filepath.Join(dir, id)
			d.openSpool(t)
		}
		d.Client, d.stop = hubtest.Run(t, d.cfg)
		o.devices = append(o.devices, d)
	}
	return o
}

func (d *outageDevice) openSpool(t testing.TB) {
	t.Helper()
	spool, err := client.OpenFileSpool(d.dir, client.FileSpoolOptions{MaxBytes: 256 << 10, SyncInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.Spool = spool
	t.Cleanup(func() {
		if err := spool.Close(); err != nil {
			t.Error(err)
		}
	})
}

// restart ends the device at once, with all that is on its way, and begins it
// anew with what its spool holds.
func (d *outageDevice) restart(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.stop(); err != nil {
		t.Fatalf("stop %s: %v", d.id, err)
	}
	d.before += d.Stats().RowsDropped
	if err := d.cfg.Spool.(*client.FileSpool).Close(); err != nil {
		t.Fatal(err)
	}
	d.openSpool(t)
	if n := d.cfg.Spool.Dropped(); n != d.before {
		t.Errorf("%s: the spool knows of %d dropped rows after a restart; want %d", d.id, n, d.before)
	}
	d.Client, d.stop = hubtest.Run(t, d.cfg)
}

// take one row.
func (d *outageDevice) take(ctx context.Context) error {
	fields := []client.Field{client.String("ballast", d.ballast)}
	if d.calls.Add(1)%oddEvery == 0 && d.odd {
		fields = append(fields, client.String("mode", "text"))
	}
	return d.gauge.publish(ctx, fields...)
}

// dropped rows, by the words of the SDK in all processes of the device.
func (d *outageDevice) dropped() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.before + d.Stats().RowsDropped
}

func (d *outageDevice) throttles() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Stats().Throttles
}

// publish takes a row every 20 ms on every device, until quiet.
func (o *outage) publish(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel = cancel
	t.Cleanup(o.quiet)
	for _, d := range o.devices {
		o.running.Go(func() {
			ticker := time.NewTicker(20 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				if err := d.take(ctx); err != nil && ctx.Err() == nil {
					if !errors.Is(err, client.ErrClosed) {
						t.Errorf("publish %s: %v", d.id, err)
					}
					return
				}
			}
		})
	}
}

func (o *outage) quiet() {
	o.cancel()
	o.running.Wait()
}

// restart ends and begins the devices that have a spool on disk.
func (o *outage) restart(t testing.TB) {
	t.Helper()
	for _, d := range o.devices {
		if d.dir != "" {
			d.restart(t)
		}
	}
}

// awaitProgress waits until the hub takes rows again that devices have more
// of than it takes.
func (o *outage) awaitProgress(t testing.TB) {
	t.Helper()
	before := status(t, o.hub.Endpoint).RowsAcknowledged
	hubtest.Eventually(t, "the hub takes rows again", func() bool {
		return status(t, o.hub.Endpoint).RowsAcknowledged > before
	})
	o.burst(t)
}

// burst takes many rows on each device.
func (o *outage) burst(t testing.TB) {
	t.Helper()
	for _, d := range o.devices {
		for range o.burstOf {
			if err := d.take(t.Context()); err != nil {
				t.Fatalf("publish %s: %v", d.id, err)
			}
		}
	}
}

// fill goes on until the buffer is full, the hub has refused rows of every
// device, and every device has dropped some more.
func (o *outage) fill(t testing.TB) {
	t.Helper()
	dropped := make([]uint64, len(o.devices))
	for i, d := range o.devices {
		dropped[i] = d.dropped()
	}
	hubtest.Eventually(t, "the hub is full, and so are the spools of all devices", func() bool {
		o.burst(t)
		for i, d := range o.devices {
			if d.dropped() <= dropped[i] || d.throttles() == 0 {
				return false
			}
		}
		b := status(t, o.hub.Endpoint).Buffer
		return b.Bytes > b.MaxBytes*8/10
	})
}
