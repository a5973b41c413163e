package api

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// Bounds of the live rows on one node.
const (
	maxFeedWatchers = 256
	// maxWatcherBytes is what waits for one watcher, at most, as sizeOf
	// counts it.
	maxWatcherBytes = 4 << 20
)

// feed gives live rows to all watchers from one tail, which runs while there
// is a watcher. Each row is decoded once, for whoever wants it.
type feed struct {
	tail     Tail
	registry *registry.Registry
	log      *slog.Logger

	mu       sync.Mutex
	watchers []*rowWatcher // never changed in place
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// rowWatcher is one reader of live rows.
type rowWatcher struct {
	filter      filter
	measurement string        // "": all
	changed     chan struct{} // 1: there is something to take

	mu     sync.Mutex
	rows   []*operatorv1.WatchRowsResponse_Row // shared with other watchers
	bytes  int
	missed uint64
	broken error
}

func (f *feed) init(tail Tail, r *registry.Registry, log *slog.Logger) {
	f.tail, f.registry, f.log = tail, r, log
}

// join adds a watcher. It returns errTooManyFeeds.
func (f *feed) join(w *rowWatcher) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.watchers) >= maxFeedWatchers {
		return errTooManyFeeds
	}
	f.watchers = append(f.watchers[:len(f.watchers):len(f.watchers)], w)
	if f.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		f.stop = stop
		f.running.Go(func() { f.run(ctx) })
	}
	return nil
}

// leave takes a watcher out.
func (f *feed) leave(w *rowWatcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := make([]*rowWatcher, 0, len(f.watchers))
	for _, other := range f.watchers {
		if other != w {
			kept = append(kept, other)
		}
	}
	f.watchers = kept
	if len(kept) == 0 && f.stop != nil {
		f.stop()
		f.stop = nil
	}
}

// close waits for the tail's end. All watchers have left.
func (f *feed) close() { f.running.Wait() }

func (f *feed) current() []*rowWatcher {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watchers
}

// run tails until ctx ends. A tail that breaks off ends its watchers: they
// would not know what they miss.
func (f *feed) run(ctx context.Context) {
	err := f.tail.Tail(ctx, f.spread)
	f.mu.Lock()
	if ctx.Err() != nil { // nobody watches, or a later run has taken over
		f.mu.Unlock()
		return
	}
	f.stop() // frees ctx
	watchers := f.watchers
	f.watchers, f.stop = nil, nil
	f.mu.Unlock()
	f.log.Warn("tail of live rows broke off", "error", err)
	for _, w := range watchers {
		w.fail(errFeedEnded)
	}
}

// spread hands a chunk to those who want it. missed chunks held at least one
// row each.
func (f *feed) spread(entries []telemetry.Entry, missed uint64) {
	watchers := f.current()
	for _, w := range watchers {
		w.miss(missed)
	}
	wanting := make([]*rowWatcher, 0, len(watchers))
	for i := range entries {
		e := &entries[i]
		d, _ := f.registry.Get(e.Device)
		wanting = wanting[:0]
		for _, w := range watchers {
			if w.wants(d) {
				wanting = append(wanting, w)
			}
		}
		if len(wanting) > 0 {
			f.entry(e, wanting)
		}
	}
}

func (f *feed) entry(e *telemetry.Entry, wanting []*rowWatcher) {
	err := wire.Rows(telemetry.NewBatch([]telemetry.Entry{*e}), func(row *telemetry.Row) error {
		var shown *operatorv1.WatchRowsResponse_Row
		for _, w := range wanting {
			if w.measurement != "" && w.measurement != row.Measurement {
				continue
			}
			if shown == nil {
				shown = &operatorv1.WatchRowsResponse_Row{
					DeviceId: strings.Clone(row.Device), Measurement: strings.Clone(row.Measurement),
					Time: timestamppb.New(unixNano(row.Time)), Values: valuesProto(row.Fields),
				}
			}
			w.put(shown, sizeOf(row))
		}
		return nil
	})
	if err != nil {
		f.log.Warn("live rows cannot be decoded", "device", e.Device, "error", err)
	}
}

// sizeOf is about what a row takes in memory, in bytes.
func sizeOf(row *telemetry.Row) int {
	n := 256 + len(row.Device) + len(row.Measurement)
	for i := range row.Fields {
		n += 128 + len(row.Fields[i].Name) + len(row.Fields[i].Value.Str())
	}
	return n
}

// wants reports whether rows of d are for this watcher; nil: a device that is
// not in the registry.
func (w *rowWatcher) wants(d *registry.Device) bool {
	if d == nil {
		return w.filter.open && w.filter.ids == nil
	}
	return w.filter.match(d)
}

// put queues a row, or counts it as missed when the watcher is too slow.
func (w *rowWatcher) put(row *operatorv1.WatchRowsResponse_Row, size int) {
	w.mu.Lock()
	if w.bytes+size > maxWatcherBytes {
		w.missed++
	} else {
		w.rows = append(w.rows, row)
		w.bytes += size
	}
	w.mu.Unlock()
	w.wake()
}

func (w *rowWatcher) miss(rows uint64) {
	if rows == 0 {
		return
	}
	w.mu.Lock()
	w.missed += rows
	w.mu.Unlock()
	w.wake()
}

func (w *rowWatcher) fail(err error) {
	w.mu.Lock()
	w.broken = err
	w.mu.Unlock()
	w.wake()
}

func (w *rowWatcher) wake() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (w *rowWatcher) take() (rows []*operatorv1.WatchRowsResponse_Row, missed uint64, broken error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows, missed, broken = w.rows, w.missed, w.broken
	w.rows, w.bytes, w.missed = nil, 0, 0
	return rows, missed, broken
}
