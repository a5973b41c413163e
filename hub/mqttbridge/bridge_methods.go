package mqttbridge

import (
	"context"

	"github.com/tetherline/tetherline/hub/registry"
)

// Bridge connects the hub to its MQTT brokers. Its methods may run at once.
type Bridge struct {
	cfg  Config
	deps Deps
}

// New checks the config and makes a Bridge that does nothing before Run.
func New(cfg Config, deps Deps) (*Bridge, error) {
	return &Bridge{cfg: cfg, deps: deps}, nil
}

// Run serves the brokers until ctx ends. It may be called once.
func (b *Bridge) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Brokers are the brokers in the order of the config.
func (b *Bridge) Brokers() []BrokerStatus { return nil }

// Gear is what was heard on a broker, or is allowed there, by profile and
// name; "": on all brokers.
func (b *Bridge) Gear(broker string) []SeenGear { return nil }

// Allow makes a device of gear: from then on its readings are stored. id "":
// made of the profile's prefix and the gear's name. Errors wrap
// ErrUnknownGear, registry.ErrExists or registry.ErrInvalid, or are those of
// the storage.
func (b *Bridge) Allow(ctx context.Context, gear registry.Gear, id string, labels map[string]string, note string) (*registry.Device, error) {
	return nil, ErrUnknownGear
}
