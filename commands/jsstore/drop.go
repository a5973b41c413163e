package jsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tetherline/tetherline/commands"
)

// When its server is killed JetStream reads its blocks again, and there an
// older revision of a command is hidden by the newest one alone: were that one
// deleted, the command would be SENT again. So records go by a floor. What has
// not ended below it is written anew, above it; then the floor is stored; then
// all below it is purged, and at each start again, should some have come back.

// drop removes all records from to below to, but for the live ones, of which
// at most moves are moved up for it.
func (s *Store) drop(ctx context.Context, from, to uint64, live []uint64, moves int) (dropped uint64, rest int, err error) {
	first, _ := slices.BinarySearch(live, from)
	behind, _ := slices.BinarySearch(live, to)
	if behind-first > moves {
		behind = first + moves
		to = live[behind]
	}
	rest = moves - (behind - first)
	if to <= from {
		return 0, rest, nil
	}
	err = s.moveUp(ctx, live[first:behind])
	if err == nil {
		err = s.raiseFloor(ctx, to)
	}
	if err == nil {
		dropped, err = s.purge(ctx, to)
	}
	if err != nil {
		err = fmt.Errorf("drop ended commands: %w", err)
	}
	return dropped, rest, err
}

// moveUp writes live records anew, as they are.
func (s *Store) moveUp(ctx context.Context, sequences []uint64) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, seq := range sequences {
		g.Go(func() error {
			m, err := s.get(gctx, StreamCommands, getRequest{Sequence: seq})
			if errors.Is(err, errNoMessage) {
				return nil // it has changed, and so moved, meanwhile
			}
			if err != nil {
				return err
			}
			return s.writeAnew(gctx, m)
		})
	}
	return g.Wait()
}

func (s *Store) writeAnew(ctx context.Context, m *storedMessage) error {
	c, err := decode(m)
	if err != nil {
		return err
	}
	if c.Order == 0 {
		c.Order = c.Revision
	}
	again, err := s.message(c)
	if err != nil {
		return err
	}
	again.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(m.Sequence, 10))
	revision, err := s.publish(ctx, again, commands.ErrStale)
	if errors.Is(err, commands.ErrStale) {
		return nil // it has changed meanwhile
	}
	s.made(revision)
	return err
}

const floorSubject = metaPrefix + "floor"

// floorRecord is the stored form of the floor.
type floorRecord struct {
	Created time.Time `json:"created"` // of the stream
	Floor   uint64    `json:"floor"`   // a sequence
}

// raiseFloor is durable when it returns nil.
func (s *Store) raiseFloor(ctx context.Context, to uint64) error {
	for {
		r, revision, err := s.readFloor(ctx)
		if err != nil {
			return err
		}
		if r.Floor >= to {
			s.floor.Store(r.Floor)
			return nil
		}
		r.Floor = to
		// Where another node was faster: once more.
		if err = s.writeFloor(ctx, r, strconv.FormatUint(revision, 10)); err != nil && !errors.Is(err, commands.ErrStale) {
			return err
		}
	}
}

// writeFloor replaces the record of that revision, "" for whichever there is;
// commands.ErrStale when there is another.
func (s *Store) writeFloor(ctx context.Context, r floorRecord, revision string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	m := nats.NewMsg(floorSubject)
	m.Data = data
	if revision != "" {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, revision)
	}
	_, err = s.publish(ctx, m, commands.ErrStale)
	return err
}

// readFloor reads the floor and the revision of its record, 0 for none.
func (s *Store) readFloor(ctx context.Context) (r floorRecord, revision uint64, err error) {
	m, err := s.get(ctx, StreamMeta, getRequest{Last: floorSubject})
	switch {
	case errors.Is(err, errNoMessage):
		return floorRecord{Created: s.created}, 0, nil
	case err == nil:
		err = json.Unmarshal(m.Data, &r)
	}
	if err != nil {
		return r, 0, fmt.Errorf("read the floor of the commands: %w", err)
	}
	if !r.Created.Equal(s.created) {
		r = floorRecord{Created: s.created} // it was of a stream before this one
	}
	return r, m.Sequence, nil
}

// keepDown purges what has come back below the floor. A floor above all that
// the stream has ever had is of a stream that lost its end, as with the power
// of a server that does not sync: sequences below it are new ones then.
func (s *Store) keepDown(ctx context.Context, state *jetstream.StreamState) error {
	floor := s.floor.Load()
	if floor > state.LastSeq+1 {
		if err := s.writeFloor(ctx, floorRecord{Created: s.created}, ""); err != nil {
			return fmt.Errorf("forget the floor of a stream that lost its end: %w", err)
		}
		s.floor.Store(0)
		s.log.Error("the store of commands lost what was written last; see that its NATS servers sync always", "floor", floor, "last", state.LastSeq)
		return nil
	}
	if state.Msgs == 0 || state.FirstSeq >= floor {
		return nil
	}
	n, err := s.purge(ctx, floor)
	if err != nil {
		return fmt.Errorf("keep what was dropped from coming back: %w", err)
	}
	s.log.Info("commands that had been dropped had come back with a restart of the NATS server; they are gone again", "records", n)
	return nil
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
	return answer.Purged, err
}
