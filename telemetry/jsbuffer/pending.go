package jsbuffer

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// pending is what has been appended and is not durable yet: full chunks, and
// the open one that fills.
type pending struct {
	chunkBytes int
	maxBytes   int64
	age        time.Duration
	wake       chan struct{} // 1: there is a first entry, or a full chunk
	closing    chan struct{}
	flushed    chan struct{} // closed by the committer when nothing is left

	mu     sync.Mutex
	closed bool
	full   []*group
	open   *group
	spare  []*group
	bytes  int64 // in full, open, and in flight
}

// group is the entries of one chunk and who waits for them.
type group struct {
	data    []byte
	entries int
	rows    int
	acks    []ack
	opened  time.Time
}

// groupBytes is what a group takes besides its entries.
const groupBytes = int64(1 + messageBytes)

type ack struct {
	to  telemetry.Acker
	seq uint64
}

func (p *pending) init(cfg Config) {
	p.chunkBytes, p.maxBytes, p.age = cfg.ChunkBytes, cfg.MemoryBytes, cfg.ChunkAge
	p.wake = make(chan struct{}, 1)
	p.closing = make(chan struct{})
	p.flushed = make(chan struct{})
}

// Append implements telemetry.Buffer. The dynamic type of to must be
// comparable, as pointers are. An entry over the limits of a frame gives an
// error of its own.
func (b *Buffer) Append(e telemetry.Entry, seq uint64, to telemetry.Acker) error {
	size := entrySize(&e)
	if size > b.cfg.ChunkBytes-1 {
		return fmt.Errorf("telemetry entry of %d bytes does not fit into a chunk of %d", size, b.cfg.ChunkBytes)
	}
	err := b.pending.add(&e, size, seq, to, b.disk.room())
	if err == telemetry.ErrFull {
		b.Stats.Refused.Add(1)
	}
	return err
}

// add puts e into the open chunk, or into a new one. room is what the disk
// still takes.
func (p *pending) add(e *telemetry.Entry, size int, seq uint64, to telemetry.Acker, room int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return telemetry.ErrClosed
	}
	after := p.bytes + int64(size)
	if p.open == nil || len(p.open.data)+size > p.chunkBytes {
		after += groupBytes
	}
	if after > room || after > p.maxBytes {
		return telemetry.ErrFull
	}
	if p.open != nil && len(p.open.data)+size > p.chunkBytes {
		p.full = append(p.full, p.open)
		p.open = nil
		p.signal()
	}
	if p.open == nil {
		p.open = p.newGroup()
		if len(p.full) == 0 {
			p.signal()
		}
	}
	g := p.open
	g.data = appendEntry(g.data, e)
	g.entries++
	g.rows += e.Rows
	p.bytes = after
	if to == nil {
		return nil
	}
	if last := len(g.acks) - 1; last >= 0 && g.acks[last].to == to {
		g.acks[last].seq = seq
		return nil
	}
	g.acks = append(g.acks, ack{to, seq})
	return nil
}

func (p *pending) newGroup() *group {
	var g *group
	if n := len(p.spare); n > 0 {
		g, p.spare = p.spare[n-1], p.spare[:n-1]
	} else {
		g = &group{data: make([]byte, 0, p.chunkBytes)}
	}
	g.data = append(g.data, chunkVersion)
	g.opened = time.Now()
	return g
}

func (p *pending) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// next waits for the group to be written next, which is what stands first:
// a full one at once, the open one not before earliest. nil: closed, and
// nothing is left.
func (p *pending) next(earliest time.Time) *group {
	var timer *time.Timer
	for {
		g, wait, closed := p.take(earliest)
		if g != nil || closed {
			if timer != nil {
				timer.Stop()
			}
			return g
		}
		if wait == 0 {
			select {
			case <-p.wake:
			case <-p.closing:
			}
			continue
		}
		if timer == nil {
			timer = time.NewTimer(wait)
		} else {
			timer.Reset(wait)
		}
		select {
		case <-p.wake:
		case <-timer.C:
		case <-p.closing:
		}
	}
}

// take returns a group, or how long the open one has to wait (0: there is
// none), or that p is closed and empty.
func (p *pending) take(earliest time.Time) (g *group, wait time.Duration, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.full) > 0 {
		g = p.full[0]
		p.full = slices.Delete(p.full, 0, 1)
		return g, 0, false
	}
	if p.open == nil {
		return nil, 0, p.closed
	}
	if wait = time.Until(earliest); wait > 0 && !p.closed {
		return nil, wait, false
	}
	g, p.open = p.open, nil
	return g, 0, false
}

// done takes back a group that is durable.
func (p *pending) done(g *group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes -= int64(len(g.data) + messageBytes)
	clear(g.acks)
	*g = group{data: g.data[:0], acks: g.acks[:0]}
	if len(p.spare) < 2 {
		p.spare = append(p.spare, g)
	}
}

// usage is the bytes and chunks in memory.
func (p *pending) usage() (bytes int64, chunks int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	chunks = len(p.full)
	if p.open != nil {
		chunks++
	}
	return p.bytes, chunks
}

// ending reports whether close was called.
func (p *pending) ending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *pending) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	close(p.closing)
}
