package client

import (
	"errors"
	"fmt"
	"os"
)

// MarkSent implements Spool.
func (s *FileSpool) MarkSent(pos uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, g := range s.segments {
		if r := g.at(pos); r != nil {
			g.markSent(r)
			return
		}
	}
}

// Remove implements Spool. A new total of dropped rows is written first: a
// crash takes no frame that is not counted.
func (s *FileSpool) Remove(pos uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	return errors.Join(s.writeDropped(), s.finish(pos, pos))
}

// writeDropped writes the total of dropped rows where it has changed.
func (s *FileSpool) writeDropped() (err error) {
	if s.persisted == s.dropped {
		return nil
	}
	if s.buf, err = s.active().append(s.buf, Frame{}, s.dropped, false); err != nil {
		return fmt.Errorf("file spool: write the total of dropped rows: %w", err)
	}
	s.persisted, s.unsynced = s.dropped, true
	return nil
}

// Trim implements Spool.
func (s *FileSpool) Trim(pos uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finish(0, pos)
}

// finish takes out the held frames from one position to another, and removes
// the segments that hold nothing more.
func (s *FileSpool) finish(from, to uint64) error {
	if s.closed {
		return os.ErrClosed
	}
	var errs []error
	kept := s.segments[:0]
	for i, g := range s.segments {
		active := i == len(s.segments)-1
		whole := !active && from <= g.first && g.next() <= to+1
		for p := max(from, g.first+uint64(g.head)); p <= to && p < g.next(); p++ {
			if r := g.at(p); r != nil {
				s.count(r, -1)
				errs = append(errs, g.finish(r, !whole))
			}
		}
		if g.held == 0 && !active {
			errs = append(errs, g.remove())
			continue
		}
		kept = append(kept, g)
	}
	clear(s.segments[len(kept):])
	s.segments = kept
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("file spool: remove: %w", err)
	}
	return nil
}

// Dropped implements Spool. It survives a restart from the next Append, Remove,
// Sync or Close on.
func (s *FileSpool) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// AddDropped implements Spool.
func (s *FileSpool) AddDropped(rows uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped += rows
}

// Sync implements Spool.
func (s *FileSpool) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	return s.sync()
}

func (s *FileSpool) sync() error {
	err := s.syncErr
	s.syncErr = nil
	err = errors.Join(err, s.writeDropped())
	if s.unsynced {
		err = errors.Join(err, s.active().file.Sync())
		s.unsynced = false
	}
	if err != nil {
		return fmt.Errorf("file spool: sync: %w", err)
	}
	return nil
}

// syncLate runs when a frame has waited for SyncInterval. Its error reaches
// the next Append or Sync.
func (s *FileSpool) syncLate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.syncErr = s.sync()
	}
}

// Durable implements Spool.
func (s *FileSpool) Durable() bool { return true }

// Stats implements Spool.
func (s *FileSpool) Stats() SpoolStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.MaxBytes = s.maxBytes
	return stats
}

// Damaged is how many bytes could not be read when the spool was opened,
// beyond a torn tail. The file they were in is kept as *.damaged where it had
// no readable beginning.
func (s *FileSpool) Damaged() int64 { return s.damaged }

// Close syncs and releases the spool.
func (s *FileSpool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	err := s.sync()
	s.closed = true
	return errors.Join(err, s.closeFiles())
}

func (s *FileSpool) closeFiles() error {
	var errs []error
	for _, g := range s.segments {
		errs = append(errs, g.file.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
