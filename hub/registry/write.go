package registry

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// maxAttempts bounds how often a write is tried again because somebody else
// changed the same device at the same time.
const maxAttempts = 16

// Update changes a device: change gets a copy, alters it, and the copy is
// saved unless somebody else has saved another meanwhile; then it is called
// again with that. Where change alters nothing, nothing is saved. The id,
// kind and time of creation cannot be changed. It returns the device as it is
// now, or ErrNotFound, ErrConflict, ErrInvalid, or the error of change.
func (r *Registry) Update(ctx context.Context, id string, change func(*Device) error) (*Device, error) {
	return r.modify(ctx, id, func(old *Device) (*record, error) {
		next := record{Device: *old.Clone()}
		if err := change(&next.Device); err != nil {
			return nil, err
		}
		if err := next.checkChange(old); err != nil {
			return nil, err
		}
		if reflect.DeepEqual(&next.Device, old) {
			return nil, nil
		}
		return &next, nil
	})
}

// Regear gives a device of kind KindMQTT another broker and profile of its
// gear, where it still has those of from. It returns ErrNotFound, ErrConflict
// or ErrInvalid.
func (r *Registry) Regear(ctx context.Context, id string, from, to Gear) (*Device, error) {
	return r.modify(ctx, id, func(old *Device) (*record, error) {
		if old.Gear == nil || *old.Gear != from || from.Name != to.Name {
			return nil, fmt.Errorf("device %.80q %w", id, ErrConflict)
		}
		next := record{Device: *old.Clone()}
		next.Gear = &to
		return &next, next.check()
	})
}

// Rotate makes the next generation of a device's credential, from the same
// master key. grace is as in Device.Rotate; below 0 it is the default.
func (r *Registry) Rotate(ctx context.Context, id string, grace time.Duration) (*Device, error) {
	if grace < 0 {
		grace = r.cfg.Grace
	}
	return r.Update(ctx, id, func(d *Device) error {
		return d.Rotate(d.KeyID, grace, time.Now())
	})
}

// Proved ends the older generations of a device that has proved a newer one.
func (r *Registry) Proved(ctx context.Context, id string, generation uint32) error {
	_, err := r.Update(ctx, id, func(d *Device) error {
		d.Proved(generation)
		return nil
	})
	return err
}

// Delete ends a device's access and forgets it, but for the generations its
// id has had. It returns ErrNotFound or ErrConflict.
func (r *Registry) Delete(ctx context.Context, id string) error {
	return r.DeleteIf(ctx, id, func(*Device) error { return nil })
}

// DeleteIf is Delete of a device that is still as the caller wants it: allowed
// looks at it, and must not change it; its error is returned.
func (r *Registry) DeleteIf(ctx context.Context, id string, allowed func(*Device) error) error {
	_, err := r.modify(ctx, id, func(old *Device) (*record, error) {
		if err := allowed(old); err != nil {
			return nil, err
		}
		return &record{Device: Device{ID: id, Generation: old.Generation}, Deleted: true}, nil
	})
	return err
}

// modify saves what next makes of the present device, by compare and set;
// nil: nothing.
func (r *Registry) modify(ctx context.Context, id string, next func(*Device) (*record, error)) (*Device, error) {
	for range maxAttempts {
		old, ok := r.Get(id)
		if !ok {
			return nil, fmt.Errorf("device %.80q: %w", id, ErrNotFound)
		}
		changed, err := next(old)
		if err != nil {
			return nil, err
		}
		if changed == nil {
			return old, nil
		}
		revision, err := r.save(ctx, changed, old.Revision)
		if isMismatch(err) {
			if err := r.catchUp(ctx, id); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		changed.Revision = revision
		return &changed.Device, nil
	}
	return nil, fmt.Errorf("device %.80q %w", id, ErrConflict)
}

// save writes a record over the given revision and waits until this node has
// seen it.
func (r *Registry) save(ctx context.Context, rec *record, over uint64) (uint64, error) {
	value, err := rec.encode()
	if err != nil {
		return 0, err
	}
	revision, err := r.deviceMirror.kv.Update(ctx, rec.ID, value, over)
	if err != nil {
		return 0, fmt.Errorf("save device %s: %w", rec.ID, err)
	}
	return revision, r.deviceMirror.wrote(ctx, revision)
}

// Refresh waits until Get answers what the registry holds of a device, which
// another node may have changed a moment ago.
func (r *Registry) Refresh(ctx context.Context, id string) error { return r.catchUp(ctx, id) }

// catchUp waits until this node has seen the newest revision of a device.
func (r *Registry) catchUp(ctx context.Context, id string) error {
	newest, err := r.deviceMirror.newest(ctx, id)
	if errors.Is(err, errNoChange) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read device %s: %w", id, err)
	}
	return r.deviceMirror.wait(ctx, newest.revision)
}

// isMismatch reports whether a write was refused because its key or stream
// had another revision than it expected. A replicated stream answers with
// another code than a single one.
func isMismatch(err error) bool {
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return true
	}
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
