package live

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/registry"
)

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
