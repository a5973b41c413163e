package commands

import (
	"context"
	"sync"
	"time"
)

// watcherSet is the watchers: those of one command by its id. Guarded by
// Dispatcher.mu.
type watcherSet struct {
	byID   map[string]map[*watcher]bool
	others map[*watcher]bool
	closed bool
}

func newWatcherSet() watcherSet {
	return watcherSet{byID: map[string]map[*watcher]bool{}, others: map[*watcher]bool{}}
}

func (s *watcherSet) add(w *watcher) {
	if s.closed {
		w.stop(ErrClosed)
		return
	}
	if w.filter.ID == "" {
		s.others[w] = true
		return
	}
	set := s.byID[w.filter.ID]
	if set == nil {
		set = map[*watcher]bool{}
		s.byID[w.filter.ID] = set
	}
	set[w] = true
}

func (s *watcherSet) remove(w *watcher) {
	delete(s.others, w)
	if set := s.byID[w.filter.ID]; set != nil {
		delete(set, w)
		if len(set) == 0 {
			delete(s.byID, w.filter.ID)
		}
	}
}

func (s *watcherSet) tell(c *Command) {
	for w := range s.byID[c.ID] {
		if w.filter.matches(c) {
			w.put(c)
		}
	}
	for w := range s.others {
		if w.filter.matches(c) {
			w.put(c)
		}
	}
}

func (s *watcherSet) close(mu *sync.Mutex) {
	mu.Lock()
	defer mu.Unlock()
	s.closed = true
	for _, set := range s.byID {
		for w := range set {
			w.stop(ErrClosed)
		}
	}
	for w := range s.others {
		w.stop(ErrClosed)
	}
}

// watcher is one Watch.
type watcher struct {
	filter WatchFilter
	more   chan struct{} // capacity 1

	mu     sync.Mutex
	latest map[string]*Command
	order  []string    // ids in latest, the first changed first
	soon   *time.Timer // wakes it interimDelay after a change; nil: none came yet
	timed  bool        // soon runs
	err    error
}

func (w *watcher) put(c *Command) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	if _, waiting := w.latest[c.ID]; !waiting {
		if len(w.order) >= maxBehind {
			w.err = ErrSlowWatcher
		}
		w.order = append(w.order, c.ID)
	}
	w.latest[c.ID] = c
	switch {
	case c.State.Ended() || w.err != nil:
		w.wake()
	case w.timed:
	case w.soon == nil:
		w.soon, w.timed = time.AfterFunc(interimDelay, w.due), true
	default:
		w.soon.Reset(interimDelay)
		w.timed = true
	}
}

// due is called by the timer.
func (w *watcher) due() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timed = false
	w.wake()
}

// rest stops the timer.
func (w *watcher) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timed {
		w.timed = !w.soon.Stop()
	}
}

func (w *watcher) stop(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.wake()
}

func (w *watcher) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// next waits for a change.
func (w *watcher) next(ctx context.Context) (*Command, error) {
	for {
		w.mu.Lock()
		if len(w.order) > 0 && w.err != ErrSlowWatcher {
			id := w.order[0]
			w.order = w.order[1:]
			c := w.latest[id]
			delete(w.latest, id)
			if len(w.order) == 0 && w.timed {
				w.timed = !w.soon.Stop()
			}
			w.mu.Unlock()
			return c, nil
		}
		err := w.err
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.more:
		}
	}
}
