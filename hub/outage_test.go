package hub_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"connectrpc.com/connect"

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
	t.Parallel()
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
	o.burst(t)
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

// quarantinedTimes is the times in ns of a device's rows in quarantine. A row
// may be there twice where its device has sent it again, since it was received
// at another time; replayed it is stored once.
func quarantinedTimes(t testing.TB, h hubtest.Endpoint, id string) map[int64]bool {
	t.Helper()
	times := make(map[int64]bool)
	for page := ""; ; {
		list, err := h.Quarantine.ListQuarantine(t.Context(), connect.NewRequest(&operatorv1.ListQuarantineRequest{DeviceId: id, PageSize: 1000, PageToken: page}))
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range list.Msg.Rows {
			times[row.Time.AsTime().UnixNano()] = true
		}
		if page = list.Msg.NextPageToken; page == "" {
			return times
		}
	}
}
