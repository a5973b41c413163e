package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// long asks for the soak forms of the tests: `make soak`.
var long = os.Getenv("TETHERLINE_TEST_LONG") != ""

// shortOrLong is how long something lasts in CI, and in a soak.
func shortOrLong(short, soak time.Duration) time.Duration {
	if long {
		return soak
	}
	return short
}

// influxConfig is a hub that stores in db, and takes hundreds of devices from
// one address.
func influxConfig(t testing.TB, db *influxtest.Server) hub.Config {
	cfg := hubtest.Config(t)
	cfg.InfluxURL, cfg.InfluxBucket, cfg.InfluxToken, cfg.InfluxOrg = db.URL, db.Bucket, db.Token, db.Org
	cfg.AddressRate = 10_000
	return cfg
}

// numbered is the field by which the tests know a row again.
const numbered = "n"

// stored reads from InfluxDB itself, past the hub: the numbers of all rows of
// a measurement, by device and by time in ns.
func stored(db *influxtest.Server, measurement string) map[string]map[int64]int64 {
	var answer struct {
		Results []struct {
			Series []struct {
				Tags   map[string]string
				Values [][2]int64
			}
		}
	}
	text := db.Query(fmt.Sprintf(`SELECT %q FROM %q GROUP BY "device"`, numbered, measurement))
	if err := json.Unmarshal(text, &answer); err != nil {
		panic(fmt.Sprintf("InfluxDB answers %.200s: %v", text, err))
	}
	devices := make(map[string]map[int64]int64)
	for _, series := range answer.Results[0].Series {
		rows := make(map[int64]int64, len(series.Values))
		for _, v := range series.Values {
			rows[v[0]] = v[1]
		}
		devices[series.Tags["device"]] = rows
	}
	return devices
}

// gauge is a device that publishes numbered rows and remembers every one.
type gauge struct {
	*client.Client
	id   string
	stop func() error

	mu    sync.Mutex
	times []int64 // of the rows published: the number of a row is its index
}

// newGauge enrols a device and runs it. change may be nil.
func newGauge(t testing.TB, h hubtest.Endpoint, id string, change func(*client.Config)) *gauge {
	t.Helper()
	cfg := h.Client(h.CreateDevice(t, id))
	if change != nil {
		change(&cfg)
	}
	g := &gauge{id: id}
	g.Client, g.stop = hubtest.Run(t, cfg)
	return g
}

// publish takes one row, with further fields beside its number.
func (g *gauge) publish(ctx context.Context, fields ...client.Field) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := time.Now().UnixNano()
	if n := len(g.times); n > 0 {
		at = max(at, g.times[n-1]+1)
	}
	fields = append(fields, client.Int(numbered, int64(len(g.times))))
	if err := g.Publish(ctx, client.Row{Time: time.Unix(0, at), Fields: fields}); err != nil {
		return err
	}
	g.times = append(g.times, at)
	return nil
}

// acked is how many of the published rows the hub has acknowledged: since it
// does so in order and none was rejected or dropped, they are the first.
func (g *gauge) acked() int { return int(g.Stats().RowsAcked) }

// published is the ledger by now: the numbers of the rows by their times.
func (g *gauge) published() map[int64]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return ledgerOf(g.times)
}

// firstRows is the ledger of the first n rows.
func (g *gauge) firstRows(n int) map[int64]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return ledgerOf(g.times[:n])
}

func ledgerOf(times []int64) map[int64]int64 {
	rows := make(map[int64]int64, len(times))
	for n, at := range times {
		rows[at] = int64(n)
	}
	return rows
}

// flush waits until the hub has acknowledged every row.
func (g *gauge) flush(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hubtest.Patience)
	defer cancel()
	if err := g.Flush(ctx); err != nil {
		t.Fatalf("flush %s: %v; it is %s with %+v", g.id, err, g.State(), g.Stats())
	}
}

