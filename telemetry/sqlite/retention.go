package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"
)

// Steps of retention. Each is one short transaction, so that writes wait for
// some milliseconds at most.
const (
	retainEvery   = time.Minute
	stepRows      = 2000
	stepPages     = 512
	streamsAtOnce = 500
	// spareDivisor: free pages to this part of the file are left for the
	// rows to come.
	spareDivisor = 10
	// roomDivisor: a file over its bound is cut until this part is free.
	roomDivisor = 20
	// spanParts: this part of the time that the rows span is deleted before
	// the size is looked at again.
	spanParts = 64
)

// retain runs until ctx ends.
func (s *Store) retain(ctx context.Context) {
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		if err := s.retainOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Error("retention of readings failed; it tries again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.overfull:
		}
	}
}

// retainOnce deletes what is too old or too much at now.
func (s *Store) retainOnce(ctx context.Context, now time.Time) error {
	if s.config.MaxAge > 0 {
		n, err := s.deleteBefore(ctx, now.Add(-s.config.MaxAge).UnixNano())
		if err != nil {
			return err
		}
		if n > 0 {
			s.log.Info("deleted readings over the age limit", "rows", n, "max_age", s.config.MaxAge)
		}
	}
	if err := s.shrink(ctx); err != nil {
		return err
	}
	return s.release(ctx)
}

// shrink deletes the oldest rows while they take more than MaxBytes.
func (s *Store) shrink(ctx context.Context) error {
	if s.config.MaxBytes == 0 {
		return nil
	}
	var total int64
	for target := s.config.MaxBytes; ; target = s.config.MaxBytes - s.config.MaxBytes/roomDivisor {
		size, err := s.size(ctx)
		if err != nil {
			return err
		}
		if size.used() <= target {
			break
		}
		oldest, newest, ok, err := s.extent(ctx)
		if err != nil || !ok {
			return err
		}
		n, err := s.deleteBefore(ctx, oldest+(newest-oldest)/spanParts+1)
		if err != nil {
			return err
		}
		total += n
	}
	if total > 0 {
		s.log.Warn("deleted the oldest readings to stay within the size limit", "rows", total, "max_bytes", s.config.MaxBytes)
	}
	return nil
}

// extent is the times of the oldest and the newest row of all streams.
func (s *Store) extent(ctx context.Context) (oldest, newest int64, ok bool, err error) {
	oldest, newest = math.MaxInt64, math.MinInt64
	err = s.eachStream(ctx, `SELECT s.id,
			(SELECT time FROM rows WHERE stream = s.id ORDER BY time LIMIT 1),
			(SELECT time FROM rows WHERE stream = s.id ORDER BY time DESC LIMIT 1)
		FROM streams s
		WHERE s.id > ?1 AND ?2 = 0 AND EXISTS (SELECT 1 FROM rows WHERE stream = s.id)
		ORDER BY s.id LIMIT ?3`, 0, func(_, first, last int64) error {
		oldest, newest, ok = min(oldest, first), max(newest, last), true
		return nil
	})
	return oldest, newest, ok, err
}

// deleteBefore deletes the rows before the time cutoff, and the fields that
// have none left.
func (s *Store) deleteBefore(ctx context.Context, cutoff int64) (deleted int64, err error) {
	err = s.eachStream(ctx, `SELECT s.id, 0, 0 FROM streams s
		WHERE s.id > ?1 AND EXISTS (SELECT 1 FROM rows WHERE stream = s.id AND time < ?2)
		ORDER BY s.id LIMIT ?3`, cutoff, func(stream, _, _ int64) error {
		for {
			n, err := s.deleteStep(ctx, stream, cutoff)
			deleted += n
			if err != nil || n < stepRows {
				return err
			}
		}
	})
	return deleted, err
}

// eachStream runs query for pages of streams: ?1 is the last id, ?2 arg, ?3
// the size of a page. No statement is open while each runs.
func (s *Store) eachStream(ctx context.Context, query string, arg int64, each func(id, a, b int64) error) error {
	for after := int64(0); ; {
		found, err := s.streamsPage(ctx, query, after, arg)
		if err != nil {
			return fmt.Errorf("find streams: %w", err)
		}
		for _, f := range found {
			if err := each(f[0], f[1], f[2]); err != nil {
				return err
			}
			after = f[0]
		}
		if len(found) < streamsAtOnce {
			return nil
		}
	}
}

