package registry

import (
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// record is a device as it is stored. A deleted one stays as a tombstone
// with its id and last generation, so that a device made later under the
// same id never accepts an old credential.
type record struct {
	Device
	Deleted bool `json:"deleted,omitempty"`
}

// slot is the place of one id. Only the mirror's goroutine stores into it.
type slot struct {
	id     string
	record atomic.Pointer[record]
}

// live is the device in the slot, or nil.
func (s *slot) live() *Device {
	if r := s.record.Load(); r != nil && !r.Deleted {
		return &r.Device
	}
	return nil
}

// devices is the copy in memory of the devices' bucket. Readers run at once
// with the one writer.
type devices struct {
	logger *slog.Logger
	count  atomic.Int64

	// The writer's.
	texts interned

	mu        sync.RWMutex
	byID      map[string]*slot
	index     []*slot // by id; never changed in place
	unindexed []*slot // not in index yet
	stale     int     // slots of index that hold no device
	watchers  []*func(old, new *Device)
}

func (d *devices) init(logger *slog.Logger) {
	d.logger = logger
	d.byID = make(map[string]*slot)
	d.texts = make(interned)
}

// apply implements mirrored.
func (d *devices) apply(key string, value []byte, revision uint64) {
	var next *record
	if value != nil {
		next = &record{}
		if err := json.Unmarshal(value, next); err != nil || next.ID != key {
			d.logger.Error("unreadable device in the registry; ignored", "device", key, "revision", revision, "error", err)
			return
		}
		next.Revision = revision
	}
	s := d.slot(key, next != nil)
	if s == nil {
		return
	}
	previous := s.record.Load()
	if previous != nil && next != nil && previous.Revision == revision {
		return // seen before the watch was begun again
	}
	if next != nil {
		next.Describe = d.texts.take(next.Describe)
	}
	old := s.live()
	s.record.Store(next)
	now := s.live()
	d.reindex(s, old, now)
	if previous != nil {
		d.texts.drop(previous.Describe)
	}
	if old == nil && now == nil {
		return
	}
	for _, f := range d.listeners() {
		(*f)(old, now)
	}
}

// slot finds the slot of an id, and makes it if asked to.
func (d *devices) slot(id string, make bool) *slot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.byID[id]
	if s == nil && make {
		s = &slot{id: id}
		d.byID[id] = s
	}
	return s
}

// reindex notes that the device of s has come or gone.
func (d *devices) reindex(s *slot, old, now *Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case old == nil && now != nil:
		d.count.Add(1)
		d.unindexed = append(d.unindexed, s)
	case old != nil && now == nil:
		d.count.Add(-1)
		d.stale++
	}
	if s.record.Load() == nil {
		delete(d.byID, s.id)
	}
}

func (d *devices) loaded() {}

func (d *devices) keys() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	keys := make([]string, 0, len(d.byID))
	for id := range d.byID {
		keys = append(keys, id)
	}
	return keys
}

func (d *devices) listeners() []*func(old, new *Device) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.watchers
}

// get is the record of an id, which may be a tombstone; nil: never seen.
func (d *devices) get(id string) *record {
	d.mu.RLock()
	s := d.byID[id]
	d.mu.RUnlock()
	if s == nil {
		return nil
	}
	return s.record.Load()
}

// sorted is all slots in the order of their ids. The caller must not change
// it. Coming and going is merged in here, so that a burst of new devices
// costs one merge.
func (d *devices) sorted() []*slot {
	d.mu.RLock()
	index, clean := d.index, len(d.unindexed) == 0 && d.stale == 0
	d.mu.RUnlock()
	if clean {
		return index
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.unindexed) == 0 && d.stale == 0 {
		return d.index
	}
	slices.SortFunc(d.unindexed, func(a, b *slot) int { return strings.Compare(a.id, b.id) })
	merged := make([]*slot, 0, d.count.Load())
	a, b := d.index, d.unindexed
	for len(a) > 0 || len(b) > 0 {
		var next *slot
		if len(b) == 0 || len(a) > 0 && a[0].id <= b[0].id {
			next, a = a[0], a[1:]
		} else {
			next, b = b[0], b[1:]
		}
		if next.live() == nil || len(merged) > 0 && merged[len(merged)-1] == next {
			continue
		}
		merged = append(merged, next)
	}
	d.index, d.unindexed, d.stale = merged, nil, 0
	return merged
}

// scan yields the devices whose id begins with prefix and comes after
// afterID, in the order of ids.
func (d *devices) scan(prefix, afterID string) iter.Seq[*Device] {
	return func(yield func(*Device) bool) {
		index := d.sorted()
		start, _ := slices.BinarySearchFunc(index, max(prefix, afterID), func(s *slot, id string) int {
			return strings.Compare(s.id, id)
		})
		for _, s := range index[start:] {
			if !strings.HasPrefix(s.id, prefix) {
				if s.id > prefix {
					return
				}
				continue
			}
			if s.id == afterID {
				continue
			}
			if dev := s.live(); dev != nil && !yield(dev) {
				return
			}
		}
	}
}

// encode is the stored form.
func (r *record) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode device %s: %w", r.ID, err)
	}
	return b, nil
}
