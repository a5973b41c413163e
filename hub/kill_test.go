package hub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// The hub is killed ten times while devices publish, and InfluxDB is away for
// some of that time: no row that was acknowledged is missing, none is there
// twice, and what had to wait is stored while new rows go on coming.
func TestKillingTheHubLosesNothing(t *testing.T) {
	t.Parallel()
	const devices, kills = 16, 10
	db := influxtest.Start(t)
	cfg := influxConfig(t, db)
	cfg.Listen = hubtest.FreeAddr(t)
	cfg.LogLevel = "error"
	h := hubtest.StartProcess(t, cfg)
	f := newFlock(t, h.Endpoint, devices, fileSpools(t))
	f.publish(t, 20*time.Millisecond)
	began := time.Now()

	away := shortOrLong(5*time.Second, 20*time.Second)
	var back <-chan time.Time
	f.awaitAcks(t, make([]int, devices))
	for kill := range kills {
		if kill == 2 {
			db.Stop()
			back = time.After(away)
		}
		// At any moment of what the hub does with the rows that come now.
		f.awaitAcks(t, f.acked())
		pauseUpTo(t, 100*time.Millisecond)
		h.Kill()
		h.Start()
	}
	f.awaitAcks(t, f.acked())
	select {
	case <-back:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	backlog := f.acked()
	db.Start()
	f.wantBacklogStored(t, db, backlog)
	f.awaitAcks(t, backlog)

	rows := f.settle(t)
	took := time.Since(began)
	f.wantStored(t, db)
	wantNoQuarantine(t, h.Endpoint)
	t.Logf("%d rows of %d devices acknowledged in %.1f s over %d kills, InfluxDB away for %v; %d frames sent again; the ledger and InfluxDB agree",
		rows, devices, took.Seconds(), kills, away, f.resent())
}

// fileSpools gives every second device a spool on disk.
func fileSpools(t testing.TB) func(i int, cfg *client.Config) {
	dir := t.TempDir()
	return func(i int, cfg *client.Config) {
		if i%2 == 0 {
			return
		}
		spool, err := client.OpenFileSpool(filepath.Join(dir, fmt.Sprint(i)), client.FileSpoolOptions{SyncInterval: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := spool.Close(); err != nil {
				t.Error(err)
			}
		})
		cfg.Spool = spool
	}
}

// pauseUpTo lets a random part of a while go by.
func pauseUpTo(t testing.TB, while time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rand.N(while))
	defer cancel()
	<-ctx.Done()
}

// wantBacklogStored waits until the first rows of each device are in
// InfluxDB. They are stored while the devices publish on.
func (f *flock) wantBacklogStored(t testing.TB, db *influxtest.Server, first []int) {
	t.Helper()
	hubtest.Eventually(t, "the rows that were acknowledged while InfluxDB was away are stored", func() bool {
		all := stored(db, "telemetry")
		for i, g := range f.gauges {
			for at := range g.firstRows(first[i]) {
				if _, ok := all[g.id][at]; !ok {
					return false
				}
			}
		}
		return true
	})
}
