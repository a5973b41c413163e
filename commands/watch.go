package commands

import (
	"context"
	"fmt"
	"time"
)

const (
	// maxBehind is the commands whose changes a watcher may have waiting.
	maxBehind = 4096
	// interimDelay is how long a change that is no end waits for the next of
	// its command: what a quick command goes through on its way to its end
	// would cost the hub and the watcher more than the end itself.
	interimDelay = 5 * time.Millisecond
)

// WatchFilter chooses commands. Every field narrows; the zero value is all.
type WatchFilter struct {
	ID     string
	Device string
	Group  string
	Match  func(device string) bool // nil: all; called with the dispatcher's lock held: memory only

	ended bool // only commands that have ended
}

func (f *WatchFilter) matches(c *Command) bool {
	return (!f.ended || c.State.Ended()) && (f.ID == "" || f.ID == c.ID) && (f.Device == "" || f.Device == c.Device) &&
		(f.Group == "" || f.Group == c.Group) && (f.Match == nil || f.Match(c.Device))
}

// Watch calls fn with commands that match as they change, one at a time; of
// changes that come faster than fn takes them, or within some milliseconds,
// the latest of each command. An end comes at once.
// With an ID it begins with the command as it stands and returns nil after
// its end. Otherwise it returns ctx.Err() when ctx ends, fn's error, or
// ErrNotFound, ErrSlowWatcher or ErrClosed.
func (d *Dispatcher) Watch(ctx context.Context, f WatchFilter, fn func(Command) error) error {
	if err := d.wait(ctx); err != nil {
		return err
	}
	w, leave := d.enter(f)
	defer leave()
	var told *Command // what it has begun with, until the first change
	if f.ID != "" {
		c, err := d.command(ctx, f.ID)
		if err != nil {
			return err
		}
		if !f.matches(c) {
			return fmt.Errorf("command %s: %w", f.ID, ErrNotFound)
		}
		if err := fn(*c); err != nil || c.State.Ended() {
			return err
		}
		told = c
	}
	for {
		c, err := w.next(ctx)
		if err != nil {
			return err
		}
		if told != nil && c.looksLike(told) {
			continue // it changed to that between enter and the look at it
		}
		told = nil
		if err := fn(*c); err != nil || f.ID != "" && c.State.Ended() {
			return err
		}
	}
}

// Await returns a command when it has ended, or as it stands when ctx ends.
// Errors wrap ErrNotFound or ErrClosed, or are the store's.
func (d *Dispatcher) Await(ctx context.Context, id string) (Command, error) {
	if err := d.wait(ctx); err != nil {
		return Command{}, err
	}
	w, leave := d.enter(WatchFilter{ID: id, ended: true})
	defer leave()
	lasting := context.WithoutCancel(ctx)
	c, err := d.command(lasting, id)
	if err != nil || c.State.Ended() {
		return deref(c), err
	}
	if c, err = w.next(ctx); err != nil && ctx.Err() != nil {
		c, err = d.command(lasting, id)
	}
	return deref(c), err
}

// enter begins to watch; leave ends it.
func (d *Dispatcher) enter(f WatchFilter) (w *watcher, leave func()) {
	w = &watcher{filter: f, latest: map[string]*Command{}, more: make(chan struct{}, 1)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watchers.add(w)
	return w, func() {
		d.mu.Lock()
		d.watchers.remove(w)
		d.mu.Unlock()
		w.rest()
	}
}

// command as it stands, in memory or in the store.
func (d *Dispatcher) command(ctx context.Context, id string) (*Command, error) {
	if CheckKey(id) != nil {
		return nil, fmt.Errorf("command %.80q: %w", id, ErrNotFound)
	}
	if e := d.entry(id); e != nil {
		if c := d.look(e); c != nil {
			return c, nil
		}
	}
	c, err := d.cfg.Store.Command(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("command %s: %w", id, err)
	}
	return c, nil
}

// Get returns a command and its story, oldest event first. Errors wrap
// ErrNotFound.
func (d *Dispatcher) Get(ctx context.Context, id string) (Command, []Event, error) {
	if err := d.wait(ctx); err != nil {
		return Command{}, nil, err
	}
	c, err := d.command(ctx, id)
	if err != nil {
		return Command{}, nil, err
	}
	return *c, c.Events, nil
}

// looksLike reports whether a watcher who was told the one gains nothing by
// the other: a record that stores what was told when it was heard differs in
// its revision alone.
func (c *Command) looksLike(other *Command) bool {
	return c.ID == other.ID && c.State == other.State && c.Updated.Equal(other.Updated) &&
		c.Reason == other.Reason && c.Message == other.Message && c.Progress == other.Progress &&
		c.Attempts == other.Attempts && c.CancelRequested == other.CancelRequested && c.Confirmed == other.Confirmed
}

// tellLocked hands a change to those who wait for it.
func (d *Dispatcher) tellLocked(before, c *Command) {
	if before == nil || !c.looksLike(before) {
		d.watchers.tell(c)
	}
	if c.State.Ended() && (before == nil || !before.State.Ended()) {
		d.stats.ended[c.State].Add(1)
		if d.cfg.OnEnd != nil {
			d.cfg.OnEnd(c)
		}
	}
	if g := d.groups[c.Group]; g != nil && c.Group != "" {
		g.tell(c)
	}
}
