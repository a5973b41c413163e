package jsstore

import (
	"context"
	"time"
)

// keepHouse holds the store to its size and its age until ctx ends.
func (f *follower) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseEvery)
	defer tick.Stop()
	var aged time.Time
	seen := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.mu.Lock()
		at := f.at
		f.mu.Unlock()
		var err error
		if f.s.stirred.Swap(false) || at != seen || f.s.tight.Load() {
			seen = at
			err = f.s.makeRoom(ctx, maxMoves)
		}
		if err == nil && time.Since(aged) > ageEvery {
			aged = time.Now()
			err = f.s.dropAged(ctx, aged.Add(-f.s.cfg.Retention-ageSlack))
		}
		if err != nil && ctx.Err() == nil {
			f.s.log.Warn("old commands were not dropped; trying again", "error", err)
			f.s.stirred.Store(true)
		}
	}
}

// dropAged drops what has ended before a time: records that were stored while
// a longer retention was configured.
func (s *Store) dropAged(ctx context.Context, before time.Time) error {
	s.room.Lock()
	defer s.room.Unlock()
	f := s.follower.Load()
	state, err := s.measure(ctx)
	if err != nil || f == nil || state.Msgs == 0 || !state.FirstTime.Before(before) {
		return err
	}
	at, live := f.liveUpTo()
	to := state.FirstSeq
search:
	for step := uint64(0); to <= at; {
		m, err := s.get(ctx, StreamCommands, getRequest{Sequence: to + step, Next: commandPrefix + ">"})
		switch {
		case err == nil && m.Sequence <= at && m.Time.Before(before):
			to, step = m.Sequence+1, 2*step+1
		case step > 0:
			step /= 2 // too far
		default:
			break search
		}
	}
	dropped, _, err := s.drop(ctx, state.FirstSeq, min(to, at+1), live, maxMoves)
	if dropped > 0 {
		s.log.Info("commands older than the history is kept were dropped", "dropped", dropped)
		s.stirred.Store(true)
	}
	return err
}
