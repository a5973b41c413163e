package jsstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetherline/tetherline/commands"
)

// Command implements commands.Store.
func (s *Store) Command(ctx context.Context, id string) (*commands.Command, error) {
	m, err := s.get(ctx, StreamCommands, getRequest{Last: commandPrefix + escape(id) + ".*"})
	if errors.Is(err, errNoMessage) {
		if err := s.knowsAll(ctx); err != nil {
			return nil, fmt.Errorf("read command %s: %w", id, err)
		}
		if s.dropped.Load() > 0 {
			return nil, fmt.Errorf("%w; if there was one and it has ended, it may have been dropped to make room for newer ones (command-bytes)", commands.ErrNotFound)
		}
		return nil, commands.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read command %s: %w", id, err)
	}
	return decode(m)
}

// knowsAll returns ErrUnsettled while the stream's leader knows less than this
// node has seen: one that was just elected says of a record that it has not
// applied yet that there is none.
func (s *Store) knowsAll(ctx context.Context) error {
	if s.cfg.Replicas < 2 {
		return nil
	}
	seen := s.last.Load()
	if f := s.follower.Load(); f != nil {
		f.mu.Lock()
		seen = max(seen, f.at)
		f.mu.Unlock()
	}
	last, err := s.LastRevision(ctx)
	if err == nil && last < seen {
		err = commands.ErrUnsettled
	}
	return err
}

// LastRevision implements commands.Store.
func (s *Store) LastRevision(ctx context.Context) (uint64, error) {
	st, err := s.js.Stream(ctx, StreamCommands)
	if err != nil {
		return 0, fmt.Errorf("read the state of the stream: %w", err)
	}
	return st.CachedInfo().State.LastSeq, nil
}
