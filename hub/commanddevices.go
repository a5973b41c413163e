package hub

import (
	"context"
	"fmt"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/registry"
)

// commandDevices is the registry as the commands ask for it.
type commandDevices struct{ registry *registry.Registry }

// CheckDevice implements commands.Devices.
func (c commandDevices) CheckDevice(_ context.Context, id string) error {
	d, ok := c.registry.Get(id)
	if !ok {
		return fmt.Errorf("device %.80q: %w", id, commands.ErrUnknownDevice)
	}
	if d.Disabled {
		return &commands.DisabledError{Device: id, By: d.DisabledBy, Since: d.DisabledSince}
	}
	return nil
}

// SelectDevices implements commands.Devices.
func (c commandDevices) SelectDevices(_ context.Context, selector string) ([]string, error) {
	s, err := registry.ParseSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", commands.ErrInvalid, err)
	}
	var ids []string
	for d := range c.registry.All(s, "") {
		ids = append(ids, d.ID)
	}
	return ids, nil
}
