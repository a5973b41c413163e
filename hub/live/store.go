package live

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/registry"
)

const (
	presenceBucket = "presence"
	keyPrefix      = "$KV." + presenceBucket + "."
	hubStopped     = "hub stopped"

	// openTimeout bounds the making of the bucket; without a deadline the library
	// gives up after 5 s, which a slow disk may take.
	openTimeout = 30 * time.Second

	// What is saved is read again where nothing has come for readTimeout.
	readTimeout  = 5 * time.Second
	readPause    = 200 * time.Millisecond
	readAttempts = 20

	saveBatch    = 256              // writes under way at once
	saveTimeout  = 10 * time.Second // of one batch
	saveRetry    = time.Second      // after a batch that failed
	lastSaveTime = 10 * time.Second // at the end of Run
	// When more than a batch waits, devices come or go in a crowd, and each
	// is likely to change again: they are saved when nothing has changed for
	// calmTime, or after crowdTime.
	calmTime  = 250 * time.Millisecond
	crowdTime = 10 * time.Second
	// How old the saved LastSeen of a device that stays online may get.
	lastSeenAge = 10 * time.Minute
	// How often, and for how many devices at once, a new total of dropped rows
	// is saved while they stay online.
	droppedInterval = 5 * time.Second
	droppedAtOnce   = 500
)

// load opens the bucket and reads it.
func (t *Table) load(ctx context.Context) error {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	kv, err := t.cfg.JetStream.CreateOrUpdateKeyValue(opening, jetstream.KeyValueConfig{
		Bucket: presenceBucket, Description: "where devices are, or were last", History: 1,
		Storage: jetstream.FileStorage, Replicas: max(t.cfg.Replicas, 1),
	})
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", presenceBucket, err)
	}
	t.kv = kv
	for left := readAttempts; ; left-- {
		err := t.read(ctx)
		if err == nil || ctx.Err() != nil || left == 1 {
			return err
		}
		t.logger.Warn("presence is not read; reading it again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(readPause):
		}
	}
}

// read takes in what the bucket has. A cluster may give the watch to a server
// that has just died: that one never answers.
func (t *Table) read(ctx context.Context) error {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := time.AfterFunc(readTimeout, cancel)
	defer silent.Stop()
	w, err := t.kv.WatchAll(reading)
	if err != nil {
		return fmt.Errorf("read bucket %s: %w", presenceBucket, err)
	}
	// The end of reading ends the watch; its last callback may still be
	// waiting for room in the channel.
	defer func() {
		cancel()
		for range w.Updates() {
		}
	}()
	for {
		select {
		case <-reading.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("read bucket %s: %w", presenceBucket, ctx.Err())
			}
			return fmt.Errorf("read bucket %s: nothing has come for %v", presenceBucket, readTimeout)
		case stored, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("read bucket %s: the subscription was closed", presenceBucket)
			}
			if stored == nil {
				return nil
			}
			silent.Reset(readTimeout)
			t.loadEntry(stored)
		}
	}
}

func (t *Table) loadEntry(stored jetstream.KeyValueEntry) {
	if stored.Operation() != jetstream.KeyValuePut {
		return
	}
	id := stored.Key()
	var p registry.Presence
	if err := json.Unmarshal(stored.Value(), &p); err != nil {
		t.logger.Warn("stored presence is not readable", "device", id, "error", err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.cfg.Registry.Get(id); !ok {
		t.toSave(id) // without an entry: to be deleted
		return
	}
	e := t.entry(id)
	e.state, e.revision = p, stored.Revision()
	e.memory.SetDroppedRows(p.Dropped)
	if p.Online && p.Node == t.cfg.Node {
		e.state.Online, e.state.Reason = false, hubStopped
		if p.LastSeen.After(p.Since) {
			e.state.Since = p.LastSeen // nothing later is known
		}
		t.changed(id)
	}
}

// forget removes a device that the registry does not know. mu is held.
func (t *Table) forget(id string) {
	delete(t.entries, id)
	delete(t.retiring, id)
	t.changed(id)
}

// refreshLastSeen has the last word of devices that stay online saved now and
// then, for the case of a crash.
func (t *Table) refreshLastSeen() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for id, e := range t.entries {
		if e.peer != nil && now.Sub(e.saved) > lastSeenAge {
			t.toSave(id)
		}
	}
}

// saveDropped has new totals of dropped rows saved. A device says its total
// with its next frame alone: after a crash of the hub nobody would know of the
// gap until then.
func (t *Table) saveDropped() {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := droppedAtOnce
	for id, e := range t.entries {
		if e.peer == nil || e.state.Epoch != e.epoch || e.state.Dropped == e.memory.DroppedRows() {
			continue
		}
		e.state.Dropped = e.memory.DroppedRows()
		t.toSave(id)
		if left--; left == 0 {
			return
		}
	}
}
