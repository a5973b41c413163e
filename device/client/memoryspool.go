package client

import (
	"slices"
	"sort"
)

// MemorySpool is a Spool in memory. It ends with the process.
type MemorySpool struct {
	maxBytes int64

	frames  []memoryFrame // by rising position
	last    uint64        // position given out
	stats   SpoolStats
	dropped uint64
}

type memoryFrame struct {
	pos  uint64
	rows int
	body []byte
	sent bool
}

// NewMemorySpool makes a spool that holds maxBytes at most, with 32 bytes for
// each frame beside its body; 0: DefaultSpoolBytes.
func NewMemorySpool(maxBytes int64) *MemorySpool {
	if maxBytes <= 0 {
		maxBytes = DefaultSpoolBytes
	}
	return &MemorySpool{maxBytes: maxBytes}
}

// Append implements Spool.
func (s *MemorySpool) Append(f Frame) (uint64, error) {
	cost := int64(len(f.Body) + frameCost)
	if s.stats.Bytes+cost > s.maxBytes {
		return 0, ErrSpoolFull
	}
	s.last++
	s.frames = append(s.frames, memoryFrame{pos: s.last, rows: f.Rows, body: f.Body})
	s.stats.Frames++
	s.stats.Rows += f.Rows
	s.stats.Bytes += cost
	return s.last, nil
}

// index of the first frame at or after pos.
func (s *MemorySpool) index(pos uint64) int {
	return sort.Search(len(s.frames), func(i int) bool { return s.frames[i].pos >= pos })
}

// Next implements Spool.
func (s *MemorySpool) Next(pos uint64) (FrameInfo, bool) {
	i := s.index(pos)
	if i == len(s.frames) {
		return FrameInfo{}, false
	}
	f := &s.frames[i]
	return FrameInfo{Pos: f.pos, Rows: f.rows, Size: len(f.body), Sent: f.sent}, true
}

// Body implements Spool.
func (s *MemorySpool) Body(pos uint64) ([]byte, error) {
	if i := s.index(pos); i < len(s.frames) && s.frames[i].pos == pos {
		return s.frames[i].body, nil
	}
	return nil, errNoFrame
}

// MarkSent implements Spool.
func (s *MemorySpool) MarkSent(pos uint64) {
	if i := s.index(pos); i < len(s.frames) && s.frames[i].pos == pos {
		s.frames[i].sent = true
	}
}

// Remove implements Spool.
func (s *MemorySpool) Remove(pos uint64) error {
	if i := s.index(pos); i < len(s.frames) && s.frames[i].pos == pos {
		s.delete(i, i+1)
	}
	return nil
}

// Trim implements Spool.
func (s *MemorySpool) Trim(pos uint64) error {
	s.delete(0, s.index(pos+1))
	return nil
}

func (s *MemorySpool) delete(i, j int) {
	for k := i; k < j; k++ {
		f := &s.frames[k]
		s.stats.Frames--
		s.stats.Rows -= f.rows
		s.stats.Bytes -= int64(len(f.body) + frameCost)
		*f = memoryFrame{}
	}
	switch {
	case j-i == len(s.frames):
		s.frames = s.frames[:0]
		if cap(s.frames) > 16 {
			s.frames = nil
		}
	case i == 0:
		s.frames = s.frames[j:]
	default:
		s.frames = slices.Delete(s.frames, i, j)
	}
}

// Dropped implements Spool.
func (s *MemorySpool) Dropped() uint64 { return s.dropped }

// AddDropped implements Spool.
func (s *MemorySpool) AddDropped(rows uint64) { s.dropped += rows }

// Sync implements Spool; there is nothing to do.
func (s *MemorySpool) Sync() error { return nil }

// Durable implements Spool.
func (s *MemorySpool) Durable() bool { return false }

// Stats implements Spool.
func (s *MemorySpool) Stats() SpoolStats {
	stats := s.stats
	stats.MaxBytes = s.maxBytes
	return stats
}
