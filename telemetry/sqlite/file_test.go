package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// The log stays bounded while readers overlap without end, and more of them
// than there are connections, in rows whose fields are new to them, do not
// stand in each other's way.
func TestManyReadersBesideWrites(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Path: filepath.Join(dir, "t.db")})
	s.writer.logStep, s.writer.foldAt = 1<<20, 1<<20
	base := time.Now().Add(-time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	var readersDone sync.WaitGroup
	for range 3 * readers {
		readersDone.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Query(ctx, telemetry.Query{Device: "d", Limit: 5}); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var most int64
	for n := range 24 {
		var rows []telemetry.Row
		for i := range 20 {
			rows = append(rows, reading("d", base.Add(-time.Duration(n*20+i)), fmt.Sprintf("f%d", n), telemetry.StringValue(strings.Repeat("z", 8000))))
		}
		write(t, s, rows...)
		if info, err := os.Stat(filepath.Join(dir, "t.db-wal")); err == nil {
			most = max(most, info.Size())
		}
	}
	cancel()
	readersDone.Wait()
	if most > 2*s.writer.logStep {
		t.Errorf("the log grew to %d bytes", most)
	}
	wantCount(t, s, "d", 24*20)
}

// Rows over inlineBytes are kept apart: through every way that a row can
// change, and until it is deleted.
func TestLargeRowsAreKeptApart(t *testing.T) {
	s := open(t, Config{})
	now := time.Now()
	text := func(c string) telemetry.Value { return telemetry.StringValue(strings.Repeat(c, inlineBytes)) }
	wantLarge := func(want int64) {
		t.Helper()
		var n int64
		if err := s.read.QueryRow("SELECT count(*) FROM large").Scan(&n); err != nil || n != want {
			t.Fatalf("%d large rows, %v; want %d", n, err, want)
		}
	}
	wantFields := func(want ...telemetry.Value) {
		t.Helper()
		page, err := s.Query(t.Context(), telemetry.Query{Device: "d", From: now, To: now.Add(1)})
		if err != nil || len(page.Rows) != 1 || len(page.Rows[0].Fields) != len(want) {
			t.Fatalf("%+v, %v", page, err)
		}
		for i, v := range want {
			if page.Rows[0].Fields[i].Value != v {
				t.Fatalf("field %d is %+v", i, page.Rows[0].Fields[i])
			}
		}
	}
	write(t, s, reading("d", now, "a", text("a")))
	wantLarge(1)
	write(t, s, reading("d", now, "a", text("a"))) // again
	wantLarge(1)
	write(t, s, reading("d", now, "b", telemetry.IntValue(7))) // small over large
	wantLarge(1)
	wantFields(text("a"), telemetry.IntValue(7))
	write(t, s, reading("d", now, "c", text("c"))) // large over large
	wantLarge(1)
	wantFields(text("a"), telemetry.IntValue(7), text("c"))
	write(t, s, reading("d", now, "c", telemetry.IntValue(1)), reading("d", now, "a", telemetry.IntValue(2))) // small again
	wantLarge(0)
	wantFields(telemetry.IntValue(2), telemetry.IntValue(7), telemetry.IntValue(1))
	var rows []telemetry.Row
	for i := range 3 * groupRows {
		rows = append(rows, reading("d", now.Add(time.Duration(i)), "a", text("z")))
	}
	write(t, s, rows[:groupRows]...)
	write(t, s, rows...) // some of a group are there
	wantLarge(3 * groupRows)
	s.config.MaxAge = time.Nanosecond
	if err := s.retainOnce(t.Context(), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	wantLarge(0)
	wantCount(t, s, "d", 0)
}
