package jsstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// restore reads the checkpoint and the records that it names.
func (f *follower) restore(ctx context.Context, last uint64) (map[string]*storedMessage, error) {
	records := map[string]*storedMessage{}
	c, err := f.s.readCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	if c == nil || !c.Created.Equal(f.created) || c.At > last {
		return records, nil // none, or of another stream: all of the stream is read
	}
	found := make([]*storedMessage, len(c.Live))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, seq := range c.Live {
		g.Go(func() error {
			m, err := f.s.get(gctx, StreamCommands, getRequest{Sequence: seq})
			if errors.Is(err, errNoMessage) {
				return nil // it has changed since: it is read from the stream
			}
			found[i] = m
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, m := range found {
		if m != nil {
			records[m.Subject] = m
			f.live[m.Subject] = m.Sequence
		}
	}
	f.at = c.At
	return records, nil
}

func (f *follower) checkpointWhenDue(ctx context.Context) {
	if f.changes >= f.s.checkpointChanges || f.changes > 0 && time.Since(f.written) >= f.s.checkpointEvery {
		f.checkpoint(ctx)
	}
}

// checkpoint is written now and then, and at the end of Follow. It only
// bounds what the next Follow has to read; not having one loses nothing.
func (f *follower) checkpoint(ctx context.Context) {
	f.changes, f.written = 0, time.Now()
	c := &checkpoint{Created: f.created, At: f.at, Live: slices.Sorted(maps.Values(f.live))}
	if err := f.s.writeCheckpoint(ctx, c); err != nil && ctx.Err() == nil {
		f.s.log.Warn("the checkpoint of the command store was not written", "error", err)
	}
}

func (f *follower) farewell() {
	if !f.synced || f.changes == 0 || !f.s.cfg.Conn.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	f.checkpoint(ctx)
}
