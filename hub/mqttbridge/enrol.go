package mqttbridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tetherline/tetherline/hub/registry"
)

// autoAllow makes a device of gear that was heard, where the config allows it
// by its name. nil: it does not, or not now.
func (b *broker) autoAllow(p *bound, name string, now time.Time) *gear {
	if !p.allows(name) {
		return nil
	}
	if s := p.strange.find(name); s != nil && now.Before(s.tryAt) {
		return nil // it was tried in vain a moment ago
	}
	if most := p.cfg.maxDevices(); len(p.gear) >= most {
		detail := fmt.Sprintf("auto-allow has enrolled its %d devices (max-devices of the profile): allow gear by hand, or raise max-devices", most)
		p.strange.note(name, now).problem = detail
		b.problem(problem{reason: "too much gear", profile: p.cfg.Name, gear: name, detail: detail})
		return nil
	}
	return b.enrol(p, name, deviceID(p.cfg.IDPrefix, name), p.cfg.Labels, "allowed automatically", now)
}

// allows reports whether the config allows gear of that name automatically.
func (p *bound) allows(name string) bool {
	return slices.ContainsFunc(p.cfg.AutoAllow, func(glob string) bool { return globMatches(glob, name) })
}

// retryAllow is how long gear that could not be allowed automatically is left
// alone.
const retryAllow = time.Minute

// enrol has a device made of gear, in the background; messages of it wait.
func (b *broker) enrol(p *bound, name, id string, labels map[string]string, note string, now time.Time) *gear {
	name = strings.Clone(name) // the topic that it is a part of may be long
	g := &gear{bound: p, name: name, allowing: true}
	p.gear[name] = g
	b.allowed[g] = struct{}{}
	b.ask(g, id, labels, note, now)
	return g
}

// ask the registry for a device.
func (b *broker) ask(g *gear, id string, labels map[string]string, note string, now time.Time) {
	made := registry.Gear{Broker: b.cfg.Name, Profile: g.bound.cfg.Name, Name: g.name}
	b.bridge.clerk.do(func(ctx context.Context) {
		d, err := b.bridge.create(ctx, made, id, labels, note)
		b.inbox.post(func() { b.enrolled(g, id, d, err, now) })
	})
}

const allowedByConfig = "allowed by the config"

// configuredPause is after how long gear that the config lists is tried again
// where the registry could not be written.
const configuredPause = time.Second

// retryConfigured tries again what the registry could not write.
func (b *broker) retryConfigured(now time.Time) {
	for g := range b.allowed {
		if g.allowing && !g.againAt.IsZero() && !now.Before(g.againAt) {
			g.againAt = time.Time{}
			g.again()
		}
	}
}

// enrolled is the outcome of enrol.
func (b *broker) enrolled(g *gear, id string, d *registry.Device, err error, now time.Time) {
	if g.device != nil {
		return // the registry has told of it before
	}
	if known, ok := b.bridge.deps.Registry.Get(id); err != nil && ok && known.Gear != nil && *known.Gear == (registry.Gear{Broker: b.cfg.Name, Profile: g.bound.cfg.Name, Name: g.name}) {
		d, err = known, nil // an attempt that seemed to fail has made it
	}
	if g.again != nil && err != nil && !errors.Is(err, registry.ErrExists) && !errors.Is(err, registry.ErrInvalid) {
		// What it says is not acknowledged meanwhile: the config lists it.
		g.againAt = time.Now().Add(configuredPause)
		b.problem(problem{reason: "gear cannot be allowed", profile: g.bound.cfg.Name, gear: g.name, detail: err.Error() + "; trying again"})
		return
	}
	g.allowing, g.again = false, nil
	if err == nil {
		b.deviceIs(g, d)
		b.log.Info("gear allowed", "profile", g.bound.cfg.Name, "gear", g.name, "device", d.ID)
		return
	}
	delete(g.bound.gear, g.name)
	delete(b.allowed, g)
	detail := err.Error()
	if errors.Is(err, registry.ErrExists) {
		detail = fmt.Sprintf("its device id %s is taken by %s; give it one with `hubctl bridge allow --id` or `devices` in the config", id, b.holder(id))
	}
	s := g.bound.strange.note(g.name, now)
	s.problem, s.tryAt = detail, now.Add(retryAllow)
	b.problem(problem{reason: "gear cannot be allowed", profile: g.bound.cfg.Name, gear: g.name, detail: detail})
}

