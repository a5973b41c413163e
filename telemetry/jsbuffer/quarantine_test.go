package jsbuffer_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

func TestQuarantineKeepsRows(t *testing.T) {
	_, q := open(t, jsbuffer.Config{})
	ctx := testContext(t)
	batch := telemetry.NewBatch([]telemetry.Entry{entry(t, "a", 0, 5), entry(t, "b", 10, 5)})
	if err := q.Put(ctx, batch.Slice(3, 7), "field type\nconflict"); err != nil {
		t.Fatal(err)
	}
	if err := q.Put(ctx, batch.Slice(3, 7), "field type conflict"); err != nil {
		t.Fatalf("again: %v", err)
	}
	counts, err := q.Count(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Rows != 4 || counts.ByDevice["a"] != 2 || counts.ByDevice["b"] != 2 || counts.Bytes <= 0 {
		t.Errorf("counts: %+v", counts)
	}
	all, err := q.List(ctx, "", 0, 10)
	if err != nil || len(all) != 4 {
		t.Fatalf("list: %d rows, %v", len(all), err)
	}
	var seconds []int
	for _, row := range all {
		seconds = append(seconds, int(row.Row.Time/1e9-1_700_000_000))
		if row.Reason != "field type conflict" || row.Row.Labels != ",site=north" || row.Row.Device != row.Device {
			t.Errorf("row: %+v", row)
		}
	}
	slices.Sort(seconds)
	if !slices.Equal(seconds, []int{3, 4, 10, 11}) {
		t.Errorf("rows of the seconds %v", seconds)
	}
	page, err := q.List(ctx, "", all[1].ID, 1)
	if err != nil || len(page) != 1 || page[0].ID != all[2].ID {
		t.Errorf("second page: %+v, %v", page, err)
	}
	if none, err := q.List(ctx, "c", 0, 10); err != nil || len(none) != 0 {
		t.Errorf("list of an unknown device: %v, %v", none, err)
	}
	if row, err := q.Get(ctx, all[0].ID); err != nil || row.Row.Time != all[0].Row.Time {
		t.Errorf("get: %+v, %v", row, err)
	}
	if _, err := q.Get(ctx, 999); !errors.Is(err, jsbuffer.ErrNotFound) {
		t.Errorf("get of an unknown id: %v", err)
	}
}

func TestQuarantineReplays(t *testing.T) {
	b, q := open(t, jsbuffer.Config{})
	ctx := testContext(t)
	batch := telemetry.NewBatch([]telemetry.Entry{entry(t, "a", 0, 3), entry(t, "b", 10, 2)})
	if err := q.Put(ctx, batch, "no"); err != nil {
		t.Fatal(err)
	}
	rows, err := q.List(ctx, "a", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	n, err := q.Replay(ctx, jsbuffer.Selection{IDs: []uint64{rows[0].ID, 12345}}, b)
	if err != nil || n != 1 {
		t.Fatalf("replay of one row: %d, %v", n, err)
	}
	// The store refuses it again before the quarantine has forgotten it.
	got := drain(t, b, 1)
	if err := q.Put(ctx, telemetry.NewBatch(got), "still no"); err != nil {
		t.Fatal(err)
	}
	if counts, err := q.Count(ctx); err != nil || counts.Rows != 5 {
		t.Fatalf("a row that was refused again is lost: %+v, %v", counts, err)
	}
	if n, err := q.Replay(ctx, jsbuffer.Selection{Device: "a"}, b); err != nil || n != 3 {
		t.Errorf("replay of a device: %d, %v", n, err)
	}
	if n, err := q.Replay(ctx, jsbuffer.Selection{All: true}, b); err != nil || n != 2 {
		t.Errorf("replay of all: %d, %v", n, err)
	}
	if got := drain(t, b, 5); len(got) != 5 {
		t.Errorf("%d rows replayed", len(got))
	}
	if counts, err := q.Count(ctx); err != nil || counts.Rows != 0 {
		t.Errorf("after the replay: %+v, %v", counts, err)
	}
}

func TestQuarantineDrops(t *testing.T) {
	_, q := open(t, jsbuffer.Config{})
	ctx := testContext(t)
	if err := q.Put(ctx, telemetry.NewBatch([]telemetry.Entry{entry(t, "a", 0, 3), entry(t, "b", 10, 2)}), "no"); err != nil {
		t.Fatal(err)
	}
	rows, err := q.List(ctx, "b", 0, 1)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	for _, tc := range []struct {
		what jsbuffer.Selection
		want uint64
	}{
		{jsbuffer.Selection{IDs: []uint64{rows[0].ID}}, 1},
		{jsbuffer.Selection{Device: "a"}, 3},
		{jsbuffer.Selection{All: true}, 1},
		{jsbuffer.Selection{All: true}, 0},
	} {
		if n, err := q.Drop(ctx, tc.what); err != nil || n != tc.want {
			t.Errorf("drop %+v: %d, %v; want %d", tc.what, n, err, tc.want)
		}
	}
	for _, bad := range []jsbuffer.Selection{{}, {All: true, Device: "a"}} {
		if _, err := q.Drop(ctx, bad); !errors.Is(err, jsbuffer.ErrBadSelection) {
			t.Errorf("drop %+v: %v", bad, err)
		}
	}
}

func TestFullQuarantineSaysSo(t *testing.T) {
	node := startNode(t, t.TempDir())
	ctx := testContext(t)
	q, err := jsbuffer.OpenQuarantine(ctx, node.JetStream(), jsbuffer.QuarantineConfig{MaxBytes: jsbuffer.MinMaxBytes})
	if err != nil {
		t.Fatal(err)
	}
	reason := strings.Repeat("long words ", 90)
	for i := 0; ; i += 100 {
		err := q.Put(ctx, telemetry.NewBatch([]telemetry.Entry{entry(t, "a", i, 100)}), reason)
		if errors.Is(err, telemetry.ErrFull) {
			break
		}
		if err != nil || i > 10_000 {
			t.Fatalf("put %d: %v", i, err)
		}
	}
}