func (s *Store) streamsPage(ctx context.Context, query string, after, arg int64) (found [][3]int64, err error) {
	rows, err := s.read.QueryContext(ctx, query, after, arg, streamsAtOnce)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var f [3]int64
		if err := rows.Scan(&f[0], &f[1], &f[2]); err != nil {
			return nil, err
		}
		found = append(found, f)
	}
	return found, rows.Err()
}

// deleteStep deletes up to stepRows rows of a stream. The step that finds no
// more deletes the fields whose newest value was among them.
func (s *Store) deleteStep(ctx context.Context, stream, cutoff int64) (n int64, err error) {
	err = s.withWriter(ctx, func(w *writer) error {
		defer s.foldLog()
		return w.transaction(func() error {
			ctx := context.WithoutCancel(ctx)
			var until sql.NullInt64
			err := w.conn.QueryRowContext(ctx, "SELECT max(time) FROM (SELECT time FROM rows WHERE stream = ? AND time < ? ORDER BY time LIMIT ?)",
				stream, cutoff, stepRows).Scan(&until)
			if err != nil {
				return fmt.Errorf("find old rows: %w", err)
			}
			const old = " FROM rows WHERE stream = ? AND time <= ?"
			if until.Valid {
				if _, err = w.conn.ExecContext(ctx, "DELETE FROM large WHERE id IN (SELECT fields"+old+" AND typeof(fields) = 'integer')", stream, until); err != nil {
					return fmt.Errorf("delete large rows: %w", err)
				}
				res, err := w.conn.ExecContext(ctx, "DELETE"+old, stream, until)
				if err != nil {
					return fmt.Errorf("delete rows: %w", err)
				}
				if n, err = res.RowsAffected(); err != nil || n == stepRows {
					return err
				}
			}
			res, err := w.conn.ExecContext(ctx, "DELETE FROM fields WHERE stream = ? AND newest < ?", stream, hourOf(cutoff))
			if err != nil {
				return fmt.Errorf("delete fields: %w", err)
			}
			if gone, err := res.RowsAffected(); err != nil || gone > 0 {
				w.catalog.reset() // it may know them
				return err
			}
			return nil
		})
	})
	return n, err
}

// fileSize in pages and bytes.
type fileSize struct{ pages, free, page int64 }

func (f fileSize) used() int64 { return (f.pages - f.free) * f.page }

func (s *Store) size(ctx context.Context) (f fileSize, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT page_count, freelist_count, page_size FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()").
		Scan(&f.pages, &f.free, &f.page)
	if err != nil {
		return f, fmt.Errorf("read the size of the file: %w", err)
	}
	return f, nil
}

// release gives free pages back to the file system, but for a reserve that
// spares the next rows from growing the file again.
func (s *Store) release(ctx context.Context) error {
	released := false
	for {
		size, err := s.size(ctx)
		if err != nil {
			return err
		}
		surplus := size.free - size.pages/spareDivisor
		if s.config.MaxBytes > 0 {
			surplus = max(surplus, min(size.free, size.pages-s.config.MaxBytes/size.page))
		}
		if surplus <= 0 {
			break
		}
		released = true
		err = s.withWriter(ctx, func(w *writer) error {
			defer s.foldLog()
			_, err := w.conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf("PRAGMA incremental_vacuum(%d)", min(surplus, stepPages)))
			return err
		})
		if err != nil {
			return fmt.Errorf("release free pages: %w", err)
		}
	}
	if !released {
		return nil
	}
	// The file gets shorter when the log is folded into it.
	return s.withWriter(ctx, func(w *writer) error {
		w.foldAt = 0
		s.foldLog()
		return nil
	})
}

func (s *Store) withWriter(ctx context.Context, use func(*writer) error) error {
	if err := s.lockWriter(ctx); err != nil {
		return err
	}
	defer s.unlockWriter()
	return use(s.writer)
}
