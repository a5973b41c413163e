package client

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Publish takes rows, in order, for the hub. Nil means that they are in the
// open batch or in the spool; Sync and Flush take them further. It keeps no
// reference to rows.
//
// A row that the hub would reject is refused here with an error that wraps
// ErrInvalidRow, and no row of the call is taken. A *PublishError tells how
// many rows were taken before ctx ended while Publish waited for room, before
// the spool could not be written, or before the client was closed (ErrClosed).
func (c *Client) Publish(ctx context.Context, rows ...Row) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range rows {
		if err := c.checkRow(&rows[i]); err != nil {
			return fmt.Errorf("publish: row %d: %w", i, err)
		}
	}
	mono := c.clock.mono()
	for i := range rows {
		if err := c.take(ctx, &rows[i], mono); err != nil {
			return &PublishError{Taken: i, Err: err}
		}
		c.stats.RowsPublished++
	}
	if c.cfg.MaxBatchAge < 0 {
		if err := c.seal(); err != nil && !errors.Is(err, ErrSpoolFull) {
			c.log.Error("spool refuses a frame; its rows are kept in memory", "device", c.id, "error", err)
		}
	}
	return nil
}

func (c *Client) checkRow(r *Row) error {
	if err := r.check(); err != nil {
		return err
	}
	if size := rowSize(r) + frameOverhead; size > MaxFrameBytes {
		return fmt.Errorf("%w: up to %d bytes; a frame has at most %d", ErrInvalidRow, size, MaxFrameBytes)
	}
	if !r.Time.IsZero() {
		return c.clock.checkTime(r.Time)
	}
	return nil
}

// take appends one row. It may let go of c.mu while it waits for room.
func (c *Client) take(ctx context.Context, r *Row, mono time.Duration) error {
	if c.closed {
		return ErrClosed
	}
	if !r.Time.IsZero() {
		return c.put(ctx, r, r.Time.UnixNano())
	}
	if len(c.undated.rows) > 0 {
		c.date()
	}
	if len(c.undated.rows) > 0 || !c.clock.known() {
		return c.putUndated(ctx, r, mono)
	}
	return c.put(ctx, r, c.clock.stamp(mono))
}

// put appends a row with its time to the open batch.
func (c *Client) put(ctx context.Context, r *Row, at int64) error {
	for {
		if c.closed {
			return ErrClosed
		}
		err := c.tryPut(r, at)
		if !errors.Is(err, ErrSpoolFull) {
			return err
		}
		if err := c.waitProgress(ctx); err != nil {
			return err
		}
	}
}

// tryPut is put without the wait.
func (c *Client) tryPut(r *Row, at int64) error {
	if err := c.fields.admit(c.batch, r); err != nil {
		return err
	}
	size := rowSize(r)
	if c.batch != nil && !c.fits(size) {
		if err := c.seal(); err != nil {
			return err
		}
	}
	if c.batch == nil {
		c.batch = newBatch()
		if c.cfg.MaxBatchAge > 0 {
			c.ageTimer.Reset(c.cfg.MaxBatchAge)
		}
	}
	c.batch.add(r, at)
	if c.batch.rows >= c.cfg.MaxBatchRows || c.batch.size+frameOverhead >= c.cfg.MaxBatchBytes {
		if err := c.seal(); err != nil && !errors.Is(err, ErrSpoolFull) {
			// The row is taken all the same: the next one hears of it.
			c.log.Error("spool refuses a frame; its rows are kept in memory", "device", c.id, "error", err)
		}
	}
	return nil
}

func (c *Client) fits(size int) bool {
	return c.batch.rows < c.cfg.MaxBatchRows && c.batch.size+frameOverhead+size <= c.cfg.MaxBatchBytes
}

// seal makes the open batch a frame of the spool. It returns ErrSpoolFull
// where there is no room and none can be made; the batch stays open then.
func (c *Client) seal() error {
	if c.batch == nil {
		return nil
	}
	spool := c.cfg.Spool
	body := c.batch.encode()
	for {
		pos, err := spool.Append(Frame{Rows: c.batch.rows, Body: appendDropped(body, spool.Dropped())})
		if err == nil {
			c.lastPos = pos
			break
		}
		if !errors.Is(err, ErrSpoolFull) || c.cfg.Full != DropOldest || !c.dropOldest() {
			c.overdue = true
			return err
		}
	}
	c.batch.release()
	c.batch, c.overdue = nil, false
	c.ageTimer.Stop()
	c.wakeWriter()
	return nil
}

// sealAged runs when the open batch is MaxBatchAge old.
func (c *Client) sealAged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.batch == nil || c.closed {
		return
	}
	// A full spool is no error: the batch follows when there is room.
	if err := c.seal(); err != nil && !errors.Is(err, ErrSpoolFull) {
		c.log.Error("spool refuses a frame; its rows are kept in memory", "device", c.id, "error", err)
		c.ageTimer.Reset(c.cfg.MaxBatchAge)
	}
}

// progress is called when the spool or the undated rows have got room.
func (c *Client) progress() {
	if c.overdue && c.batch != nil {
		_ = c.seal() // where it fails again it is overdue again
	}
	c.date()
	if c.progressed != nil {
		close(c.progressed)
		c.progressed = nil
	}
}

// waitProgress lets go of c.mu until there is progress.
func (c *Client) waitProgress(ctx context.Context) error {
	if c.progressed == nil {
		c.progressed = make(chan struct{})
	}
	progressed := c.progressed
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-progressed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sync ends the open batch and makes everything published so far durable in
// the spool, where that can.
func (c *Client) Sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.seal(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := c.cfg.Spool.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}