// flock is gauges that publish all the time.
type flock struct {
	hub    hubtest.Endpoint
	gauges []*gauge

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// newFlock enrols n devices. change may be nil.
func newFlock(t testing.TB, h hubtest.Endpoint, n int, change func(i int, cfg *client.Config)) *flock {
	t.Helper()
	f := &flock{hub: h}
	for i := range n {
		f.gauges = append(f.gauges, newGauge(t, h, fmt.Sprintf("gauge-%03d", i), func(cfg *client.Config) {
			if change != nil {
				change(i, cfg)
			}
		}))
	}
	return f
}

// publish starts to take a row every interval on every device, each with more
// beside its number.
func (f *flock) publish(t testing.TB, interval time.Duration, more ...client.Field) {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	t.Cleanup(f.quiet)
	for _, g := range f.gauges {
		f.running.Go(func() {
			ticker := time.NewTicker(interval)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				if err := g.publish(ctx, more...); err != nil && ctx.Err() == nil {
					if !errors.Is(err, client.ErrClosed) {
						t.Errorf("publish %s: %v", g.id, err)
					}
					return
				}
			}
		})
	}
}

// quiet ends the publishing.
func (f *flock) quiet() {
	f.cancel()
	f.running.Wait()
}

// acked is how many rows each device has heard to be durable.
func (f *flock) acked() []int {
	rows := make([]int, len(f.gauges))
	for i, g := range f.gauges {
		rows[i] = g.acked()
	}
	return rows
}

// awaitAcks waits until every device has heard of more rows than before.
func (f *flock) awaitAcks(t testing.TB, before []int) {
	t.Helper()
	hubtest.Eventually(t, "rows of every device are acknowledged", func() bool {
		for i, g := range f.gauges {
			st := g.Stats()
			switch {
			case int(st.RowsAcked) > before[i]:
			case st.Sessions > 0 && st.State == client.Stopped:
				t.Fatalf("the hub has turned %s away for good, after %d of its rows were acknowledged", g.id, st.RowsAcked)
			default:
				return false
			}
		}
		return true
	})
}

// settle ends the publishing and waits until everything is acknowledged. It
// returns how many rows there are.
func (f *flock) settle(t testing.TB) (rows int) {
	t.Helper()
	f.quiet()
	for _, g := range f.gauges {
		g.flush(t)
		st := g.Stats()
		if n := len(g.published()); st.RowsAcked != uint64(n) || st.RowsRejected+st.RowsDropped != 0 {
			t.Fatalf("%s: of %d rows %d are acknowledged, %d rejected, %d dropped; want all acknowledged",
				g.id, n, st.RowsAcked, st.RowsRejected, st.RowsDropped)
		}
		rows += int(st.RowsAcked)
	}
	return rows
}

// resent is how many frames the devices sent again.
func (f *flock) resent() (frames uint64) {
	for _, g := range f.gauges {
		frames += g.Stats().FramesResent
	}
	return frames
}

// wantStored waits until InfluxDB holds as many rows of each device as the
// device has published, or no more can come, and fails unless they are just
// those.
func (f *flock) wantStored(t testing.TB, db *influxtest.Server) {
	t.Helper()
	var all map[string]map[int64]int64
	untilStored(t, f.hub, func() bool {
		all = stored(db, "telemetry")
		for _, g := range f.gauges {
			if len(all[g.id]) < len(g.published()) {
				return false
			}
		}
		return true
	})
	for _, g := range f.gauges {
		wantRows(t, g.id, all[g.id], g.published())
	}
	if t.Failed() {
		t.FailNow() // what follows would wait for those rows
	}
}

// wantRows compares what is stored with the ledger.
func wantRows(t testing.TB, id string, got, want map[int64]int64) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	missing, strange := 0, 0
	for at, n := range want {
		if stored, ok := got[at]; !ok || stored != n {
			missing++
		}
	}
	for at := range got {
		if _, ok := want[at]; !ok {
			strange++
		}
	}
	t.Errorf("%s: %d rows are stored, %d are in the ledger: %d of these are missing, and %d were never published",
		id, len(got), len(want), missing, strange)
}

// status of the hub.
func status(t testing.TB, h hubtest.Endpoint) *operatorv1.GetStatusResponse {
	t.Helper()
	answer, err := h.Status.GetStatus(t.Context(), connect.NewRequest(&operatorv1.GetStatusRequest{}))
	if err != nil {
		t.Fatalf("status of the hub: %v", err)
	}
	return answer.Msg
}

// wantNoQuarantine fails where a row is in quarantine.
func wantNoQuarantine(t testing.TB, h hubtest.Endpoint) {
	t.Helper()
	if n := status(t, h).RowsQuarantined; n != 0 {
		t.Errorf("%d rows are in quarantine; want none", n)
	}
}
