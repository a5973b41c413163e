//go:build linux

package hub_test

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/powertest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

var powerSeed = flag.Uint64("power.seed", 0, "seed of what survives on the disks of TestPowerLoss…; 0: a new one")

// powerOptions are those of a disk whose seed the test says.
func powerOptions(t testing.TB) powertest.Options {
	t.Helper()
	seed := *powerSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("to repeat what survives: -power.seed=%d", seed)
	// Half of the disks are of the kind that keeps more than was promised.
	return powertest.Options{Seed: seed, FileKeepsName: seed%2 == 0}
}

// powerConfig is a hub with its data folder on the disk, which it makes
// itself. Its buffer is in files of 4 MiB, the smallest there are.
func powerConfig(t testing.TB, disk *powertest.Disk) hub.Config {
	cfg := hubtest.Config(t)
	cfg.Data = filepath.Join(disk.Dir(), "hub")
	cfg.Listen = hubtest.FreeAddr(t)
	cfg.LogLevel = "error"
	cfg.AddressRate = 10_000
	cfg.BufferBytes = 30 << 20
	return cfg
}

// padding makes a row large, so that files roll over in a test's time.
var padding = client.String("pad", strings.Repeat("0123456789abcdef", 200))

// The power goes while devices publish, commands run and operators change
// things: nothing that anybody was told is undone. The store is on a disk of
// its own and often away, so that rows wait in the buffer when it happens.
func TestPowerLossTakesNothingFromTheBuffer(t *testing.T) {
	t.Parallel()
	db := influxtest.Start(t)
	p := newPower(t, 8, func(cfg *hub.Config) {
		cfg.InfluxURL, cfg.InfluxBucket, cfg.InfluxToken, cfg.InfluxOrg = db.URL, db.Bucket, db.Token, db.Org
	})
	interval := shortOrLong(10*time.Millisecond, 40*time.Millisecond)
	p.run(t, shortOrLongTimes(3, 30), interval, func(int) {
		// What comes while the store is away must fit into the buffer, with
		// what comes back into it: a loss of power undoes removals.
		switch away := db.PID() == 0; {
		case away:
			db.Start()
		case status(t, p.h.Endpoint).Buffer.Bytes < 8<<20:
			db.Stop()
		}
	})
	if db.PID() == 0 {
		db.Start()
	}
	rows := p.flock.settle(t)
	p.flock.wantStored(t, db)
	p.wantAllConfirmed(t)
	p.report(t, rows)
}

// The same with the embedded store, which is on the disk that loses power: a
// row leaves the buffer when it is durable in the store.
func TestPowerLossTakesNothingFromTheEmbeddedStore(t *testing.T) {
	t.Parallel()
	p := newPower(t, 4, func(*hub.Config) {})
	p.run(t, shortOrLongTimes(3, 30), 20*time.Millisecond, func(int) {})
	rows := p.flock.settle(t)
	p.wantStoredHere(t)
	p.wantAllConfirmed(t)
	p.report(t, rows)
}

// The tests above see what a disk loses: one that accepts syncs without doing
// them loses what was acknowledged.
func TestPowerLossOfALyingDiskIsSeen(t *testing.T) {
	t.Parallel()
	disk := powertest.New(t, powertest.Options{Forgetful: true})
	h := hubtest.StartProcess(t, powerConfig(t, disk))
	f := newFlock(t, h.Endpoint, 4, nil)
	f.publish(t, 5*time.Millisecond)
	f.awaitAcks(t, make([]int, len(f.gauges)))
	disk.Lie(true)
	f.awaitAcks(t, f.acked())
	f.awaitAcks(t, f.acked())
	f.quiet()
	for _, g := range f.gauges {
		g.flush(t)
	}
	h.Kill()
	disk.Cut(t)
	disk.Lie(false)
	h.Start()
	hubtest.Eventually(t, "the buffer is empty", func() bool { return status(t, h.Endpoint).Buffer.Chunks == 0 })
	missing := 0
	for _, g := range f.gauges {
		missing += g.acked() - int(h.Count(t, g.id))
	}
	if missing <= 0 {
		t.Errorf("of all acknowledged rows %d are missing; want some: a lost sync goes unnoticed", missing)
	}
	t.Logf("%d acknowledged rows are missing", missing)
}

func shortOrLongTimes(short, soak int) int {
	if long {
		return soak
	}
	return short
}
