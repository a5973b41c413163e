package wire_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// threeEntries are entries of 1, 3 and 4 rows, the last one of two series.
func threeEntries() []telemetry.Entry {
	return []telemetry.Entry{entryOf(good, 1), entryOf(timed(0, 1, 2), 3), entryOf(rowsOver(1, 3), 4)}
}

func TestRowsOfSlices(t *testing.T) {
	b := telemetry.NewBatch(threeEntries())
	all := rowsOf(t, b)
	if len(all) != 8 {
		t.Fatalf("%d rows, want 8", len(all))
	}
	for i := 0; i <= len(all); i++ {
		for j := i; j <= len(all); j++ {
			sameRows(t, rowsOf(t, b.Slice(i, j)), all[i:j])
			// Bounds that Batch.Slice would have tightened.
			sameRows(t, rowsOf(t, telemetry.Batch{Entries: b.Entries, Skip: i, Rows: j - i}), all[i:j])
		}
	}
}

func TestRowsStopsOnError(t *testing.T) {
	stop := errors.New("stop")
	n := 0
	err := wire.Rows(telemetry.NewBatch(threeEntries()), func(*telemetry.Row) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	})
	if err != stop || n != 3 {
		t.Fatalf("%v after %d rows", err, n)
	}
}

func TestRowsOfCorruptEntries(t *testing.T) {
	none := concat(varintField(1, 7), bytesField(2, nil))
	tests := []struct {
		name  string
		entry telemetry.Entry
		want  string
	}{
		{"truncated", entryOf(good[:len(good)-1], 1), "broken off"},
		{"too few rows", entryOf(good, 2), "1 rows instead of 2"},
		{"too many rows", entryOf(rowsOver(3), 2), "more than 2 rows"},
		{"no rows", entryOf(varintField(1, 7), 1), "0 rows instead of 1"},
		{"no values", entryOf(none, 1), "no value"},
		{"too few values", entryOf(column(3, doubles("a", 1, 2)), 3), "too few values"},
		{"broken deltas", entryOf(concat(varintField(1, 7), bytesField(2, bytesField(3, []byte{0x80}))), 1), "time delta"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := telemetry.NewBatch([]telemetry.Entry{tt.entry, entryOf(good, 1)})
			err := wire.Rows(b, func(*telemetry.Row) error { return nil })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
		})
	}
	b := telemetry.Batch{Entries: threeEntries(), Skip: 6, Rows: 3}
	if err := wire.Rows(b, func(*telemetry.Row) error { return nil }); err == nil {
		t.Fatal("a batch beyond its entries gives no error")
	}
}

// TestManyAtOnce runs Check and AppendLines side by side, for the race
// detector to see that their scratch memory is nobody else's.
func TestManyAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for worker := range uint64(4) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(worker, 5))
			var fields wire.FieldSet
			for range 200 {
				msg := marshal(generator{Rand: rnd}.telemetry())
				info, err := wire.Check(msg, testNow, &fields)
				if err != nil {
					t.Error(err)
					return
				}
				want, err := wire.AppendLines(nil, telemetry.NewBatch([]telemetry.Entry{entryOf(msg, info.Rows)}))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := wire.AppendLines(nil, telemetry.NewBatch([]telemetry.Entry{entryOf(msg, info.Rows)}))
				if err != nil || string(got) != string(want) {
					t.Errorf("lines differ: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestNoAllocations: neither the check of a known device's frame nor its lines
// cost memory.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		return // sync.Pool drops at random under the race detector
	}
	msg := rowsOver(20)
	var fields wire.FieldSet
	var lines []byte
	b := telemetry.NewBatch([]telemetry.Entry{entryOf(msg, 20)})
	n := testing.AllocsPerRun(200, func() {
		if _, err := wire.Check(msg, testNow, &fields); err != nil {
			t.Fatal(err)
		}
		var err error
		if lines, err = wire.AppendLines(lines[:0], b); err != nil {
			t.Fatal(err)
		}
	})
	if n > 4 { // a frame of 20 rows; a garbage collection may empty the pools
		t.Fatalf("%v allocations a frame", n)
	}
}
