package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

func batch(t testing.TB, rows ...telemetry.Row) telemetry.Batch {
	t.Helper()
	var entries []telemetry.Entry
	for i, r := range rows {
		r.Measurement = telemetry.DefaultMeasurement
		bytes, err := wire.Encode(uint64(i+1), []telemetry.Row{r})
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, telemetry.Entry{Device: r.Device, Rows: 1, Telemetry: bytes})
	}
	return telemetry.NewBatch(entries)
}

func reading(device string, at time.Time, name string, v telemetry.Value) telemetry.Row {
	return telemetry.Row{Device: device, Time: at.UnixNano(), Fields: []telemetry.Field{{Name: name, Value: v}}}
}

func write(t *testing.T, s *Store, rows ...telemetry.Row) {
	t.Helper()
	if err := s.Write(t.Context(), batch(t, rows...)); err != nil {
		t.Fatal(err)
	}
}

func wantCount(t *testing.T, s *Store, device string, want int64) {
	t.Helper()
	n, err := s.Count(t.Context(), device, "", time.Time{}, time.Time{})
	if err != nil || n != want {
		t.Fatalf("%s has %d rows, %v; want %d", device, n, err, want)
	}
}

func TestReopenKeepsRowsAndFieldIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	now := time.Now()
	for i := range 3 {
		s, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		write(t, s, reading("d", now, fmt.Sprintf("f%d", i), telemetry.IntValue(int64(i))), reading("d", now.Add(time.Duration(i)), "both", telemetry.IntValue(1)))
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, Config{Path: path})
	page, err := s.Query(t.Context(), telemetry.Query{Device: "d"})
	if err != nil || len(page.Rows) != 3 || len(page.Rows[0].Fields) != 4 {
		t.Fatalf("%+v, %v", page, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// What Write has returned for survives the loss of the process: a copy of the
// files as they are, without any goodbye, has it.
func TestWriteIsDurableWithoutClose(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Path: filepath.Join(dir, "t.db")})
	var mode, level string
	row := s.writer.conn.QueryRowContext(t.Context(), "SELECT journal_mode, synchronous FROM pragma_journal_mode(), pragma_synchronous()")
	if err := row.Scan(&mode, &level); err != nil || mode != "wal" || level != "2" {
		t.Fatalf("journal %q, synchronous %q, %v", mode, level, err)
	}
	now := time.Now()
	for i := range 50 {
		write(t, s, reading("d", now.Add(time.Duration(i)), "a", telemetry.IntValue(int64(i))))
	}
	copied := t.TempDir()
	for _, name := range []string{"t.db", "t.db-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantCount(t, open(t, Config{Path: filepath.Join(copied, "t.db")}), "d", 50)
}

func TestKindOfEachValueIsKept(t *testing.T) {
	s := open(t, Config{})
	base := time.Now().Add(-time.Hour)
	values := []telemetry.Value{
		telemetry.DoubleValue(1.5), telemetry.IntValue(math.MaxInt64), telemetry.BoolValue(true),
		telemetry.StringValue("a\x00b"), telemetry.StringValue("\x00"), telemetry.IntValue(math.MinInt64),
	}
	for i, v := range values {
		write(t, s, reading("d", base.Add(time.Duration(i)), "x", v))
	}
	page, err := s.Query(t.Context(), telemetry.Query{Device: "d"})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if got := page.Rows[i].Fields[0].Value; got != v {
			t.Errorf("%+v, want %+v", got, v)
		}
	}
	// One identity, another kind: the later one.
	write(t, s, reading("d", base, "x", telemetry.StringValue("now text")))
	page, err = s.Query(t.Context(), telemetry.Query{Device: "d", Limit: 1})
	if err != nil || page.Rows[0].Fields[0].Value.Str() != "now text" {
		t.Fatalf("%+v, %v", page, err)
	}
	page, err = s.Query(t.Context(), telemetry.Query{Device: "d", Aggregate: telemetry.Max})
	if err != nil || page.Rows[0].Fields[0].Value.Int64() != math.MaxInt64 {
		t.Fatalf("%+v, %v", page, err)
	}
}

