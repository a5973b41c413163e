package hub_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// InfluxDB is away until the buffer is full. The hub throttles, and then
// acknowledges nothing; it drops nothing. Devices spool, and the one whose
// spool is too small counts what it gives up, which an operator sees. When
// InfluxDB is back everything is stored that was acknowledged, and no more.
func TestFullBufferRefusesAndDropsNothing(t *testing.T) {
	t.Parallel()
	const patient, rowsEach = 6, 600
	db := influxtest.Start(t)
	cfg := influxConfig(t, db)
	cfg.BufferBytes = 1 << 20
	cfg.LogLevel = "error"
	h := hubtest.Start(t, cfg)
	f := newFlock(t, h.Endpoint, patient, func(_ int, cfg *client.Config) { cfg.Spool = client.NewMemorySpool(8 << 20) })
	forgetful := newGauge(t, h.Endpoint, "forgetful", func(cfg *client.Config) {
		cfg.Spool, cfg.Full = client.NewMemorySpool(64<<10), client.DropOldest
	})
	all := append([]*gauge{forgetful}, f.gauges...)
	for _, g := range all {
		if err := g.publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.flush(t)
	}
	db.Stop()

	// 600 rows of half a KiB of each device are twice what the buffer holds;
	// some devices may have got all of theirs in, before the second round.
	ballast := client.String("ballast", strings.Repeat("x", 512))
	publishAll(t, all, rowsEach, ballast)
	publishAll(t, all, rowsEach, ballast)
	hubtest.Eventually(t, "every device is throttled", func() bool {
		throttled := true
		for _, g := range all {
			if st := g.Stats(); st.Throttles == 0 {
				throttled = false
				if st.RowsAcked+st.RowsDropped == st.RowsPublished { // it has got in all it has, being faster than the others
					publishAll(t, []*gauge{g}, 10, ballast)
				}
			}
		}
		return throttled
	})
	// What waits for its fsync throttles too, before there is much on disk.
	var full *operatorv1.GetStatusResponse
	hubtest.Eventually(t, "the status shows most of the buffer full", func() bool {
		full = status(t, h.Endpoint)
		return full.Buffer.Bytes >= full.Buffer.MaxBytes/2
	})
	if full.Buffer.MaxBytes != uint64(cfg.BufferBytes) {
		t.Errorf("the status shows a buffer of %d bytes; want %d", full.Buffer.MaxBytes, cfg.BufferBytes)
	}
	publishAll(t, []*gauge{forgetful}, 10*rowsEach, ballast) // more than the buffer can have room left for
	acked, published := 0, 0
	for _, g := range all {
		acked += g.acked()
		published += len(g.published())
	}
	if acked >= published/2 {
		t.Errorf("%d of %d rows are acknowledged while a buffer of 1 MiB is full", acked, published)
	}
	dropped := forgetful.Stats().RowsDropped
	if dropped == 0 {
		t.Error("a spool of 64 KiB has dropped nothing")
	}

	db.Start()
	for _, g := range all {
		g.flush(t)
	}
	f.wantStored(t, db)
	st := forgetful.Stats()
	hubtest.Eventually(t, "what "+forgetful.id+" kept is stored", func() bool {
		return len(stored(db, "telemetry")[forgetful.id]) >= int(st.RowsAcked)
	})
	kept, ledger := stored(db, "telemetry")[forgetful.id], forgetful.published()
	for at, n := range kept {
		if number, ok := ledger[at]; !ok || number != n {
			t.Fatalf("a row of %s is stored that was never published", forgetful.id)
		}
	}
	// A frame that is given up on its way may arrive all the same.
	if len(kept) < int(st.RowsAcked) || len(kept) > int(st.RowsAcked+st.RowsDropped) {
		t.Errorf("%s: %d rows are stored, %d acknowledged", forgetful.id, len(kept), st.RowsAcked)
	}
	if st.RowsPublished != st.RowsAcked+st.RowsDropped || st.RowsRejected != 0 {
		t.Errorf("of %d rows of %s %d are acknowledged and %d dropped; want all accounted for", st.RowsPublished, forgetful.id, st.RowsAcked, st.RowsDropped)
	}
	hubtest.Eventually(t, "an operator sees what was dropped", func() bool {
		d, err := h.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: forgetful.id}))
		return err == nil && d.Msg.Device.DroppedRows == st.RowsDropped
	})
	wantNoQuarantine(t, h.Endpoint)
	t.Logf("%d of %d rows acknowledged when the buffer was full; at the end %d, and %d dropped by one device",
		acked, published, uint64(published)-st.RowsDropped, st.RowsDropped)
}

// publishAll takes n rows on each device, all at once.
func publishAll(t testing.TB, gauges []*gauge, n int, fields ...client.Field) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hubtest.Patience)
	defer cancel()
	var running sync.WaitGroup
	for _, g := range gauges {
		running.Go(func() {
			for range n {
				if err := g.publish(ctx, fields...); err != nil {
					t.Errorf("publish %s: %v", g.id, err)
					return
				}
			}
		})
	}
	running.Wait()
}
