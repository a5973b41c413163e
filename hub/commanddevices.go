package hub

import (
	"context"
	"fmt"
	"strconv"

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

// Registration implements commands.Devices: a device that is made anew has
// another time of creation.
func (c commandDevices) Registration(id string) string {
	d, ok := c.registry.Get(id)
	if !ok {
		return ""
	}
	return strconv.FormatInt(d.Created.UnixNano(), 36)
}

// Refresh implements commands.Devices.
func (c commandDevices) Refresh(ctx context.Context, id string) error {
	return c.registry.Refresh(ctx, id)
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

// commandOperators is the registry as the commands ask it for those who have
// sent a group command.
type commandOperators struct{ registry *registry.Registry }

// CheckOperator implements commands.Operators.
func (c commandOperators) CheckOperator(name, id, device string) error {
	o, ok := c.registry.Operator(name)
	if !ok || id != "" && o.ID() != id || o.Role < registry.RoleOperator {
		return fmt.Errorf("%s %w", name, commands.ErrNoOperator)
	}
	if o.Unbound() {
		return nil
	}
	if d, ok := c.registry.Get(device); !ok || !o.Selector.Match(d.Labels) {
		return fmt.Errorf("device %s %w", device, commands.ErrOutOfReach)
	}
	return nil
}

// RefreshOperators implements commands.Operators.
func (c commandOperators) RefreshOperators(ctx context.Context) error {
	return c.registry.RefreshOperators(ctx)
}
