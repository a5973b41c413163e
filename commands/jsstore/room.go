package jsstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/commands"
)

// How full the stream may be, in per cent of MaxBytes, less reserve for each
// command that has not ended.
const (
	dropAbove   = 85 // from here on the oldest ended commands make room,
	dropTo      = 80 // down to here
	refuseAbove = 90 // where they cannot, no new command is accepted

	// reserve is what a record may grow by until its end: some events, a
	// message. Results, which may be larger, fit into what refuseAbove leaves,
	// because an end is soon followed by the room that it makes.
	reserve = 1 << 10
)

const (
	houseEvery = time.Second // looks at the size, when something was written
	ageEvery   = time.Minute // looks for what is older than the retention
	// ageSlack is left to JetStream, which removes what is old by itself
	// unless the retention has become shorter since.
	ageSlack = 5 * time.Minute
	// maxMoves bounds the records that are moved up in a pass: commands that
	// have not ended, with ended ones behind them.
	maxMoves = 2000
	// maxPasses bounds those that a new command waits for, of 64 such records.
	maxPasses = 32
	// refusedFor is how long a refusal shows in Check.
	refusedFor = time.Minute
)

// Usage is how full the store is.
type Usage struct {
	Bytes, MaxBytes int64  // on disk; of MaxBytes a part stays free for the ends of live commands
	Live            int    // commands that have not ended
	Dropped         uint64 // ended commands that had to go before their time, by this process
}

// Usage may be called at any time.
func (s *Store) Usage() Usage {
	return Usage{Bytes: s.bytes.Load(), MaxBytes: s.cfg.MaxBytes, Live: int(s.live.Load()), Dropped: s.dropped.Load()}
}

// Check returns an error that says so when commands that have not ended fill
// the store, so that new ones are refused or soon will be.
func (s *Store) Check() error {
	recently := time.Since(time.Unix(0, s.refused.Load())) < refusedFor
	if !recently && !s.tight.Load() {
		return nil
	}
	words := "nearly full"
	if recently {
		words = "full, and refuses new ones"
	}
	return fmt.Errorf("the store of commands is %s: %d that have not ended, %d of %d bytes; cancel some, or raise command-bytes",
		words, s.live.Load(), s.bytes.Load(), s.cfg.MaxBytes)
}

// level is that share of MaxBytes, less what the live commands may grow by.
func (s *Store) level(percent int64) int64 {
	return s.cfg.MaxBytes/100*percent - s.live.Load()*reserve
}

// wrote counts what a message takes on disk. What it has replaced is not
// known: the next look at the stream corrects that.
func (s *Store) wrote(size int) {
	const header = 34 // of a message in a block of JetStream, about
	s.bytes.Add(int64(size + header))
	s.stirred.Store(true)
}

// admit makes sure that there is room for a new command. Without a need to
// make room it asks nobody.
func (s *Store) admit(ctx context.Context) error {
	if s.bytes.Load() <= s.level(refuseAbove) {
		return nil
	}
	if time.Since(time.Unix(0, s.refused.Load())) > houseEvery/4 {
		for range maxPasses {
			dropped := s.dropped.Load()
			if err := s.makeRoom(ctx, 64); err != nil {
				return err
			}
			if s.bytes.Load() <= s.level(refuseAbove) {
				return nil
			}
			if s.dropped.Load() == dropped {
				break
			}
		}
	}
	s.refused.Store(time.Now().UnixNano())
	return fmt.Errorf("%d commands that have not ended take, with room for their ends, all of %d bytes (command-bytes): %w",
		s.live.Load(), s.cfg.MaxBytes, commands.ErrFull)
}

// measure reads how large the stream is.
func (s *Store) measure(ctx context.Context) (*jetstream.StreamState, error) {
	st, err := s.js.Stream(ctx, StreamCommands)
	if err != nil {
		return nil, fmt.Errorf("read the state of the stream: %w", err)
	}
	state := st.CachedInfo().State
	s.bytes.Store(int64(state.Bytes))
	return &state, nil
}

// makeRoom drops the oldest ended commands while the store is fuller than it
// should be; moves bounds the live ones that are moved up for it. It knows which have
// not ended from the follower: without one nothing is dropped.
func (s *Store) makeRoom(ctx context.Context, moves int) error {
	s.room.Lock()
	defer s.room.Unlock()
	state, err := s.measure(ctx)
	if err != nil {
		return err
	}
	if err := s.keepDown(ctx, state); err != nil {
		return err
	}
	f := s.follower.Load()
	if s.bytes.Load() <= s.level(dropAbove) || f == nil {
		s.tight.Store(false)
		return nil
	}
	at, live := f.liveUpTo()
	from, dropped := state.FirstSeq, uint64(0)
	ended := func() bool { return state.Msgs > uint64(len(live))+state.LastSeq-min(at, state.LastSeq) }
	for ended() && s.bytes.Load() > s.level(dropTo) && from <= at && moves > 0 && ctx.Err() == nil {
		// As many as it takes, were there no gaps between them.
		count := uint64(s.bytes.Load()-s.level(dropTo))*state.Msgs/max(1, state.Bytes) + 1
		to := min(from+count, at+1)
		n, rest, err := s.drop(ctx, from, to, live, moves)
		if err != nil {
			return err
		}
		dropped, moves = dropped+n, rest
		s.dropped.Add(n)
		if state, err = s.measure(ctx); err != nil {
			return err
		}
		from = max(to, state.FirstSeq)
	}
	s.tight.Store(dropped == 0)
	if dropped > 0 {
		s.log.Info("the oldest ended commands made room for new ones", "dropped", dropped, "bytes", s.bytes.Load(), "max_bytes", s.cfg.MaxBytes)
	}
	return nil
}

// liveUpTo are the sequences of the commands that have not ended, rising, as
// they were when the stream had come to at.
func (f *follower) liveUpTo() (at uint64, live []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	live = make([]uint64, 0, len(f.live))
	for _, seq := range f.live {
		live = append(live, seq)
	}
	slices.Sort(live)
	return f.at, live
}