func TestRefusesForeignAndNewerFiles(t *testing.T) {
	for name, c := range map[string]struct{ sql, words string }{
		"another program": {"CREATE TABLE x (y)", "another program"},
		"newer release":   {fmt.Sprintf("CREATE TABLE x (y); PRAGMA application_id = %d; PRAGMA user_version = 99", applicationID), "version 99"},
	} {
		path := filepath.Join(t.TempDir(), "t.db")
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(c.sql); err != nil {
			t.Fatal(err)
		}
		_ = db.Close()
		if s, err := Open(t.Context(), Config{Path: path}); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	path := filepath.Join(t.TempDir(), "t.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database. ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Path: path}); err == nil {
		t.Error("a file of text is opened")
	}
	for _, c := range []Config{{}, {Path: path, MaxAge: -1}, {Path: path, MaxBytes: 1}, {Path: filepath.Join(path, "no", "folder")}} {
		if _, err := Open(t.Context(), c); err == nil {
			t.Errorf("%+v is opened", c)
		}
	}
}

// A write that fails leaves nothing behind, not in the memory of fields
// either, and the next one works.
func TestFailedWritesLeaveNothing(t *testing.T) {
	s := open(t, Config{})
	now := time.Now()
	good := batch(t, reading("d", now, "a", telemetry.IntValue(1)))
	bad := batch(t, reading("d", now, "new", telemetry.IntValue(1)), reading("e", now, "b", telemetry.IntValue(1)))
	bad.Entries[1].Telemetry = bad.Entries[1].Telemetry[:4]
	err := s.Write(t.Context(), bad)
	if telemetry.ClassOf(err) != telemetry.BadRows {
		t.Fatalf("%v of class %v", err, telemetry.ClassOf(err))
	}
	wantCount(t, s, "d", 0)
	if err := s.Write(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	write(t, s, reading("d", now, "new", telemetry.IntValue(2)))
	page, err := s.Query(t.Context(), telemetry.Query{Device: "d"})
	if err != nil || len(page.Rows) != 1 || len(page.Rows[0].Fields) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
}

// A full disk, as SQLite sees it when the file may not grow.
func TestFullDiskIsRetriedAndRecovers(t *testing.T) {
	s := open(t, Config{})
	now := time.Now()
	write(t, s, reading("d", now, "a", telemetry.IntValue(0)))
	limit := func(pages int) {
		t.Helper()
		if _, err := s.writer.conn.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // no less than there are
	large := make([]telemetry.Row, 1000)
	for i := range large {
		large[i] = reading("d", now.Add(time.Duration(i)), "s", telemetry.StringValue(strings.Repeat("x", 1000)))
	}
	err := s.Write(t.Context(), batch(t, large...))
	if telemetry.ClassOf(err) != telemetry.Retry || !strings.Contains(err.Error(), "the disk is full") {
		t.Fatalf("%v of class %v", err, telemetry.ClassOf(err))
	}
	wantCount(t, s, "d", 1)
	limit(1 << 30)
	write(t, s, large...)
	wantCount(t, s, "d", 1000)
}

func TestReadOnlyFileIsMisconfigured(t *testing.T) {
	s := open(t, Config{})
	if _, err := s.writer.conn.ExecContext(t.Context(), "PRAGMA query_only = 1"); err != nil {
		t.Fatal(err)
	}
	err := s.Write(t.Context(), batch(t, reading("d", time.Now(), "a", telemetry.IntValue(1))))
	if telemetry.ClassOf(err) != telemetry.Misconfigured || !strings.Contains(err.Error(), "cannot be written") {
		t.Fatalf("%v of class %v", err, telemetry.ClassOf(err))
	}
}

func TestClosedStore(t *testing.T) {
	s := open(t, Config{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), batch(t, reading("d", time.Now(), "a", telemetry.IntValue(1)))); !errors.Is(err, errClosed) {
		t.Errorf("%v", err)
	}
	if err := s.Check(t.Context()); err == nil {
		t.Error("a closed store is healthy")
	}
}

// A write that waits for its turn gives up with its context.
func TestWaitingWriteEndsWithItsContext(t *testing.T) {
	s := open(t, Config{})
	if err := s.lockWriter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := s.Write(ctx, batch(t, reading("d", time.Now(), "a", telemetry.IntValue(1))))
	s.unlockWriter()
	if !errors.Is(err, context.DeadlineExceeded) || telemetry.ClassOf(err) != telemetry.Retry {
		t.Fatalf("%v", err)
	}
}

func TestCatalogIsBounded(t *testing.T) {
	s := open(t, Config{})
	now := time.Now()
	write(t, s, reading("d", now, "a", telemetry.IntValue(1)))
	s.writer.catalog.size = maxCachedFields + 1
	write(t, s, reading("e", now, "a", telemetry.IntValue(1)))
	if n := len(s.writer.catalog.streams); n > 1 {
		t.Errorf("%d streams are cached", n)
	}
	write(t, s, reading("d", now, "b", telemetry.IntValue(1)), reading("d", now.Add(1), "a", telemetry.IntValue(1)))
	fields, err := s.Fields(t.Context(), "d")
	if err != nil || len(fields) != 2 {
		t.Fatalf("%+v, %v", fields, err)
	}
}
