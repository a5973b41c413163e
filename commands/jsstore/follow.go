package jsstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tetherline/tetherline/commands"
)

// The consumer lives on one server. When that one goes, two heartbeats are
// missed, and the next consumer goes on where it was: until then this node
// does not hear of commands that others accept.
const (
	followExpiry    = 10 * time.Second
	followHeartbeat = time.Second
)

// follower is one Follow.
type follower struct {
	s       *Store
	fn      func(commands.Change)
	created time.Time // of the stream

	// Written by Follow alone, with mu held; liveUpTo reads them too.
	mu     sync.Mutex
	live   map[string]uint64 // subjects of the commands that have not ended, and their sequences
	at     uint64            // everything up to this sequence is in live
	synced bool

	// Since the last checkpoint.
	changes int
	written time.Time
}

// Follow implements commands.Store. It takes the newest checkpoint, which
// names the records that had not ended at some sequence, reads those, and
// then the stream from there on.
func (s *Store) Follow(ctx context.Context, fn func(commands.Change)) error {
	st, err := s.js.Stream(ctx, StreamCommands)
	if err != nil {
		return fmt.Errorf("follow commands: %w", err)
	}
	info := st.CachedInfo()
	s.bytes.Store(int64(info.State.Bytes))
	f := &follower{s: s, fn: fn, created: info.Created, live: map[string]uint64{}, written: time.Now()}
	records, err := f.restore(ctx, info.State.LastSeq)
	if err != nil {
		return fmt.Errorf("follow commands: read the checkpoint: %w", err)
	}
	first, err := s.get(ctx, StreamCommands, getRequest{Sequence: f.at + 1, Next: commandPrefix + ">"})
	if err != nil && !errors.Is(err, errNoMessage) {
		return fmt.Errorf("follow commands: %w", err)
	}
	house, leave := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	defer func() { leave(); keeping.Wait(); s.follower.CompareAndSwap(f, nil) }()
	if first == nil {
		f.begin(records)
	}
	keeping.Go(func() { f.keepHouse(house) })
	consumer, err := s.js.OrderedConsumer(ctx, StreamCommands, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{commandPrefix + ">"},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    f.at + 1,
	})
	if err != nil {
		return fmt.Errorf("follow commands: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullExpiry(followExpiry), jetstream.PullHeartbeat(followHeartbeat))
	if err != nil {
		return fmt.Errorf("follow commands: %w", err)
	}
	defer messages.Stop()
	defer f.farewell()
	for {
		if f.synced && s.cfg.Sole {
			messages.Stop()
			if info := consumer.CachedInfo(); info != nil {
				_ = s.js.DeleteConsumer(ctx, StreamCommands, info.Name) // or it goes by itself, later
			}
			return f.look(ctx)
		}
		m, err := f.next(ctx, messages)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("follow commands: %w", err)
		}
		if m == nil {
			f.checkpoint(ctx)
			continue
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("follow commands: %w", err)
		}
		got := &storedMessage{
			Subject: m.Subject(), Sequence: meta.Sequence.Stream, Data: m.Data(), Header: m.Headers(), Time: meta.Timestamp,
		}
		f.take(got, records)
		if f.synced && f.changes >= s.checkpointChanges {
			f.checkpoint(ctx)
		}
		if !f.synced && (meta.NumPending == 0 || got.Sequence >= info.State.LastSeq) {
			f.begin(records)
			records = nil
		}
	}
}

// look takes the changes in now and then, until ctx ends.
func (f *follower) look(ctx context.Context) error {
	tick := time.NewTicker(f.s.lookEvery)
	defer tick.Stop()
	for quiet := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		// Of a write whose answer was lost nobody here knows: look for these
		// too, less often.
		if quiet++; f.s.last.Load() > f.at || quiet >= quietLooks {
			quiet = 0
			if err := f.catchUp(ctx); err != nil {
				return fmt.Errorf("follow commands: %w", err)
			}
		}
		if f.changes >= f.s.checkpointChanges || f.changes > 0 && time.Since(f.written) >= f.s.checkpointEvery {
			f.checkpoint(ctx)
		}
	}
}

// quietLooks is how many looks are left out while nothing was written here.
const quietLooks = 4

// catchUp takes in all changes that there are.
func (f *follower) catchUp(ctx context.Context) error {
	for done := false; !done; {
		var part []*storedMessage
		var err error
		part, done, err = f.s.batch(ctx, StreamCommands, getRequest{Sequence: f.at + 1, Batch: batchSize}, math.MaxUint64)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		for _, m := range part {
			f.take(m, nil)
		}
	}
	return nil
}

// next waits for a message; nil when a checkpoint is due before one comes.
func (f *follower) next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	if f.changes == 0 || !f.synced {
		return messages.Next(jetstream.NextContext(ctx))
	}
	until, cancel := context.WithDeadline(ctx, f.written.Add(f.s.checkpointEvery))
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(until))
	if err != nil && until.Err() != nil {
		return nil, nil
	}
	return m, err
}

// take one message in.
func (f *follower) take(m *storedMessage, records map[string]*storedMessage) {
	f.changes++
	state, err := commands.ParseState(m.Header.Get(stateHeader))
	f.note(m, state)
	if err != nil {
		f.s.log.Error("a stored command has no state", "subject", m.Subject, "error", err)
		return
	}
	if f.synced {
		f.tell(m)
		return
	}
	delete(records, m.Subject)
	if !state.Ended() {
		records[m.Subject] = m
	}
}

// note keeps count of what has not ended; state is 0 where it cannot be read.
func (f *follower) note(m *storedMessage, state commands.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = m.Sequence
	switch {
	case state == 0:
	case state.Ended():
		delete(f.live, m.Subject)
	default:
		f.live[m.Subject] = m.Sequence
	}
	f.s.live.Store(int64(len(f.live)))
}

// begin hands out the commands that have not ended, and that these were they.
func (f *follower) begin(records map[string]*storedMessage) {
	f.synced = true
	f.s.live.Store(int64(len(f.live)))
	f.s.follower.Store(f)
	for _, m := range slices.SortedFunc(maps.Values(records), func(a, b *storedMessage) int { return cmp.Compare(a.Sequence, b.Sequence) }) {
		f.tell(m)
	}
	f.fn(commands.Change{Revision: f.at})
}

func (f *follower) tell(m *storedMessage) {
	id, device, ok := parseSubject(m.Subject)
	if !ok {
		f.s.log.Error("a message in the command stream is no command", "subject", m.Subject)
		return
	}
	f.fn(commands.Change{
		ID: id, Device: device, Revision: m.Sequence,
		Load: func() (*commands.Command, error) { return decode(m) },
	})
}

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
