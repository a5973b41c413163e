package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// One of many devices sends text where the others send numbers, among good
// rows of its own. InfluxDB refuses just that: it goes into quarantine with
// InfluxDB's words, everything else is stored, and when the cause is mended a
// replay stores the rest.
func TestTypeConflictStopsNothingElse(t *testing.T) {
	t.Parallel()
	const devices, rows, bad = 40, 50, 12
	db := influxtest.Start(t)
	h := hubtest.Start(t, influxConfig(t, db))
	f := newFlock(t, h.Endpoint, devices, nil)
	level := func(g *gauge, i int, value client.Field) {
		row := client.Row{Measurement: "level", Time: time.Now().Add(time.Duration(i)), Fields: []client.Field{value, client.Int(numbered, int64(i))}}
		if err := g.Publish(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	first, sick := f.gauges[0], f.gauges[devices/2]
	level(first, 0, client.Double("depth", 0.5))
	first.flush(t)
	hubtest.Eventually(t, "the depth is known to be a number", func() bool { return len(stored(db, "level")) == 1 })

	for i := range rows {
		for _, g := range f.gauges {
			if err := g.publish(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if i < bad {
			level(sick, i, client.String("depth", "deep"))
		}
	}
	for _, g := range f.gauges {
		g.flush(t)
	}
	f.wantStored(t, db)

	quarantined := awaitQuarantine(t, h.Endpoint, bad)
	for _, row := range quarantined {
		if row.DeviceId != sick.id || row.Measurement != "level" || row.Values["depth"].GetStringValue() != "deep" {
			t.Errorf("in quarantine: %v; want rows of %s with text in depth", row, sick.id)
		}
		if !strings.Contains(row.Reason, "field type conflict") {
			t.Errorf("reason %q; want InfluxDB's words", row.Reason)
		}
	}

	// The cause is still there: a replay brings them back into quarantine.
	replay(t, h.Endpoint, bad)
	awaitQuarantine(t, h.Endpoint, bad)
	if n := len(stored(db, "level")[sick.id]); n != 0 {
		t.Fatalf("%d rows with text are stored", n)
	}
	db.Query(`DROP MEASUREMENT "level"`)
	replay(t, h.Endpoint, bad)
	hubtest.Eventually(t, "the replayed rows are stored", func() bool { return len(stored(db, "level")[sick.id]) == bad })
	wantNoQuarantine(t, h.Endpoint)
	f.wantStored(t, db)
}

// awaitQuarantine waits until just n rows are in quarantine and none is on
// its way there.
func awaitQuarantine(t testing.TB, h hubtest.Endpoint, n int) []*operatorv1.QuarantinedRow {
	t.Helper()
	hubtest.Eventually(t, fmt.Sprintf("%d rows are in quarantine", n), func() bool {
		s := status(t, h)
		return s.RowsQuarantined >= uint64(n) && s.Buffer.Chunks == 0
	})
	list, err := h.Quarantine.ListQuarantine(t.Context(), connect.NewRequest(&operatorv1.ListQuarantineRequest{PageSize: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Msg.Rows) != n || list.Msg.Total != uint64(n) {
		t.Fatalf("%d rows listed, %d in quarantine; want %d", len(list.Msg.Rows), list.Msg.Total, n)
	}
	return list.Msg.Rows
}

// replay everything in quarantine, which are n rows.
func replay(t testing.TB, h hubtest.Endpoint, n int) {
	t.Helper()
	answer, err := h.Quarantine.ReplayQuarantine(t.Context(), connect.NewRequest(&operatorv1.ReplayQuarantineRequest{All: true}))
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	if answer.Msg.Replayed != uint64(n) {
		t.Fatalf("%d rows replayed; want %d", answer.Msg.Replayed, n)
	}
}
