package client

import "time"

// window is the frames that have a seq: sent at least once in this process
// and not settled. Their seqs have no gaps.
type window struct {
	frames []sentFrame
	first  uint64 // seq of frames[0]
	cursor int    // frames before it are in flight in this session; the others are sent (again) next
	bytes  int    // of those in flight
	unsent uint64 // first position of the spool that may hold a frame without a seq
	fresh  uint64 // first position of the spool that may hold a frame that was never sent, behind unsent
}

type sentFrame struct {
	pos    uint64
	sentAt time.Duration // monotonic; the newest time
	size   uint32        // of the whole frame
	rows   uint16
	fate   fate
	resend bool
	// doubtful: the hub may have it and not have said so. A session ended
	// while it was in flight.
	doubtful bool
}

// fate of a sent frame.
type fate uint8

const (
	waiting  fate = iota
	rejected      // the hub has used up its seq
	dropped       // given up to make room
)

// last seq that was given out; 0: none.
func (w *window) last() uint64 { return w.first + uint64(len(w.frames)) - 1 }

// push gives the frame the next seq. It is in flight.
func (w *window) push(info FrameInfo, now time.Duration) {
	size := frameSize(w.last()+1, info.Size)
	w.frames = append(w.frames, sentFrame{pos: info.Pos, size: uint32(size), rows: uint16(info.Rows), sentAt: now, doubtful: info.Sent})
	w.unsent = info.Pos + 1
	w.advance()
}

// advance takes frames[cursor] in flight.
func (w *window) advance() {
	w.bytes += int(w.frames[w.cursor].size)
	w.cursor++
}

// pop forgets the oldest frame.
func (w *window) pop() {
	if w.cursor > 0 {
		w.cursor--
		w.bytes -= int(w.frames[0].size)
	}
	w.frames = w.frames[1:]
	w.first++
	if len(w.frames) == 0 {
		w.frames = nil
	}
}

// rewind makes every frame from index i on due to be sent again.
func (w *window) rewind(i int) {
	for ; w.cursor > i; w.cursor-- {
		w.bytes -= int(w.frames[w.cursor-1].size)
	}
}

// interrupt notes that the session has ended: what was in flight may have
// arrived or not.
func (w *window) interrupt() {
	for i := range w.cursor {
		w.frames[i].doubtful = true
	}
	w.rewind(0)
}

// forget leaves out the frames at the head that are settled. Nothing is in
// flight.
func (w *window) forget() {
	for len(w.frames) > 0 && w.frames[0].fate != waiting {
		w.pop()
	}
}

// restart prepares for a session: nothing is in flight, and the first frame
// sent may have any seq, so that those already settled at the head are left
// out.
func (w *window) restart() {
	w.rewind(0)
	w.forget()
	for i := range w.frames {
		w.frames[i].resend = true
	}
}

// dropOldest gives up one frame to make room. One that the hub may have is
// stored perhaps, and would be counted as dropped all the same: so the oldest
// goes that the hub cannot have, and only where there is none the oldest of
// all. False: the spool is empty.
func (c *Client) dropOldest() bool {
	if c.session == nil {
		return c.dropSent(false) || c.dropFresh() || c.dropSent(true) || c.dropUnsent()
	}
	// An empty frame has to take the place of one that has a seq.
	return c.dropFresh() || c.dropSent(false) || c.dropUnsent() || c.dropSent(true)
}

// dropSent gives up the oldest frame that has a seq: one that the hub may
// have, or only one that it has not taken.
func (c *Client) dropSent(any bool) bool {
	w := &c.window
	for i := range w.frames {
		f := &w.frames[i]
		if f.fate != waiting || !any && (f.doubtful || i < w.cursor) {
			continue
		}
		f.fate = dropped
		c.discard(f.pos, int(f.rows))
		if c.session == nil {
			w.forget()
		}
		return true
	}
	return false
}

// dropFresh gives up the oldest frame that was never sent, by no process.
func (c *Client) dropFresh() bool {
	w := &c.window
	w.fresh = max(w.fresh, w.unsent)
	for {
		info, ok := c.cfg.Spool.Next(w.fresh)
		if !ok {
			return false
		}
		w.fresh = info.Pos + 1
		if !info.Sent {
			c.discard(info.Pos, info.Rows)
			return true
		}
	}
}

// dropUnsent gives up the oldest frame without a seq.
func (c *Client) dropUnsent() bool {
	info, ok := c.cfg.Spool.Next(c.window.unsent)
	if !ok {
		return false
	}
	c.window.unsent = info.Pos + 1
	c.discard(info.Pos, info.Rows)
	return true
}

func (c *Client) discard(pos uint64, rows int) {
	c.drop(rows)
	if err := c.cfg.Spool.Remove(pos); err != nil {
		c.log.Error("dropped frame stays in the spool", "device", c.id, "error", err)
	}
}

// drop counts rows that are given up.
func (c *Client) drop(rows int) {
	if c.stats.RowsDropped == 0 {
		c.log.Warn("readings are dropped: no room, no time or a damaged spool", "device", c.id)
	}
	c.stats.RowsDropped += uint64(rows)
	c.cfg.Spool.AddDropped(uint64(rows))
}
