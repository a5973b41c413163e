package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// InfluxDB is away until the hub's buffer is full and the devices' spools are
// full too; meanwhile the hub is killed and devices are restarted. When all is
// back, each row that a device has taken is stored, in quarantine, or counted
// as dropped by that device: the three add up for every device, none is in two
// of them, and operators see the count.
func TestLongOutageAddsUp(t *testing.T) {
	o := startOutage(t)
	o.publish(t)
	for _, d := range o.devices {
		hubtest.Eventually(t, "rows are acknowledged", func() bool { return d.acked() > 0 })
	}
	o.db.Stop()
	o.fill(t)
	// The hub is killed when it has just begun to take rows again.
	o.db.Start()
	o.awaitProgress(t)
	o.hub.Kill()
	o.db.Stop()
	o.burst(t) // devices drop while nobody is there
	o.hub.Start()
	o.fill(t)
	o.restart(t)
	o.fill(t)
	o.wantFull(t)

	backlog := status(t, o.hub.Endpoint).Buffer
	o.db.Start()
	o.awaitProgress(t)
	o.restart(t)
	o.burst(t)
	hubtest.Eventually(t, "the backlog is stored while devices publish on", func() bool {
		s := status(t, o.hub.Endpoint)
		return s.RowsStored > 0 && s.Buffer.Bytes < backlog.MaxBytes/10
	})
	o.quiet()
	for _, d := range o.devices {
		d.flush(t)
	}
	hubtest.Eventually(t, "everything is stored or in quarantine", func() bool {
		return status(t, o.hub.Endpoint).Buffer.Chunks == 0
	})
	o.wantSum(t, backlog)
}

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

// wantFull checks that a full hub acknowledges nothing.
func (o *outage) wantFull(t testing.TB) {
	t.Helper()
	acked := uint64(0)
	for _, d := range o.devices {
		acked += d.Stats().RowsAcked
	}
	taken := status(t, o.hub.Endpoint)
	// A row is half a KiB at least.
	if most := taken.Buffer.MaxBytes / 512; taken.RowsAcknowledged > most || acked == 0 {
		t.Errorf("%d rows are acknowledged by a hub with room for %d", taken.RowsAcknowledged, most)
	}
}

// wantSum checks the books of every device.
func (o *outage) wantSum(t testing.TB, backlog *operatorv1.GetStatusResponse_Buffer) {
	t.Helper()
	all, counts := stored(o.db, "telemetry"), rowCounts(o.db, "telemetry")
	var published, kept, refused, dropped int
	for _, d := range o.devices {
		ledger, quarantined := d.published(), quarantinedTimes(t, o.hub.Endpoint, d.id)
		for at, n := range all[d.id] {
			if want, ok := ledger[at]; !ok || n != want {
				t.Fatalf("%s: a row is stored that was never published", d.id)
			}
			if quarantined[at] {
				t.Errorf("%s: row %d is stored and in quarantine", d.id, n)
			}
		}
		for at := range quarantined {
			if _, ok := ledger[at]; !ok {
				t.Fatalf("%s: a row is in quarantine that was never published", d.id)
			}
		}
		if counts[d.id] != len(all[d.id]) {
			t.Errorf("%s: %d rows are stored, of %d times", d.id, counts[d.id], len(all[d.id]))
		}
		gone := int(d.dropped())
		if sum := len(all[d.id]) + len(quarantined) + gone; sum != len(ledger) {
			t.Errorf("%s: %d rows were published; %d are stored, %d in quarantine, %d dropped: %+d", d.id,
				len(ledger), len(all[d.id]), len(quarantined), gone, sum-len(ledger))
		}
		answer, err := o.hub.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: d.id}))
		if err != nil {
			t.Fatal(err)
		}
		if n := answer.Msg.Device.DroppedRows; gone == 0 || n != uint64(gone) || d.cfg.Spool.Dropped() != n {
			t.Errorf("%s: operators see %d dropped rows, the SDK counts %d, its spool %d", d.id, n, gone, d.cfg.Spool.Dropped())
		}
		published, kept, refused, dropped = published+len(ledger), kept+len(all[d.id]), refused+len(quarantined), dropped+gone
	}
	t.Logf("%d rows of %d devices = %d stored + %d in quarantine + %d dropped by devices; %d of %d KiB were in the buffer",
		published, len(o.devices), kept, refused, dropped, backlog.Bytes>>10, backlog.MaxBytes>>10)
}

// rowCounts is how many rows each device has in InfluxDB, whatever their
// other tags.
func rowCounts(db *influxtest.Server, measurement string) map[string]int {
	var answer struct {
		Results []struct {
			Series []struct {
				Tags   map[string]string
				Values [][2]int64
			}
		}
	}
	text := db.Query(fmt.Sprintf(`SELECT COUNT(%q) FROM %q GROUP BY "device"`, numbered, measurement))
	if err := json.Unmarshal(text, &answer); err != nil {
		panic(fmt.Sprintf("InfluxDB answers %.200s: %v", text, err))
	}
	counts := make(map[string]int)
	for _, s := range answer.Results[0].Series {
		counts[s.Tags["device"]] = int(s.Values[0][1])
	}
	return counts
}

// quarantinedTimes is the times in ns of a device's rows in quarantine.
func quarantinedTimes(t testing.TB, h hubtest.Endpoint, id string) map[int64]bool {
	t.Helper()
	times := make(map[int64]bool)
	for page := ""; ; {
		list, err := h.Quarantine.ListQuarantine(t.Context(), connect.NewRequest(&operatorv1.ListQuarantineRequest{DeviceId: id, PageSize: 1000, PageToken: page}))
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range list.Msg.Rows {
			at := row.Time.AsTime().UnixNano()
			if times[at] {
				t.Errorf("%s: a row is in quarantine twice", id)
			}
			times[at] = true
		}
		if page = list.Msg.NextPageToken; page == "" {
			return times
		}
	}
}
