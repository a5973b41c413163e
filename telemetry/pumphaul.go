package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// haul is some chunks that are stored together.
type haul struct {
	chunks []Chunk
	rows   int
	repair []Entry // those that may hold rows at fault
}

func newHaul(chunks []Chunk) *haul {
	h := &haul{chunks: chunks}
	for _, c := range chunks {
		for _, e := range c.Entries() {
			h.rows += e.Rows
		}
	}
	return h
}

// bytes that the chunks of h take.
func (h *haul) bytes() (n int) {
	for _, c := range h.chunks {
		n += c.Bytes()
	}
	return n
}

// clean is the entries without those of suspects, which are noted for repair.
func (h *haul) clean(s *suspects) []Entry {
	if len(h.chunks) == 1 && !s.any() {
		return h.chunks[0].Entries()
	}
	n := 0
	for _, c := range h.chunks {
		n += len(c.Entries())
	}
	entries := make([]Entry, 0, n)
	for _, c := range h.chunks {
		if !s.any() {
			entries = append(entries, c.Entries()...)
			continue
		}
		for _, e := range c.Entries() {
			if s.has(e.Device) {
				h.repair = append(h.repair, e)
			} else {
				entries = append(entries, e)
			}
		}
	}
	return entries
}

// cut makes batches of entries, each of up to so many rows and bytes of
// telemetry, or of one entry.
func cut(entries []Entry, rows, bytes int) []Batch {
	var batches []Batch
	first, size := 0, 0
	var b Batch
	for i := range entries {
		e := &entries[i]
		if i > first && (b.Rows+e.Rows > rows || size+len(e.Telemetry) > bytes) {
			b.Entries = entries[first:i]
			batches = append(batches, b)
			first, size, b = i, 0, Batch{}
		}
		b.Rows += e.Rows
		size += len(e.Telemetry)
	}
	if first < len(entries) {
		b.Entries = entries[first:]
		batches = append(batches, b)
	}
	return batches
}

// bytes of telemetry in all entries of b.
func (b Batch) bytes() (n int) {
	for i := range b.Entries {
		n += len(b.Entries[i].Telemetry)
	}
	return n
}

// leases keeps the chunks that the Pump holds from being handed out again.
type leases struct {
	mu   sync.Mutex
	held map[Chunk]struct{}
}

func (l *leases) add(chunks []Chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = make(map[Chunk]struct{})
	}
	for _, c := range chunks {
		l.held[c] = struct{}{}
	}
}

func (l *leases) remove(c Chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, c)
}

// release hands chunks back, to be fetched again after delay.
func (l *leases) release(chunks []Chunk, delay time.Duration) {
	for _, c := range chunks {
		l.remove(c)
		_ = c.Release(delay) // else its lease runs out
	}
}

func (l *leases) list() []Chunk {
	l.mu.Lock()
	defer l.mu.Unlock()
	chunks := make([]Chunk, 0, len(l.held))
	for c := range l.held {
		chunks = append(chunks, c)
	}
	return chunks
}

func (l *leases) releaseAll() { l.release(l.list(), 0) }

// keep extends all leases in time, until ctx ends.
func (l *leases) keep(ctx context.Context, log *slog.Logger) {
	for pause(ctx, ChunkLease/3) {
		for _, c := range l.list() {
			if err := c.InProgress(); err != nil {
				log.Warn("lease of a chunk was not extended; it may be stored twice", "error", err)
			}
		}
	}
}
