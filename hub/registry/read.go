package registry

import "iter"

// Get returns a device from memory. The caller must not change it; Clone
// makes a copy that may be changed. It stays as it is when the device
// changes: Get again to see that.
func (r *Registry) Get(id string) (*Device, bool) {
	rec := r.devices.get(id)
	if rec == nil || rec.Deleted {
		return nil, false
	}
	return &rec.Device, true
}

// Len is how many devices there are.
func (r *Registry) Len() int { return int(r.devices.count.Load()) }

// List returns up to limit devices that match the selector, have an id that
// begins with idPrefix and comes after afterID ("" for the first page), in
// the order of ids; and how many there are in all, from the first. The caller
// must not change the devices.
func (r *Registry) List(selector Selector, idPrefix, afterID string, limit int) (devices []*Device, total int) {
	for d := range r.devices.scan(idPrefix, "") {
		if !selector.Match(d.Labels) {
			continue
		}
		total++
		if len(devices) < limit && d.ID > afterID {
			devices = append(devices, d)
		}
	}
	return devices, total
}

// All yields the devices that match the selector and have an id that begins
// with idPrefix, in the order of ids. Devices that come or go meanwhile may
// or may not be among them. The caller must not change the devices.
func (r *Registry) All(selector Selector, idPrefix string) iter.Seq[*Device] {
	return func(yield func(*Device) bool) {
		for d := range r.devices.scan(idPrefix, "") {
			if selector.Match(d.Labels) && !yield(d) {
				return
			}
		}
	}
}

// OnChange calls f for every change from now on, made here or on another
// node, one at a time in the order of the changes. old is nil for a new
// device, new is nil for a deleted one. Get already answers new. f must not
// block, and must not call a method that writes: those wait for it. The
// returned function ends the calls; one may still be under way.
func (r *Registry) OnChange(f func(old, new *Device)) (cancel func()) {
	return r.devices.watch(f)
}

func (d *devices) watch(f func(old, new *Device)) (cancel func()) {
	entry := &f
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watchers = append(d.watchers[:len(d.watchers):len(d.watchers)], entry)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		kept := make([]*func(old, new *Device), 0, len(d.watchers))
		for _, w := range d.watchers {
			if w != entry {
				kept = append(kept, w)
			}
		}
		d.watchers = kept
	}
}
