package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

func TestMaxAgeDeletesRowsAndFields(t *testing.T) {
	s := open(t, Config{})
	now := time.Now().Truncate(time.Hour).Add(30 * time.Minute)
	var rows []telemetry.Row
	for i := range 2*stepRows + 100 { // a row a minute, the newest now
		r := reading("d", now.Add(-time.Duration(i)*time.Minute), "a", telemetry.IntValue(int64(i)))
		rows = append(rows, r)
	}
	rows = append(rows, reading("d", now.Add(-50*time.Hour), "gone", telemetry.IntValue(1)), reading("old", now.Add(-50*time.Hour), "a", telemetry.IntValue(1)))
	write(t, s, rows...)
	s.config.MaxAge = 10 * time.Hour
	if err := s.retainOnce(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	wantCount(t, s, "d", 601) // the row at the limit stays
	wantCount(t, s, "old", 0)
	fields, err := s.Fields(t.Context(), "d")
	if err != nil || len(fields) != 1 || fields[0].Name != "a" {
		t.Fatalf("%+v, %v", fields, err)
	}
	// A field that comes back is no other field.
	write(t, s, reading("d", now, "gone", telemetry.StringValue("back")), reading("d", now, "b", telemetry.BoolValue(true)))
	page, err := s.Query(t.Context(), telemetry.Query{Device: "d", From: now})
	if err != nil || len(page.Rows) != 1 || len(page.Rows[0].Fields) != 3 || page.Rows[0].Fields[2].Value.Str() != "back" {
		t.Fatalf("%+v, %v", page, err)
	}
}

func TestMaxBytesDeletesTheOldestAndShrinksTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	s := open(t, Config{Path: path})
	base := time.Now().Add(-24 * time.Hour)
	for part := range 12 {
		var rows []telemetry.Row
		for i := range 500 {
			n := part*500 + i
			rows = append(rows, reading(fmt.Sprintf("d%d", n%3), base.Add(time.Duration(n)*time.Second), "s", telemetry.StringValue(fmt.Sprint(n)+strings.Repeat("x", 1000))))
		}
		write(t, s, rows...)
	}
	before := fileSizeOf(t, s)
	s.config.MaxBytes = before / 3
	if err := s.retainOnce(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if after := fileSizeOf(t, s); after > s.config.MaxBytes || after < s.config.MaxBytes/2 {
		t.Errorf("%d bytes became %d, want up to %d", before, after, s.config.MaxBytes)
	}
	oldest := base.Add(24 * time.Hour)
	var kept int64
	for d := range 3 {
		page, err := s.Query(t.Context(), telemetry.Query{Device: fmt.Sprintf("d%d", d), Limit: telemetry.MaxPageRows})
		if err != nil {
			t.Fatal(err)
		}
		kept += int64(len(page.Rows))
		if first := page.Rows[0].Time; first.Before(oldest) {
			oldest = first
		}
		if last := page.Rows[len(page.Rows)-1].Time; last.Before(base.Add(5990 * time.Second)) {
			t.Errorf("the newest rows are gone: %v", last)
		}
	}
	// Exactly the oldest are gone, over all devices.
	if want := int64(base.Add(6000*time.Second).Sub(oldest) / time.Second); kept != want {
		t.Errorf("%d rows are left, want the %d from %v on", kept, want, oldest)
	}
	var mode int
	if err := s.writer.conn.QueryRowContext(t.Context(), "PRAGMA auto_vacuum").Scan(&mode); err != nil || mode != 2 {
		t.Errorf("auto_vacuum %d, %v", mode, err)
	}
}

// fileSizeOf is the size of the file with its log folded in.
func fileSizeOf(t *testing.T, s *Store) int64 {
	t.Helper()
	if _, err := s.writer.conn.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.config.Path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// The background goroutine is woken by writes over the bound, while writes go
// on.
func TestRetentionRunsBesideWrites(t *testing.T) {
	s := open(t, Config{MaxBytes: MinMaxBytes})
	base := time.Now().Add(-time.Hour)
	deadline := time.Now().Add(2 * time.Minute)
	for n := 0; ; n++ {
		var rows []telemetry.Row
		for i := range 100 {
			rows = append(rows, reading("d", base.Add(time.Duration(n*100+i)*time.Millisecond), "s", telemetry.StringValue(strings.Repeat("y", 1000))))
		}
		write(t, s, rows...)
		count, err := s.Count(t.Context(), "d", "", time.Time{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if count < int64(n*100) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing was deleted of %d rows", count)
		}
	}
}
