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

	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/commands"
)

// A follower has no consumer: that would live on one server of a cluster, and
// when this one dies, JetStream may put the next one there, too, and say
// nothing until it is back. It reads when it has heard a write, and otherwise
// asks the leader once in askEvery whether it has missed one.
const (
	askEvery = time.Second
	// heardPause is the first pause between hearing a write and reading it,
	// which may come before it is stored; the next ones are each four times as
	// long, to heardPauseMax.
	heardPause    = time.Millisecond
	heardPauseMax = 256 * time.Millisecond
	// unansweredFor is how long nobody may answer before Follow gives up.
	unansweredFor = 15 * time.Second
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
	if made := s.last.Load(); made > info.State.LastSeq {
		s.last.CompareAndSwap(made, info.State.LastSeq) // an older stream was put back
	}
	f := &follower{s: s, fn: fn, created: info.Created, live: map[string]uint64{}, written: time.Now()}
	records, err := f.restore(ctx, info.State.LastSeq)
	if err != nil {
		return fmt.Errorf("follow commands: read the checkpoint: %w", err)
	}
	heard := make(chan struct{}, 1)
	if !s.cfg.Sole {
		sub, err := s.cfg.Conn.Subscribe(commandPrefix+">", func(*nats.Msg) {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
		if err != nil {
			return fmt.Errorf("follow commands: %w", err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	if err := f.settle(ctx, records); err != nil {
		return fmt.Errorf("follow commands: %w", err)
	}
	f.begin(records)
	house, leave := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	defer func() { leave(); keeping.Wait(); s.follower.CompareAndSwap(f, nil) }()
	keeping.Go(func() { f.keepHouse(house) })
	defer f.farewell()
	if s.cfg.Sole {
		return f.look(ctx)
	}
	return f.listen(ctx, heard)
}

// listen takes the changes in when they are heard, until ctx ends.
func (f *follower) listen(ctx context.Context, heard <-chan struct{}) error {
	ask := time.NewTicker(askEvery)
	defer ask.Stop()
	var read <-chan time.Time // nil: nothing was heard
	var pause time.Duration   // before it
	answered := time.Now()
	for {
		before, err := f.at, error(nil)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-heard:
			if read == nil || pause > heardPause {
				pause = heardPause
				read = time.After(pause)
			}
			continue
		case <-read:
			err = f.catchUpSoon(ctx, nil)
			if f.at > before {
				pause = heardPause
			} else {
				pause *= 4
			}
			if read = nil; pause <= heardPauseMax {
				read = time.After(pause)
			}
		case <-ask.C:
			err = f.settle(ctx, nil)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			answered = time.Now()
		case errors.Is(err, errAnotherStream) || time.Since(answered) > unansweredFor:
			return fmt.Errorf("follow commands: %w", err)
		}
		f.checkpointWhenDue(ctx)
	}
}

// errAnotherStream says that the stream is not the one that was followed.
var errAnotherStream = errors.New("the stream was made anew")

// settle takes in all changes that the stream's leader knows of. The servers
// that answer catchUp may be behind it.
func (f *follower) settle(ctx context.Context, records map[string]*storedMessage) error {
	once, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	st, err := f.s.js.Stream(once, StreamCommands)
	if err != nil {
		return err
	}
	info := st.CachedInfo()
	last := info.State.LastSeq
	if !info.Created.Equal(f.created) {
		return errAnotherStream
	}
	if last < f.at {
		return commands.ErrUnsettled // the leader is new, or an older stream was put back
	}
	for f.at < last {
		before := f.at
		if err := f.catchUpSoon(ctx, records); err != nil && ctx.Err() != nil {
			return err
		}
		if f.at > before {
			continue
		}
		m, err := f.s.get(ctx, StreamCommands, getRequest{Sequence: f.at + 1, Next: commandPrefix + ">"})
		if errors.Is(err, errNoMessage) {
			return nil // the last ones are not there any more, or not there yet
		}
		if err != nil {
			return err
		}
		f.take(m, records)
	}
	return nil
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
			if err := f.catchUp(ctx, nil); err != nil {
				return fmt.Errorf("follow commands: %w", err)
			}
		}
		f.checkpointWhenDue(ctx)
	}
}

// quietLooks is how many looks are left out while nothing was written here.
const quietLooks = 4

// catchUpSoon is catchUp, or as much of it as comes soon: the server that is
// asked may have stopped.
func (f *follower) catchUpSoon(ctx context.Context, records map[string]*storedMessage) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return f.catchUp(ctx, records)
}

// catchUp takes in all changes that the server knows of which answers.
func (f *follower) catchUp(ctx context.Context, records map[string]*storedMessage) error {
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
			f.take(m, records)
		}
	}
	return nil
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
