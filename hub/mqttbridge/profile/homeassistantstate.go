package profile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// configure takes a discovery message in. What the same topic told before is
// forgotten; an empty payload does only that.
func (p *homeassistant) configure(t discoveryTopic, m Message) (Report, error) {
	report := Report{Gear: t.gear(), NotAlive: m.Retained}
	if len(m.Payload) == 0 {
		if g := p.gear[t.gear()]; g != nil {
			p.remove(g, m.Topic)
		}
		report.NotAlive = true
		return report, nil
	}
	c, err := parseConfig(m.Payload)
	if err != nil {
		return report, err
	}
	device, _ := c["device"].(map[string]any)
	if text, err := entityConfig(device).text("sw_version"); err == nil {
		report.Firmware = clean(text, 64)
	}
	g := p.gear[t.gear()]
	if g == nil {
		if len(p.gear) >= MaxGear {
			return report, Refuse("too much gear", "over %d", MaxGear)
		}
		g = &entityGear{name: t.gear(), entities: map[string]*entity{}, fields: map[string]int{}, available: map[string]bool{}}
		p.gear[g.name] = g
	}
	p.remove(g, m.Topic)
	p.gear[g.name] = g
	if mode, err := c.text("availability_mode"); err == nil && len(mode) <= 8 {
		g.mode = mode
	}
	var wrong troubles
	topic := strings.Clone(m.Topic)
	if t.component == "device" {
		p.components(g, t, topic, c, &wrong)
	} else if err := p.addWhole(g, t.component, t.object, topic, c, t.node == ""); err != nil {
		wrong.add(err.Error())
	}
	if len(g.entities) == 0 {
		delete(p.gear, g.name)
	}
	report.Problem = wrong.String()
	if due(&g.described, m.Received) {
		report.Describe = p.describe(g)
	}
	return report, nil
}

// components of a discovery message for a whole device: what stands beside
// them holds for all.
func (p *homeassistant) components(g *entityGear, t discoveryTopic, topic string, c entityConfig, wrong *troubles) {
	components, _ := c["components"].(map[string]any)
	for _, object := range slices.Sorted(maps.Keys(components)) {
		own, ok := components[object].(map[string]any)
		if !ok {
			continue
		}
		whole := maps.Clone(map[string]any(c))
		delete(whole, "components")
		maps.Copy(whole, own)
		platform, _ := own["platform"].(string)
		if err := p.addWhole(g, platform, object, topic, whole, false); err != nil {
			wrong.add(err.Error())
		}
	}
	if len(components) == 0 {
		wrong.add("the discovery message of device " + quoted(t.object) + " has no components")
	}
}

// addWhole adds an entity, and the brightness of a light that tells it in the
// same message (www.home-assistant.io/integrations/light.mqtt, "JSON schema").
func (p *homeassistant) addWhole(g *entityGear, component, object, config string, c entityConfig, alone bool) error {
	if err := p.add(g, component, object, config, c, alone); err != nil {
		return err
	}
	if schema, _ := c["schema"].(string); component != "light" || schema != "json" || c["brightness"] != true {
		return nil
	}
	level := entityConfig{"state_topic": c["state_topic"], "value_template": "{{ value_json.brightness }}", "state_class": "measurement", "name": "brightness"}
	if base, ok := c["~"]; ok {
		level["~"] = base
	}
	name := "brightness"
	if !alone {
		name = object + "_" + name
	}
	return p.add(g, "sensor", name, config, level, false)
}

// add an entity. Entities that make one field name are all left out, so that
// which of them is stored does not depend on their order.
func (p *homeassistant) add(g *entityGear, component, object, config string, c entityConfig, alone bool) error {
	e, err := p.newEntity(component, object, c, alone)
	if err != nil {
		return fmt.Errorf("%s/%s: %w", component, object, err)
	}
	switch {
	case g.entities[e.key] != nil:
		return fmt.Errorf("%s is told by two discovery topics: the first is kept", e.key)
	case len(g.entities) >= maxEntities:
		return fmt.Errorf("%s: over %d entities of one device", e.key, maxEntities)
	case len(p.states[e.stateTopic]) >= maxEntities && e.stateTopic != "":
		return fmt.Errorf("%s: over %d entities have one state_topic", e.key, maxEntities)
	case p.memory+e.size() > maxEntityMemory:
		return fmt.Errorf("%s: all entities take over %d MiB", e.key, maxEntityMemory>>20)
	}
	for _, a := range e.availability {
		if len(p.watches[a.topic]) >= MaxGear {
			return fmt.Errorf("%s: over %d entities have one availability_topic", e.key, MaxGear)
		}
	}
	e.of, e.config = g, config
	g.entities[e.key] = e
	g.changed = true
	p.memory += e.size()
	if e.stateTopic != "" {
		g.fields[e.field]++
		p.states[e.stateTopic] = append(p.states[e.stateTopic], e)
	}
	for i, a := range e.availability {
		p.watches[a.topic] = append(p.watches[a.topic], watch{g, e, i})
	}
	if e.stateTopic != "" && g.fields[e.field] > 1 {
		return fmt.Errorf("%s: %d entities make the field %s: none is stored", e.key, g.fields[e.field], e.field)
	}
	return nil
}

// describes notes that a discovery message has told of topics.
func (p *homeassistant) describes(gear, config string) {
	if g := p.gear[gear]; g != nil {
		for _, e := range g.entities {
			if e.config == config && e.stateTopic != "" {
				p.note(e.stateTopic)
			}
		}
	}
}

