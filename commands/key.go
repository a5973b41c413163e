package commands

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A key is one command's or one group's. These are of two streams, so that the
// store alone does not tell: each kind looks for the other before it is made,
// and this node makes one kind at a time. Two nodes that are given one key for
// both kinds at the same moment may still take both.

// claimKey keeps a key for one kind of request until release; the error, which
// wraps ErrConflict, says that the other kind is being made of it.
func (d *Dispatcher) claimKey(key string, group bool) (release func(), err error) {
	one := 1
	if group {
		one = -1
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys[key]*one < 0 {
		return nil, fmt.Errorf("key %s: %w", key, ErrConflict)
	}
	d.keys[key] += one
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.keys[key] -= one; d.keys[key] == 0 {
			delete(d.keys, key)
		}
	}, nil
}

// noGroupHas returns ErrConflict when the key is that of a group.
func (d *Dispatcher) noGroupHas(ctx context.Context, key string) error {
	switch _, err := d.cfg.Store.Group(ctx, key); {
	case err == nil:
		return fmt.Errorf("key %s: %w", key, ErrConflict)
	case !errors.Is(err, ErrNotFound):
		return fmt.Errorf("look up the key %s: %w", key, err)
	}
	return nil
}

// noCommandHas is the same for a single command.
func (d *Dispatcher) noCommandHas(ctx context.Context, key string) error {
	switch _, err := d.command(ctx, key); {
	case err == nil:
		return fmt.Errorf("key %s: %w", key, ErrConflict)
	case !errors.Is(err, ErrNotFound):
		return fmt.Errorf("look up the key %s: %w", key, err)
	}
	return nil
}

// createOrFind makes the record of a key, or finds the one that is there. A
// cluster refuses a record while another node's of the same key is on its way,
// and that one may come to nothing: so it tries until one of the two is there.
// An error of create's is returned as stored.
func createOrFind[T any](ctx context.Context, key string, create func() error, find func() (*T, error)) (known *T, stored, err error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		if stored := create(); !errors.Is(stored, ErrExists) {
			return nil, stored, nil
		}
		if known, err := find(); known != nil || err != nil {
			return known, nil, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("key %s is being used by another node: %w", key, ErrUnsettled)
		case <-time.After(pause):
		}
	}
}
