package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// groupRows is how many readings one INSERT takes. The driver's binding is
// quadratic in the parameters: more would be slower again.
const groupRows = 16

// keptBytes is the largest buffer that is kept for the next batch.
const keptBytes = 8 << 20

// writer is the one connection that writes, with its prepared statements and
// buffers.
type writer struct {
	conn *sql.Conn

	begin, commit, rollback         *sql.Stmt
	findStream, addStream           *sql.Stmt
	findFields, addField            *sql.Stmt
	setNewest, setFields            *sql.Stmt
	insertOne, insertGroup          *sql.Stmt
	selectRow, updateRow, pageCount *sql.Stmt
	addLarge, deleteLarge, fold     *sql.Stmt

	catalog *catalog
	logStep int64 // the log is folded when it has grown by so many bytes
	foldAt  int64 // size of the log that is too large

	// Of one batch.
	arena []byte // blobs
	items []item
	cells []cell
	args  []any
}

// item is one reading of a batch; its blob is arena[from:to].
type item struct {
	stream, time int64
	from, to     int
	large        int64 // id of the blob in the table large; 0: inline
}

func newWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn, catalog: newCatalog(), logStep: logBytes, foldAt: logBytes}
	const insert = "INSERT INTO rows (stream, time, fields) VALUES (?, ?, ?)"
	const keep = " ON CONFLICT DO NOTHING"
	for _, s := range []struct {
		stmt **sql.Stmt
		sql  string
	}{
		{&w.begin, "BEGIN IMMEDIATE"},
		{&w.commit, "COMMIT"},
		{&w.rollback, "ROLLBACK"},
		{&w.findStream, "SELECT id, fields FROM streams WHERE device = ? AND measurement = ?"},
		{&w.addStream, "INSERT INTO streams (device, measurement) VALUES (?, ?)"},
		{&w.findFields, "SELECT id, name, newest FROM fields WHERE stream = ?"},
		{&w.addField, "INSERT INTO fields (stream, id, name, newest) VALUES (?, ?, ?, ?)"},
		{&w.setNewest, "UPDATE fields SET newest = ? WHERE stream = ? AND id = ?"},
		{&w.setFields, "UPDATE streams SET fields = ? WHERE id = ?"},
		{&w.insertOne, insert + keep},
		{&w.insertGroup, insert + strings.Repeat(", (?, ?, ?)", groupRows-1) + keep},
		{&w.selectRow, "SELECT coalesce(l.fields, r.fields), coalesce(l.id, 0) FROM rows r LEFT JOIN large l ON l.id = r.fields WHERE r.stream = ? AND r.time = ?"},
		{&w.updateRow, "UPDATE rows SET fields = ? WHERE stream = ? AND time = ?"},
		{&w.addLarge, "INSERT INTO large (fields) VALUES (?)"},
		{&w.deleteLarge, "DELETE FROM large WHERE id = ?"},
		{&w.fold, "PRAGMA wal_checkpoint(TRUNCATE)"},
		{&w.pageCount, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"},
	} {
		if *s.stmt, err = conn.PrepareContext(ctx, s.sql); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return w, nil
}

// close ends the connection; its statements end with it.
func (w *writer) close() error { return w.conn.Close() }

// Write stores the rows of b in one transaction: all, or after an error none.
func (s *Store) Write(ctx context.Context, b telemetry.Batch) error {
	if b.Rows == 0 {
		return nil
	}
	if err := s.lockWriter(ctx); err != nil {
		return sinkError(err)
	}
	defer s.unlockWriter()
	if err := s.writer.write(ctx, b); err != nil {
		return sinkError(err)
	}
	s.foldLog()
	if s.config.MaxBytes > 0 {
		if size, err := s.writer.fileBytes(); err == nil && size > s.config.MaxBytes {
			select {
			case s.overfull <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

// foldLog moves the log into the file and empties it when it has grown by
// logStep. It waits for the readers that are in the log, which take it slice
// by slice. The rows are stored either way: a disk that fails shows in the
// next write.
func (s *Store) foldLog() {
	w := s.writer
	info, err := os.Stat(s.config.Path + "-wal")
	if err != nil || info.Size() < w.foldAt {
		return
	}
	w.foldAt = w.logStep
	var busy, frames, folded int64
	err = w.fold.QueryRow().Scan(&busy, &frames, &folded)
	if err != nil || busy != 0 {
		w.foldAt = info.Size() + w.logStep
		s.log.Warn("the log of the store cannot be folded into its file yet", "bytes", info.Size(), "error", err)
	}
}

// write runs without the caller's context once the transaction is open, but
// looks at it now and then: the driver starts a goroutine for every statement
// under a context that can end.
func (w *writer) write(ctx context.Context, b telemetry.Batch) error {
	return w.transaction(func() error {
		if err := w.collect(ctx, b); err != nil {
			return err
		}
		if err := w.store(ctx); err != nil {
			return err
		}
		return w.catalog.flush(w)
	})
}

// transaction runs change and commits it, or leaves the file as it was.
func (w *writer) transaction(change func() error) error {
	if _, err := w.begin.Exec(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	err := change()
	if err == nil {
		if _, cerr := w.commit.Exec(); cerr != nil {
			err = fmt.Errorf("commit: %w", cerr)
		}
	}
	if err != nil {
		// SQLite has rolled back by itself after some errors; the second
		// attempt then fails, and does no harm.
		_, _ = w.rollback.Exec()
		w.catalog.reset()
		return err
	}
	w.catalog.committed()
	return nil
}

// errUndecodable says that a batch holds bytes that are no accepted message.
var errUndecodable = errors.New("rows cannot be decoded")

// checkEvery is how many rows go by between two looks at the context.
const checkEvery = 512

// collect encodes the rows of b into the arena, in the order of the table and
// each identity once.
func (w *writer) collect(ctx context.Context, b telemetry.Batch) error {
	if cap(w.arena) > keptBytes {
		w.arena = nil
	}
	w.arena, w.items = w.arena[:0], w.items[:0]
	var ours error // that ended the decoding
	err := wire.Rows(b, func(r *telemetry.Row) error {
		if len(w.items)%checkEvery == 0 && ctx.Err() != nil {
			ours = ctx.Err()
			return ours
		}
		var stream *stream
		if stream, ours = w.catalog.stream(w, r.Device, r.Measurement); ours != nil {
			return ours
		}
		w.cells = w.cells[:0]
		for _, f := range r.Fields {
			w.cells = append(w.cells, cell{w.catalog.field(stream, f.Name, r.Time).id, f.Value})
		}
		from := len(w.arena)
		w.arena = appendCells(w.arena, w.cells)
		w.items = append(w.items, item{stream: stream.id, time: r.Time, from: from, to: len(w.arena)})
		return nil
	})
	clear(w.cells[:cap(w.cells)]) // strings of the batch
	switch {
	case ours != nil:
		return ours
	case err != nil:
		return fmt.Errorf("%w: %w", errUndecodable, err)
	}
	return w.arrange()
}

// arrange sorts the items by identity and merges those of one identity; the
// later one of the batch counts.
func (w *writer) arrange() error {
	slices.SortStableFunc(w.items, func(a, b item) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.time, b.time))
	})
	kept := w.items[:0]
	for _, it := range w.items {
		if n := len(kept); n > 0 && kept[n-1].stream == it.stream && kept[n-1].time == it.time {
			from := len(w.arena)
			merged, err := appendMerged(w.arena, w.blob(&kept[n-1]), w.blob(&it))
			if err != nil {
				return err
			}
			w.arena = merged
			kept[n-1].from, kept[n-1].to = from, len(merged)
			continue
		}
		kept = append(kept, it)
	}
	w.items = kept
	return nil
}

func (w *writer) blob(it *item) []byte { return w.arena[it.from:it.to:it.to] }

// fileBytes is the size of the file when all of the log is in it.
func (w *writer) fileBytes() (n int64, err error) {
	err = w.pageCount.QueryRow().Scan(&n)
	return n, err
}