// remove the entities of a discovery topic.
func (p *homeassistant) remove(g *entityGear, config string) {
	for key, e := range g.entities {
		if e.config != config {
			continue
		}
		delete(g.entities, key)
		g.changed = true
		p.memory -= e.size()
		if e.stateTopic != "" {
			if g.fields[e.field]--; g.fields[e.field] == 0 {
				delete(g.fields, e.field)
			}
			left := slices.DeleteFunc(p.states[e.stateTopic], func(other *entity) bool { return other == e })
			if p.states[e.stateTopic] = left; len(left) == 0 {
				delete(p.states, e.stateTopic)
			}
		}
		for _, a := range e.availability {
			left := slices.DeleteFunc(p.watches[a.topic], func(w watch) bool { return w.of == e })
			if p.watches[a.topic] = left; len(left) == 0 {
				delete(p.watches, a.topic)
				delete(g.available, a.topic)
			}
		}
	}
	if len(g.entities) == 0 {
		delete(p.gear, g.name)
	}
}

// read the states that a message has, in one row for each piece of gear.
func (p *homeassistant) read(entities []*entity, m Message, reports []Report) []Report {
	d := &document{payload: m.Payload, flat: &p.flat}
	first := len(reports)
	wrong := map[*entityGear]*troubles{}
	for _, e := range entities {
		i := slices.IndexFunc(reports[first:], func(r Report) bool { return r.Gear == e.of.name })
		if i < 0 {
			i = len(reports) - first
			reports = append(reports, Report{Gear: e.of.name, NotAlive: m.Retained})
			wrong[e.of] = &troubles{}
		}
		report := &reports[first+i]
		value, ok, err := e.read(d)
		switch {
		case err != nil:
			wrong[e.of].add(err.Error())
		case m.Retained || !ok: // when it was taken is not known
		case e.of.fields[e.field] > 1:
			wrong[e.of].add(fmt.Sprintf("%s: several entities make the field %s: none is stored", e.key, e.field))
		default:
			if report.Rows == nil {
				report.Rows = []telemetry.Row{{Measurement: p.measure}}
			}
			report.Rows[0].Fields = append(report.Rows[0].Fields, telemetry.Field{Name: e.field, Value: value})
		}
		report.Problem = wrong[e.of].String()
		if report.Describe == nil {
			report.Describe = p.description(e.of, m.Received)
		}
	}
	return reports
}

// availability reports on gear with that availability topic.
func (p *homeassistant) availability(watches []watch, m Message, reports []Report) []Report {
	told := map[*entityGear]bool{}
	for _, w := range watches {
		if told[w.gear] {
			continue
		}
		a := w.of.availability[w.number]
		text, ok, err := (&document{payload: m.Payload, flat: &p.flat}).text(a.value)
		if err != nil || !ok || !sameState(text, a.on) && !sameState(text, a.off) {
			if len(p.states[m.Topic]) == 0 {
				reports = append(reports, Report{Gear: w.gear.name, NotAlive: true,
					Problem: fmt.Sprintf("availability %s is neither %s nor %s", quoted(text), quoted(a.on), quoted(a.off))})
			}
			told[w.gear] = true
			continue
		}
		told[w.gear] = true
		w.gear.available[a.topic] = sameState(text, a.on)
		report := Report{Gear: w.gear.name, Status: Offline, Reason: "availability topic", NotAlive: true}
		if w.gear.isAvailable(w.gear.available[a.topic]) {
			report.Status, report.Reason, report.NotAlive = Online, "", m.Retained
			report.Describe = p.description(w.gear, m.Received)
		}
		reports = append(reports, report)
	}
	return reports
}

// isAvailable by availability_mode: "latest" is the word in hand.
func (g *entityGear) isAvailable(latest bool) bool {
	switch g.mode {
	case "all":
		return !slices.Contains(slices.Collect(maps.Values(g.available)), false)
	case "any":
		return slices.Contains(slices.Collect(maps.Values(g.available)), true)
	}
	return latest
}

// description of the gear where it has changed or is due; else nil.
func (p *homeassistant) description(g *entityGear, now time.Time) *devicev1.Describe {
	if !due(&g.described, now) && !g.changed {
		return nil
	}
	return p.describe(g)
}

func (p *homeassistant) describe(g *entityGear) *devicev1.Describe {
	g.changed = false
	entities := slices.SortedFunc(maps.Values(g.entities), func(a, b *entity) int { return cmp.Compare(a.key, b.key) })
	d := describing(p.measure)
	set, press := false, false
	for _, e := range entities {
		set = set || e.commandTopic != "" && e.component != "button"
		press = press || e.commandTopic != "" && e.component == "button"
	}
	if set {
		d.command("set", "set a switch, light, number or select; it has succeeded when the state says so",
			argument("entity", telemetry.String, false, "object id or field; not needed where there is one"),
			argument("value", anyKind, true, "true or false, a number, or an option"))
	}
	if press {
		d.command("press", "press a button", argument("entity", telemetry.String, false, "object id; not needed where there is one"))
	}
	for _, e := range entities {
		if e.stateTopic != "" && g.fields[e.field] == 1 {
			d.field(e.field, e.unit, e.kind, e.title)
		}
	}
	return d.done()
}
