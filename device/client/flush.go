package client

import (
	"context"
	"errors"
	"fmt"
)

// Flush ends the open batch and waits until none of the rows published so far
// is waiting any more: the hub has them durable, or they were rejected or
// dropped, as Stats tells. It returns an error that wraps ctx.Err() or
// ErrClosed where rows are left.
func (c *Client) Flush(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := flush{undated: c.undated.in}
	for {
		done, err := f.step(c)
		if done || err != nil {
			return err
		}
		if c.ended {
			return fmt.Errorf("flush: %w", ErrClosed)
		}
		if err := c.waitProgress(ctx); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
}

// flush follows the rows that were published before it began.
type flush struct {
	undated uint64 // rows that must have left the undated ones
	sealed  bool
	pos     uint64 // of the last frame that must have left the spool
}

func (f *flush) step(c *Client) (done bool, err error) {
	if !f.sealed && c.undated.out >= f.undated {
		if err := c.seal(); errors.Is(err, ErrSpoolFull) {
			return false, nil
		} else if err != nil {
			return false, fmt.Errorf("flush: %w", err)
		}
		f.sealed, f.pos = true, c.lastPos
	}
	if !f.sealed {
		return false, nil
	}
	first, held := c.cfg.Spool.Next(0)
	return !held || f.pos != 0 && first.Pos > f.pos, nil
}
