package mqttbridge

import (
	"context"
	"fmt"
	"maps"

	"github.com/tetherline/tetherline/hub/registry"
)

// renamedGear is the reason of gear that is a device already, behind a broker
// or profile that the config has no more: it was renamed, most likely. Nothing
// of it is stored until somebody who may says that it is the same.
const renamedGear = "gear of a renamed broker or profile"

// left is the device of that id, where it is gear of that name behind a broker
// or profile that the config has not; else nil.
func (b *Bridge) left(id, name string) *registry.Device {
	d, ok := b.deps.Registry.Get(id)
	if !ok || d.Kind != registry.KindMQTT || d.Gear == nil || d.Gear.Name != name {
		return nil
	}
	if br := b.broker(d.Gear.Broker); br != nil && br.boundNamed(d.Gear.Profile) != nil {
		return nil
	}
	return d
}

// takeOver says what such gear is, and what to do.
func (b *broker) takeOver(d *registry.Device, profile string) string {
	return fmt.Sprintf("device %s was allowed as gear of broker %q, profile %q, which the config no longer has: rename back, or `hubctl bridge allow %s %s '%s' --id %s` keeps the device (`--all-unknown`: all)",
		d.ID, d.Gear.Broker, d.Gear.Profile, b.cfg.Name, profile, bounded(d.Gear.Name), d.ID)
}

// takeOver has a device be gear of another broker or profile. Its labels and
// note stay, with those that are given besides.
func (b *Bridge) takeOver(ctx context.Context, d *registry.Device, of registry.Gear, labels map[string]string, note string) (*registry.Device, error) {
	if len(labels) > 0 || note != "" {
		_, err := b.deps.Registry.Update(ctx, d.ID, func(d *registry.Device) error {
			if d.Labels == nil {
				d.Labels = make(map[string]string)
			}
			if maps.Copy(d.Labels, labels); note != "" {
				d.Note = note
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return b.deps.Registry.Regear(ctx, d.ID, *d.Gear, of)
}

// renamed counts gear of which nothing is stored because its device is that of
// a broker or profile that the config has not.
func (b *broker) renamed() (n int) {
	for _, p := range b.profiles {
		for _, s := range p.strange.known {
			if s.renamed {
				n++
			}
		}
	}
	return n
}
