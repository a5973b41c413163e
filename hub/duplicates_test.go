package hub_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// cuts are the ways in which links are cut: before frames are there, and
// before their acknowledgements are back.
var cuts = []string{
	`{"type":"reset_peer","stream":"upstream","attributes":{"timeout":0}}`,
	`{"type":"reset_peer","stream":"downstream","attributes":{"timeout":0}}`,
	`{"type":"timeout","stream":"downstream","attributes":{"timeout":200}}`,
	`{"type":"timeout","stream":"upstream","attributes":{"timeout":200}}`,
	`{"type":"limit_data","stream":"downstream","attributes":{"bytes":3000}}`,
	`{"type":"limit_data","stream":"upstream","attributes":{"bytes":6000}}`,
}

// Links are cut in every way while devices publish. What they send again is
// no second row.
func TestCutLinksMakeNoDuplicates(t *testing.T) {
	t.Parallel()
	const devices = 12
	db := influxtest.Start(t)
	cfg := influxConfig(t, db)
	cfg.LogLevel = "error"
	h := hubtest.Start(t, cfg)
	link := newLink(t, h.Addr)
	f := newFlock(t, h.Endpoint, devices, func(_ int, cfg *client.Config) {
		cfg.URL = "wss://" + link.addr() + device.Path
		cfg.MaxBatchAge = 5 * time.Millisecond
	})
	f.publish(t, 5*time.Millisecond)
	for _, cut := range append(cuts, cuts...) {
		f.awaitAcks(t, f.acked())
		before := f.sessions()
		toxic, err := link.proxy.Toxics.AddToxicJson(strings.NewReader(cut))
		if err != nil {
			t.Fatal(err)
		}
		hubtest.Eventually(t, "links are cut by "+cut, f.cutSince(before))
		if err := link.proxy.Toxics.RemoveToxic(t.Context(), toxic.Name); err != nil {
			t.Fatal(err)
		}
		hubtest.Eventually(t, "every device is back", func() bool {
			for i, n := range f.sessions() {
				if n <= before[i] {
					return false
				}
			}
			return true
		})
	}
	rows := f.settle(t)
	f.wantStored(t, db)
	wantOneSeriesEach(t, db, devices)
	wantNoQuarantine(t, h.Endpoint)
	if f.resent() == 0 {
		t.Error("no frame was sent again: the cuts show nothing")
	}
	t.Logf("%d rows, %d cuts of %d links, %d frames sent again, no duplicate", rows, 2*len(cuts), devices, f.resent())
}

// sessions of each device so far.
func (f *flock) sessions() []uint64 {
	n := make([]uint64, len(f.gauges))
	for i, g := range f.gauges {
		n[i] = g.Stats().Sessions
	}
	return n
}

// cutSince reports, call after call, whether each device has lost its session
// by now.
func (f *flock) cutSince(sessions []uint64) func() bool {
	cut := make([]bool, len(f.gauges))
	return func() bool {
		all := true
		for i, g := range f.gauges {
			cut[i] = cut[i] || g.State() != client.Online || g.Stats().Sessions > sessions[i]
			all = all && cut[i]
		}
		return all
	}
}

// wantOneSeriesEach fails where a resend was stored under other tags, where
// it would be a row beside the first.
func wantOneSeriesEach(t *testing.T, db *influxtest.Server, devices int) {
	t.Helper()
	var answer struct {
		Results []struct {
			Series []struct{ Values [][]string }
		}
	}
	if err := json.Unmarshal(db.Query(`SHOW SERIES FROM "telemetry"`), &answer); err != nil {
		t.Fatal(err)
	}
	if n := len(answer.Results[0].Series[0].Values); n != devices {
		t.Errorf("%d series for %d devices", n, devices)
	}
}
