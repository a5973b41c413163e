package api

import (
	"context"
	"fmt"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/registry"
)

// A device that an operator may not see does not exist for that operator:
// the answers are the same, word for word.

// scope is the selector of the caller.
func scope(ctx context.Context) registry.Selector { return callOf(ctx).operator.Selector }

// selectorIn reads a selector and narrows it to the caller's scope.
func selectorIn(ctx context.Context, text string) (registry.Selector, error) {
	selector, err := registry.ParseSelector(text)
	if err != nil {
		return registry.Selector{}, err
	}
	return selector.And(scope(ctx)), nil
}

func noDevice(id string) error { return fmt.Errorf("device %.80q: %w", id, registry.ErrNotFound) }

// visible is a device that the caller may see.
func (s *Server) visible(ctx context.Context, id string) (*registry.Device, error) {
	if err := device.CheckID(id); err != nil {
		return nil, err
	}
	d, ok := s.deps.Registry.Get(id)
	if !ok || !scope(ctx).Match(d.Labels) {
		return nil, noDevice(id)
	}
	return d, nil
}

// readable permits reading what there is of a device. A deleted device's
// readings stay, for operators who may see all devices; d is nil then.
func (s *Server) readable(ctx context.Context, id string) (d *registry.Device, err error) {
	d, err = s.visible(ctx, id)
	if err != nil && device.CheckID(id) == nil && scope(ctx).Empty() {
		return nil, nil
	}
	return d, err
}

// sees reports whether the caller may see a device, which may not exist.
func (s *Server) sees(ctx context.Context, id string) bool {
	bound := scope(ctx)
	if bound.Empty() {
		return true
	}
	d, ok := s.deps.Registry.Get(id)
	return ok && bound.Match(d.Labels)
}

// update changes a device that is in the caller's scope and must stay in it.
// The labels are looked at in the same step that changes them.
func (s *Server) update(ctx context.Context, id string, change func(*registry.Device) error) (*registry.Device, error) {
	if _, err := s.visible(ctx, id); err != nil {
		return nil, err
	}
	bound := scope(ctx)
	return s.deps.Registry.Update(ctx, id, func(d *registry.Device) error {
		if !bound.Match(d.Labels) {
			return noDevice(id)
		}
		if err := change(d); err != nil {
			return err
		}
		if !bound.Match(d.Labels) {
			return errOutOfScope
		}
		return nil
	})
}
