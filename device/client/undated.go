package client

import (
	"context"
	"slices"
	"time"
)

// maxUndatedBytes bounds the rows that wait for the time.
const maxUndatedBytes = 256 << 10

// undated are rows that were taken before the time was known, oldest first.
type undated struct {
	rows    []undatedRow
	bytes   int
	in, out uint64 // rows, in total
}

type undatedRow struct {
	row  Row
	mono time.Duration // when it was taken
	size int
}

const undatedOverhead = 128

// putUndated appends a row that has no time yet. It may let go of c.mu while
// it waits for room.
func (c *Client) putUndated(ctx context.Context, r *Row, mono time.Duration) error {
	size := rowSize(r) + undatedOverhead
	for c.undated.bytes+size > maxUndatedBytes {
		if c.closed {
			return ErrClosed
		}
		if c.cfg.Full == DropOldest {
			c.drop(1)
			c.undated.pop()
			continue
		}
		if err := c.waitProgress(ctx); err != nil {
			return err
		}
	}
	row := *r
	row.Fields = slices.Clone(r.Fields)
	c.undated.rows = append(c.undated.rows, undatedRow{row: row, mono: mono, size: size})
	c.undated.bytes += size
	c.undated.in++
	return nil
}

func (u *undated) pop() {
	u.bytes -= u.rows[0].size
	u.rows[0] = undatedRow{}
	u.rows = u.rows[1:]
	u.out++
	if len(u.rows) == 0 {
		u.rows = nil
	}
}

// date gives the undated rows their time, as far as there is room for them.
func (c *Client) date() {
	if len(c.undated.rows) == 0 || !c.clock.known() {
		return
	}
	for len(c.undated.rows) > 0 {
		r := &c.undated.rows[0]
		if err := c.tryPut(&r.row, c.clock.stamp(r.mono)); err != nil {
			return
		}
		c.undated.pop()
	}
	c.progress()
}
