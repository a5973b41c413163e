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
	g := &gear{bound: p, name: name, allowing: true, becomes: enrolment{id: id, labels: labels, note: note, at: now}}
	p.gear[name] = g
	b.allowed[g] = struct{}{}
	b.ask(g)
	return g
}

// enrolment is the device that gear is to become.
type enrolment struct {
	id     string
	labels map[string]string
	note   string
	at     time.Time // when the gear was heard first, or the config was read
}

// ask the registry for a device.
func (b *broker) ask(g *gear) {
	g.again = false
	made, w := registry.Gear{Broker: b.cfg.Name, Profile: g.bound.cfg.Name, Name: g.name}, g.becomes
	b.bridge.clerk.do(func(ctx context.Context) {
		d, err := b.bridge.create(ctx, made, w.id, w.labels, w.note)
		b.inbox.post(func() { b.enrolled(g, w.id, d, err, w.at) })
	})
}

const allowedByConfig = "allowed by the config"

// Pauses of enrolment while the registry cannot be written: the first and the
// longest.
const (
	enrolPause    = time.Second
	maxEnrolPause = 8 * time.Second
)

// retryEnrolment tries again what the registry could not write: one piece of
// gear, and with the first success all.
func (b *broker) retryEnrolment(now time.Time) {
	if b.tried != nil || b.enrolAgain.IsZero() || now.Before(b.enrolAgain) {
		return
	}
	for g := range b.allowed {
		if g.allowing && g.again {
			b.tried = g
			b.ask(g)
			return
		}
	}
	b.enrolAgain, b.enrolPause = time.Time{}, 0
}

// enrolLater: the registry could not be written, whatever the gear. What the
// gear says is not acknowledged meanwhile.
func (b *broker) enrolLater(g *gear, err error) {
	g.again = true
	if b.enrolAgain.IsZero() || b.tried == g {
		b.tried = nil
		b.enrolPause = min(max(2*b.enrolPause, enrolPause), maxEnrolPause)
		b.enrolAgain = time.Now().Add(b.enrolPause)
	}
	b.problem(problem{reason: "gear cannot be allowed", profile: g.bound.cfg.Name, gear: g.name,
		detail: err.Error() + "; trying again, and what it says waits unacknowledged"})
}

// enrolAll tries all that waits: the registry can be written.
func (b *broker) enrolAll() {
	if b.enrolAgain.IsZero() {
		return
	}
	b.enrolAgain, b.enrolPause, b.tried = time.Time{}, 0, nil
	for g := range b.allowed {
		if g.allowing && g.again {
			b.ask(g)
		}
	}
}

// enrolled is the outcome of enrol.
func (b *broker) enrolled(g *gear, id string, d *registry.Device, err error, now time.Time) {
	if g.device != nil {
		b.enrolAll()
		return // the registry has told of it before
	}
	known, ok := b.bridge.deps.Registry.Get(id)
	if err != nil && ok && known.Gear != nil && *known.Gear == (registry.Gear{Broker: b.cfg.Name, Profile: g.bound.cfg.Name, Name: g.name}) {
		d, err = known, nil // an attempt that seemed to fail has made it
	}
	if err != nil && !errors.Is(err, registry.ErrInvalid) && !(errors.Is(err, registry.ErrExists) && ok) {
		b.enrolLater(g, err)
		return
	}
	g.allowing = false
	if err == nil {
		b.enrolAll()
		b.deviceIs(g, d)
		b.log.Info("gear allowed", "profile", g.bound.cfg.Name, "gear", g.name, "device", d.ID)
		return
	}
	if b.tried == g {
		b.tried = nil // it says nothing of the others
	}
	delete(g.bound.gear, g.name)
	delete(b.allowed, g)
	detail, reason := err.Error(), "gear cannot be allowed"
	renamed := false
	if errors.Is(err, registry.ErrExists) {
		detail = fmt.Sprintf("its device id %s is taken by %s; give it one with `hubctl bridge allow --id` or `devices` in the config", id, b.holder(id))
		if d := b.bridge.left(id, g.name); d != nil {
			renamed, reason, detail = true, renamedGear, b.takeOver(d, g.bound.cfg.Name)
		}
	}
	s := g.bound.strange.note(g.name, now)
	s.problem, s.renamed, s.tryAt = detail, renamed, now.Add(retryAllow)
	b.problem(problem{reason: reason, profile: g.bound.cfg.Name, gear: g.name, detail: detail})
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
			b.enrol(p, c.Gear, c.ID, labels, allowedByConfig, time.Now())
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
	g.allowing, g.again = false, false
	if g.device == nil {
		b.recallPresence(g, d.ID)
	}
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
