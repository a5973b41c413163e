package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/registry"
)

const (
	presenceBucket = "presence"
	keyPrefix      = "$KV." + presenceBucket + "."
	hubStopped     = "hub stopped"

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
	kv, err := t.cfg.JetStream.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: presenceBucket, Description: "where devices are, or were last", History: 1,
		Storage: jetstream.FileStorage, Replicas: max(t.cfg.Replicas, 1),
	})
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", presenceBucket, err)
	}
	t.kv = kv
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("read bucket %s: %w", presenceBucket, err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("read bucket %s: %w", presenceBucket, ctx.Err())
		case stored, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("read bucket %s: the subscription was closed", presenceBucket)
			}
			if stored == nil {
				return nil
			}
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

// toSave marks a device as to be saved. mu is held.
func (t *Table) toSave(id string) {
	t.unsaved[id] = struct{}{}
	select {
	case t.saveNow <- struct{}{}:
	default:
	}
}

// saveLoop saves what has changed until ctx ends, and then what is left.
func (t *Table) saveLoop(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-t.saveNow:
			for more := true; more && ctx.Err() == nil; {
				for batches := t.awaitCalm(ctx); batches > 0 && more && ctx.Err() == nil; batches-- {
					more = t.saveSome(ctx)
				}
			}
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSaveTime)
	defer cancel()
	for last.Err() == nil && t.saveSome(last) {
	}
}

// awaitCalm waits while devices come and go in a crowd, so that a storm of
// reconnects neither waits for the disk nor writes each device twice. It
// returns how many batches there are to save, 1 or more.
func (t *Table) awaitCalm(ctx context.Context) (batches int) {
	timeout := time.After(crowdTime)
	for seen := uint64(0); ; {
		t.mu.RLock()
		waiting, changes := len(t.unsaved), t.changes
		t.mu.RUnlock()
		batches = max((waiting+saveBatch-1)/saveBatch, 1)
		if batches == 1 || changes == seen {
			return batches
		}
		seen = changes
		select {
		case <-ctx.Done():
			return batches
		case <-timeout:
			return batches
		case <-time.After(calmTime):
		}
	}
}

// save is one write under way.
type save struct {
	id    string
	entry *entry
	epoch uint64
	ack   jetstream.PubAckFuture
}

// saveSome saves a batch. It reports whether there may be more.
func (t *Table) saveSome(ctx context.Context) bool {
	saves, more, why := t.beginSaves(ctx)
	timer := time.NewTimer(saveTimeout)
	defer timer.Stop()
	for _, s := range saves {
		var err error
		select {
		case ack := <-s.ack.Ok():
			t.saved(s, ack.Sequence)
			continue
		case err = <-s.ack.Err():
		case <-timer.C:
			timer.Reset(0)
			err = context.DeadlineExceeded
		}
		if err = t.settleConflict(ctx, s, err); err != nil {
			why = err
			t.saveAgain(s.id)
		}
	}
	if why == nil {
		return more
	}
	t.logger.Warn("presence could not be saved; trying again", "error", why)
	select {
	case <-ctx.Done():
	case <-time.After(saveRetry):
	}
	return true
}

// beginSaves starts the writes of a batch. What could not be started is
// marked again; why is the last reason.
func (t *Table) beginSaves(ctx context.Context) (saves []save, more bool, why error) {
	t.mu.Lock()
	type write struct {
		save
		value    []byte
		revision uint64
	}
	var writes []write
	var gone []string
	for id := range t.unsaved {
		if len(writes) == saveBatch {
			break
		}
		delete(t.unsaved, id)
		e := t.entries[id]
		if e == nil {
			gone = append(gone, id)
			continue
		}
		if e.state.Node != t.cfg.Node { // another node's to save
			continue
		}
		if value, err := json.Marshal(e.presence()); err == nil {
			writes = append(writes, write{save{id: id, entry: e, epoch: e.state.Epoch}, value, e.revision})
		}
	}
	more = len(t.unsaved) > 0
	t.mu.Unlock()
	for _, id := range gone {
		if err := t.kv.Delete(ctx, id); err != nil {
			t.logger.Warn("presence of a deleted device could not be removed", "device", id, "error", err)
		}
	}
	for _, w := range writes {
		ack, err := t.cfg.JetStream.PublishMsgAsync(&nats.Msg{Subject: keyPrefix + w.id, Data: w.value},
			jetstream.WithExpectLastSequencePerSubject(w.revision))
		if err != nil {
			why = err
			t.saveAgain(w.id)
			continue
		}
		w.ack = ack
		saves = append(saves, w.save)
	}
	return saves, more, why
}

func (t *Table) saved(s save, revision uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.entry.revision, s.entry.saved = revision, time.Now()
}

func (t *Table) saveAgain(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.toSave(id)
}

// settleConflict handles a write that another node's came before. What is
// stored of a newer session stays.
func (t *Table) settleConflict(ctx context.Context, s save, err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence &&
		api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequenceConstant {
		return err
	}
	stored, err := t.kv.Get(ctx, s.id)
	var p registry.Presence
	revision := uint64(0)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		// Deleted: its marker is the last of the subject.
		history, herr := t.kv.History(ctx, s.id)
		if herr != nil || len(history) == 0 {
			return errors.Join(err, herr)
		}
		revision = history[len(history)-1].Revision()
	case err != nil:
		return err
	default:
		revision = stored.Revision()
		_ = json.Unmarshal(stored.Value(), &p)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.entry.revision = revision
	if p.Epoch > s.entry.state.Epoch {
		s.entry.state = p
		t.notify(s.id)
		return nil
	}
	t.toSave(s.id)
	return nil
}
