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
}

type sentFrame struct {
	pos    uint64
	sentAt time.Duration // monotonic; the newest time
	size   uint32        // of the whole frame
	rows   uint16
	fate   fate
	resend bool
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
	w.frames = append(w.frames, sentFrame{pos: info.Pos, size: uint32(size), rows: uint16(info.Rows), sentAt: now})
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

// restart prepares for a session: nothing is in flight, and the first frame
// sent may have any seq, so that those already settled at the head are left
// out.
func (w *window) restart() {
	w.rewind(0)
	for len(w.frames) > 0 && w.frames[0].fate != waiting {
		w.pop()
	}
	for i := range w.frames {
		w.frames[i].resend = true
	}
}

// dropOldest gives up one frame to make room: the oldest that is not in
// flight, or, where all are, the oldest. False: the spool is empty.
func (c *Client) dropOldest() bool {
	w := &c.window
	if c.session == nil {
		for len(w.frames) > 0 {
			f := w.frames[0]
			w.pop()
			if f.fate == waiting {
				c.discard(f.pos, int(f.rows))
				return true
			}
		}
	}
	if info, ok := c.cfg.Spool.Next(w.unsent); ok {
		w.unsent = info.Pos + 1
		c.discard(info.Pos, info.Rows)
		return true
	}
	for i := range w.frames {
		if f := &w.frames[i]; f.fate == waiting {
			f.fate = dropped
			c.discard(f.pos, int(f.rows))
			return true
		}
	}
	return false
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
