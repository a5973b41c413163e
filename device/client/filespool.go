package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// FileSpoolOptions of OpenFileSpool.
type FileSpoolOptions struct {
	// MaxBytes of held frames, each with 24 bytes beside its body; from
	// 256 KiB; 0: 64 MiB. The disk may hold a fifth more, where frames that
	// are done with share a file with others.
	MaxBytes int64
	// SyncInterval is how long a frame may wait for its fsync: the most that
	// a loss of power takes. 0: every frame is synced before Append returns.
	// Negative: never; the operating system writes when it likes. A crash of
	// the process alone takes nothing in any case.
	SyncInterval time.Duration
}

// FileSpool is a Spool in a folder of its own. It survives a crash: a frame
// whose write was cut short is cut off when the spool is opened.
type FileSpool struct {
	dir          string
	maxBytes     int64
	segmentBytes int64
	interval     time.Duration

	mu        sync.Mutex
	lock      *os.File
	segments  []*segment // by rising position; the last one is written to
	stats     SpoolStats
	dropped   uint64
	persisted uint64 // of dropped
	damaged   int64
	buf       []byte
	unsynced  bool
	syncErr   error
	timer     *time.Timer // nil unless interval > 0
	closed    bool
}

const (
	defaultFileSpoolBytes = 64 << 20
	minFileSpoolBytes     = 256 << 10
)

// OpenFileSpool opens the spool in dir, and makes it where there is none. Only
// one process may have it open. Close it when no Client uses it any more.
func OpenFileSpool(dir string, o FileSpoolOptions) (*FileSpool, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultFileSpoolBytes
	}
	if o.MaxBytes < minFileSpoolBytes {
		return nil, fmt.Errorf("file spool: MaxBytes %d is below %d", o.MaxBytes, minFileSpoolBytes)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("file spool: %w", err)
	}
	if err := syncDir(filepath.Dir(filepath.Clean(dir))); err != nil && !errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("file spool: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("file spool %s: %w", dir, err)
	}
	s := &FileSpool{
		dir: dir, maxBytes: o.MaxBytes, interval: o.SyncInterval, lock: lock,
		segmentBytes: min(max(o.MaxBytes/16, MaxFrameBytes), 4<<20),
	}
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("file spool %s: %w", dir, errors.Join(err, s.closeFiles()))
	}
	if s.interval > 0 {
		s.timer = time.AfterFunc(time.Hour, s.syncLate)
		s.timer.Stop()
	}
	return s, nil
}

// recover reads what an earlier process left.
func (s *FileSpool) recover() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var paths []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".spool") {
			paths = append(paths, filepath.Join(s.dir, e.Name()))
		}
	}
	slices.Sort(paths) // by position: the names are hexadecimal, of one length
	for i, path := range paths {
		if err := s.recoverSegment(path, i == len(paths)-1); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	s.persisted = s.dropped
	if s.damaged > 0 {
		s.dropped++ // at least one row; more cannot be known
	}
	if len(s.segments) == 0 {
		return s.rotate(1)
	}
	return nil
}

func (s *FileSpool) recoverSegment(path string, last bool) error {
	g, dropped, cut, err := openSegment(path)
	if errors.Is(err, errBadSegment) {
		info, statErr := os.Stat(path)
		if statErr != nil {
			return statErr
		}
		if info.Size() > segmentHeaderBytes { // not merely torn while it was made
			s.damaged += info.Size()
			return os.Rename(path, path+".damaged")
		}
		return os.Remove(path)
	}
	if err != nil {
		return err
	}
	if n := len(s.segments); n > 0 && g.first < s.segments[n-1].next() {
		s.damaged += g.size
		return errors.Join(g.file.Close(), os.Rename(path, path+".damaged"))
	}
	s.dropped = max(s.dropped, dropped)
	if cut > 0 && !last {
		s.damaged += cut // only the last segment can have a torn tail
	}
	if g.held == 0 && !last {
		return g.remove()
	}
	s.segments = append(s.segments, g)
	for _, r := range g.records {
		if !r.done {
			s.count(&r, 1)
		}
	}
	return nil
}

func (s *segment) next() uint64 { return s.first + uint64(len(s.records)) }

func (s *FileSpool) count(r *record, sign int) {
	s.stats.Frames += sign
	s.stats.Rows += sign * int(r.rows)
	s.stats.Bytes += int64(sign) * (int64(r.size) + recordHeaderBytes)
}

func (s *FileSpool) active() *segment { return s.segments[len(s.segments)-1] }

// rotate begins a segment, and removes the one before where nothing of it is
// held.
func (s *FileSpool) rotate(first uint64) error {
	g, err := createSegment(s.dir, first, s.dropped)
	if err != nil {
		return err
	}
	s.persisted = s.dropped
	if n := len(s.segments); n > 0 {
		old := s.segments[n-1]
		if old.held == 0 {
			s.segments = s.segments[:n-1]
			err = old.remove()
		} else if s.unsynced {
			err = old.file.Sync()
		}
	}
	s.unsynced = false
	s.segments = append(s.segments, g)
	return err
}

// Append implements Spool.
func (s *FileSpool) Append(f Frame) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, os.ErrClosed
	}
	if f.Rows < 1 || f.Rows > MaxFrameRows || len(f.Body) > MaxFrameBytes {
		return 0, fmt.Errorf("file spool: frame of %d rows and %d bytes is out of limits", f.Rows, len(f.Body))
	}
	if s.stats.Bytes+int64(len(f.Body))+recordHeaderBytes > s.maxBytes {
		return 0, ErrSpoolFull
	}
	if err := s.syncErr; err != nil {
		s.syncErr = nil
		return 0, fmt.Errorf("file spool: an earlier frame may not survive a loss of power: %w", err)
	}
	if g := s.active(); g.size >= s.segmentBytes {
		if err := s.rotate(g.next()); err != nil {
			return 0, fmt.Errorf("file spool: new segment: %w", err)
		}
	}
	g := s.active()
	pos := g.next()
	var err error
	s.buf, err = g.append(s.buf, f, s.dropped, s.interval == 0)
	if err != nil {
		return 0, fmt.Errorf("file spool: append: %w", err)
	}
	s.persisted = s.dropped
	s.count(&g.records[len(g.records)-1], 1)
	if s.interval != 0 && !s.unsynced {
		s.unsynced = true
		if s.timer != nil {
			s.timer.Reset(s.interval)
		}
	}
	return pos, nil
}

// Next implements Spool.
func (s *FileSpool) Next(pos uint64) (FrameInfo, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		if g.held == 0 || g.next() <= pos {
			continue
		}
		for p := max(pos, g.first+uint64(g.head)); p < g.next(); p++ {
			if r := g.at(p); r != nil {
				return FrameInfo{Pos: p, Rows: int(r.rows), Size: int(r.size), Sent: r.sent}, true
			}
		}
	}
	return FrameInfo{}, false
}

// Body implements Spool.
func (s *FileSpool) Body(pos uint64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		if r := g.at(pos); r != nil {
			body, err := g.body(pos, r)
			if err != nil {
				return nil, fmt.Errorf("file spool: read: %w", err)
			}
			return body, nil
		}
	}
	return nil, errNoFrame
}
