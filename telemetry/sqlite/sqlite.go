// Package sqlite stores readings in one SQLite file: the embedded default,
// with nothing to install. It implements telemetry.Sink and telemetry.Reader.
//
// A row of the table rows is one reading, keyed by (stream, time), where a
// stream is a device's measurement; its fields are one compact blob. Storing
// each value as a row of its own would repeat the key for every field and
// cost a B-tree insert each: for readings of ten fields this form takes a
// tenth of the inserts and a third of the space. The price is that SQL cannot
// look into a reading; aggregates are folded in Go, which is as fast, and the
// same for every store. Writing an identity again merges field by field, the
// new value over the old one.
//
// Write returns after an fsync (WAL with synchronous=FULL): the caller may
// forget the rows. There is one writer connection; readers never wait for it.
//
// Labels are not stored: readings are found by device, and the registry knows
// the labels of today.
//
// # Retention
//
// By default readings are kept for good. Config.MaxAge deletes rows by their
// own time, Config.MaxBytes the oldest rows of all devices when the file gets
// larger. Both work in small steps in the background and give the space back
// to the file system.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// Config of a Store.
type Config struct {
	Path string // of the database file; its folder exists
	// MaxAge deletes rows whose time is longer ago; 0: never.
	MaxAge time.Duration
	// MaxBytes bounds the database file: the oldest rows are deleted. It may
	// be exceeded by some seconds of writes; the write-ahead log beside the
	// file takes some 16 MiB more. 0: no bound; else at least 1 MiB.
	MaxBytes int64
	Logger   *slog.Logger // nil: slog.Default
}

// MinMaxBytes is the least Config.MaxBytes, but for 0.
const MinMaxBytes = 1 << 20

// readers is how many questions are answered at once; one more waits.
const readers = 4

// Store keeps readings in a SQLite file. All methods may run at once.
type Store struct {
	config Config
	log    *slog.Logger
	read   *sql.DB
	closer func() error // of both databases

	stop      context.CancelFunc // ends retention
	retention sync.WaitGroup
	overfull  chan struct{} // wakes retention; holds one
	closed    sync.Once
	closeErr  error

	// writer is owned by whoever holds the one token of turn.
	turn   chan struct{}
	writer *writer
}

var (
	_ telemetry.Sink   = (*Store)(nil)
	_ telemetry.Reader = (*Store)(nil)
)

var errClosed = errors.New("the SQLite store is closed")

// Open opens the database file, and makes it where there is none.
func Open(ctx context.Context, c Config) (*Store, error) {
	switch {
	case c.Path == "":
		return nil, errors.New("sqlite: Path is empty")
	case c.MaxAge < 0:
		return nil, errors.New("sqlite: MaxAge is negative")
	case c.MaxBytes < 0 || c.MaxBytes > 0 && c.MaxBytes < MinMaxBytes:
		return nil, fmt.Errorf("sqlite: MaxBytes is 0 or at least %d", MinMaxBytes)
	}
	log := c.Logger
	if log == nil {
		log = slog.Default()
	}
	write, read, err := openFile(ctx, c.Path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Path, err)
	}
	closer := func() error { return errors.Join(read.Close(), write.Close()) }
	w, err := newWriter(ctx, write)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", c.Path, err), closer())
	}
	retentionCtx, stop := context.WithCancel(context.Background())
	s := &Store{
		config:   c,
		log:      log.With("store", "sqlite"),
		read:     read,
		closer:   closer,
		stop:     stop,
		overfull: make(chan struct{}, 1),
		turn:     make(chan struct{}, 1),
		writer:   w,
	}
	s.turn <- struct{}{}
	if c.MaxAge > 0 || c.MaxBytes > 0 {
		s.retention.Go(func() { s.retain(retentionCtx) })
	}
	return s, nil
}

// Close waits for the writes under way, ends retention and closes the file.
// It may be called again.
func (s *Store) Close() error {
	s.closed.Do(func() {
		s.stop()
		s.retention.Wait()
		<-s.turn // for good: writers that still wait learn it from turn's closing
		close(s.turn)
		s.closeErr = errors.Join(s.writer.close(), s.closer())
	})
	return s.closeErr
}

// Name is "sqlite".
func (s *Store) Name() string { return "sqlite" }

// Check reads from the file.
func (s *Store) Check(ctx context.Context) error {
	var n int64
	err := s.read.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM streams LIMIT 1)").Scan(&n)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.config.Path, err)
	}
	return nil
}

// lockWriter waits for the writer. The caller calls unlockWriter.
func (s *Store) lockWriter(ctx context.Context) error {
	select {
	case _, ok := <-s.turn:
		if !ok {
			return errClosed
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) unlockWriter() { s.turn <- struct{}{} }
