package client

import (
	"fmt"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// settled is a frame that the hub has answered for, for the hooks.
type settled struct {
	rows    int
	latency time.Duration
}

// acknowledge takes a cumulative Ack. The frames that it settles are appended
// to done. An Ack for what was never sent breaks the protocol.
func (c *Client) acknowledge(seq uint64, done []settled) ([]settled, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &c.window
	if seq > w.last() {
		return done, fmt.Errorf("%w: Ack of seq %d, but %d is the last sent", ErrProtocol, seq, w.last())
	}
	// What an earlier session sent may have become durable meanwhile. It is
	// sent again all the same: the hub wants the seqs of a session unbroken.
	return c.settleTo(min(seq, w.first+uint64(w.cursor)-1), done), nil
}

// settleTo settles every frame up to seq, and those rejected that follow. A
// dropped one counts in the hub's window until its Ack.
func (c *Client) settleTo(seq uint64, done []settled) []settled {
	w := &c.window
	now := c.clock.mono()
	last := uint64(0)
	for len(w.frames) > 0 && (w.first <= seq || w.cursor > 0 && w.frames[0].fate == rejected) {
		f := w.frames[0]
		w.pop()
		if f.fate != waiting {
			continue
		}
		last = f.pos
		c.stats.FramesAcked++
		c.stats.RowsAcked += uint64(f.rows)
		c.stats.LastAck = now - f.sentAt
		done = append(done, settled{rows: int(f.rows), latency: now - f.sentAt})
	}
	if last != 0 {
		if err := c.cfg.Spool.Trim(last); err != nil {
			// They will be sent once more after a restart, and do no harm.
			c.log.Error("acknowledged frames stay in the spool", "device", c.id, "error", err)
		}
	}
	c.progress()
	c.wakeWriter()
	return done
}

// reject takes the hub's refusal of one frame. It returns how many rows are
// lost by it.
func (c *Client) reject(r *devicev1.Reject) (rows int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &c.window
	if r.Seq >= w.first+uint64(w.cursor) {
		return 0, fmt.Errorf("%w: Reject of seq %d, which was not sent", ErrProtocol, r.Seq)
	}
	if r.Code == devicev1.RejectCode_REJECT_CODE_TIME_OUT_OF_RANGE && r.ServerTimeUnixNs > 0 {
		c.clock.set(int64(r.ServerTimeUnixNs), c.clock.mono())
	}
	if r.Seq < w.first {
		return 0, nil // it was the filler of a frame that was settled before
	}
	f := &w.frames[r.Seq-w.first]
	if f.fate == waiting {
		rows = int(f.rows)
		c.stats.RowsRejected += uint64(rows)
		if err := c.cfg.Spool.Remove(f.pos); err != nil {
			c.log.Error("rejected frame stays in the spool", "device", c.id, "error", err)
		}
	}
	f.fate = rejected
	c.settleTo(0, nil)
	return rows, nil
}

// throttle pauses sending, and goes back to resume where it is not 0.
func (c *Client) throttle(pause time.Duration, resume uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Throttles++
	c.pausedUntil = time.Now().Add(min(pause, maxPause))
	w := &c.window
	if resume != 0 && resume < w.first+uint64(w.cursor) {
		if resume < w.first {
			return fmt.Errorf("%w: told to resume from seq %d, but %d is settled", ErrProtocol, resume, w.first-1)
		}
		w.rewind(int(resume - w.first))
		for i := w.cursor; i < len(w.frames); i++ {
			w.frames[i].resend = true
		}
	}
	c.wakeWriter()
	return nil
}

// maxPause bounds what a Throttle may ask for.
const maxPause = 10 * time.Minute
