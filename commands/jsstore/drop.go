package jsstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tetherline/tetherline/commands"
)

// drop removes the records of the sequences from to below to, but for the live
// ones: all up to the first of these at once, those behind it one by one.
func (s *Store) drop(ctx context.Context, from, to uint64, live []uint64, deletes int) (dropped uint64, rest int, err error) {
	next := to // the first live one
	if len(live) > 0 {
		next = min(next, live[0])
	}
	if next > from {
		if dropped, err = s.purge(ctx, next); err != nil {
			return dropped, deletes, err
		}
	}
	for from = max(from, next); from < to && deletes > 0; {
		part, done, err := s.batch(ctx, StreamCommands, getRequest{Sequence: from, Batch: min(batchSize, deletes)}, to-1)
		if err != nil {
			return dropped, deletes, err
		}
		var ended []uint64
		for _, m := range part {
			state, err := commands.ParseState(m.Header.Get(stateHeader))
			if _, alive := slices.BinarySearch(live, m.Sequence); err == nil && state.Ended() && !alive {
				ended = append(ended, m.Sequence)
			}
			from = m.Sequence + 1
		}
		if err := s.remove(ctx, ended); err != nil {
			return dropped, deletes, err
		}
		dropped, deletes = dropped+uint64(len(ended)), deletes-len(ended)
		if done || len(part) == 0 {
			break
		}
	}
	return dropped, deletes, nil
}

// purge removes all records below a sequence.
func (s *Store) purge(ctx context.Context, below uint64) (uint64, error) {
	var answer struct {
		Error  *jetstream.APIError `json:"error"`
		Purged uint64              `json:"purged"`
	}
	body, err := json.Marshal(map[string]uint64{"seq": below})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	m, err := s.cfg.Conn.RequestWithContext(ctx, "$JS.API.STREAM.PURGE."+StreamCommands, body)
	if err == nil {
		err = json.Unmarshal(m.Data, &answer)
	}
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	if err != nil {
		return 0, fmt.Errorf("drop ended commands: %w", err)
	}
	return answer.Purged, nil
}

// remove records one by one; one that has gone meanwhile is no error.
func (s *Store) remove(ctx context.Context, sequences []uint64) error {
	st, err := s.js.Stream(ctx, StreamCommands)
	if err != nil {
		return fmt.Errorf("drop ended commands: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, seq := range sequences {
		g.Go(func() error {
			if err := st.DeleteMsg(gctx, seq); err != nil && gctx.Err() != nil {
				return err
			}
			return nil
		})
	}
	return g.Wait()
}