// holder says whose a device id is that gear cannot have.
func (b *broker) holder(id string) string {
	d, ok := b.bridge.deps.Registry.Get(id)
	if !ok || d.Gear == nil {
		return "another device"
	}
	if d.Gear.Broker == b.cfg.Name {
		return fmt.Sprintf("gear %s of profile %s", bounded(d.Gear.Name), d.Gear.Profile)
	}
	return fmt.Sprintf("gear %s of profile %s behind broker %s", bounded(d.Gear.Name), d.Gear.Profile, d.Gear.Broker)
}

// enrolConfigured makes the devices that the config lists and that there are
// not.
func (b *broker) enrolConfigured() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.profiles {
		for i := range p.cfg.Devices {
			c := &p.cfg.Devices[i]
			if g := p.gear[c.Gear]; g != nil {
				if g.device.ID != c.ID {
					b.problem(problem{reason: "gear has another device id", profile: p.cfg.Name, gear: c.Gear,
						detail: fmt.Sprintf("the config says %s, but it was allowed as %s; delete that device to change it", c.ID, g.device.ID)})
				}
				continue
			}
			labels := maps.Clone(p.cfg.Labels)
			if labels == nil {
				labels = make(map[string]string)
			}
			maps.Copy(labels, c.Labels)
			g := b.enrol(p, c.Gear, c.ID, labels, allowedByConfig, time.Now())
			g.again = func() { b.ask(g, c.ID, labels, allowedByConfig, time.Now()) }
		}
	}
}

// load takes over a device of the registry.
func (b *broker) load(d *registry.Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deviceChanged(*d.Gear, d.ID)
}

// deviceChanged: the registry has another word on a device of that gear.
func (b *broker) deviceChanged(of registry.Gear, id string) {
	p := b.boundNamed(of.Profile)
	if p == nil {
		return // not in the config any more
	}
	g := p.gear[of.Name]
	d, ok := b.bridge.deps.Registry.Get(id)
	if !ok {
		if g != nil && g.device != nil && g.device.ID == id {
			b.forget(g)
		}
		return
	}
	if d.Gear == nil || *d.Gear != of {
		return // deleted and made anew meanwhile; that has been told too
	}
	if g == nil {
		g = &gear{bound: p, name: of.Name}
		p.gear[of.Name] = g
		b.allowed[g] = struct{}{}
	}
	if g.device != nil && g.device.ID != id {
		b.problem(problem{reason: "gear has two devices", profile: p.cfg.Name, gear: of.Name,
			detail: fmt.Sprintf("%s and %s; readings go to %s", g.device.ID, id, g.device.ID)})
		return
	}
	b.deviceIs(g, d)
}

// deviceIs takes over the state of a device.
func (b *broker) deviceIs(g *gear, d *registry.Device) {
	g.allowing, g.again, g.againAt = false, nil, time.Time{}
	g.device, g.labels = d, ""
	if labels := b.bridge.deps.Labels; labels != nil {
		g.labels = labels(d)
	}
	if d.Disabled {
		b.leave(g, "disabled by an operator")
	}
	if s := g.bound.strange.find(g.name); s != nil {
		g.first, g.heard, g.messages = s.first, s.last, s.messages
		g.bound.strange.forget(s)
	}
}

// forget gear whose device was deleted.
func (b *broker) forget(g *gear) {
	b.leave(g, "device deleted")
	delete(g.bound.gear, g.name)
	delete(b.allowed, g)
	delete(b.changed, g)
	g.device, g.saving = nil, nil
}

func (b *broker) boundNamed(name string) *bound {
	for _, p := range b.profiles {
		if p.cfg.Name == name {
			return p
		}
	}
	return nil
}
