package profile

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
)

// Command plans "set" and "press".
func (p *homeassistant) Command(gear string, c Command) (Plan, error) {
	g := p.gear[gear]
	if g == nil {
		return Plan{}, Refuse("not described", "no discovery message told of this gear")
	}
	switch c.Name {
	case "set":
		if err := onlyArguments(c, "entity", "value"); err != nil {
			return Plan{}, err
		}
		e, err := g.pick(c, func(e *entity) bool { return e.component != "button" })
		if err == nil {
			err = p.claimed(g, e.commandTopic)
		}
		if err != nil {
			return Plan{}, err
		}
		return p.set(e, c.Args["value"])
	case "press":
		if err := onlyArguments(c, "entity"); err != nil {
			return Plan{}, err
		}
		e, err := g.pick(c, func(e *entity) bool { return e.component == "button" })
		if err == nil {
			err = p.claimed(g, e.commandTopic)
		}
		if err != nil {
			return Plan{}, err
		}
		return Plan{Publish: []Publish{{Topic: e.commandTopic, Payload: []byte(e.sendOn)}}}, nil
	}
	return Plan{}, unknownCommand(c.Name, "set", "press")
}

// claimed refuses a command topic that discovery of other gear names, too:
// anybody who may publish discovery can name any topic, and whose it is
// nothing tells.
func (p *homeassistant) claimed(by *entityGear, topic string) error {
	for _, g := range p.gear {
		if g == by {
			continue
		}
		for _, e := range g.entities {
			if e.commandTopic == topic {
				return Refuse("claimed twice", "discovery of %s names the command topic %s, too: whose it is cannot be told", quoted(g.name), quoted(topic))
			}
		}
	}
	return nil
}

// pick the entity of a command: the one that is named, or the only one.
func (g *entityGear) pick(c Command, takes func(*entity) bool) (*entity, error) {
	name, named := c.Args["entity"].(string)
	if _, given := c.Args["entity"]; given && !named {
		return nil, Refuse("bad argument", "entity takes an object id")
	}
	var found []*entity
	for _, e := range g.entities {
		if e.commandTopic != "" && takes(e) && (!named || e.name == name || e.field == name || e.key == name) {
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 0 && named:
		return nil, Refuse("bad argument", "no entity %s takes this command", quoted(name))
	case len(found) == 0:
		return nil, Refuse("unknown command", "this gear has no entity that takes it")
	case len(found) > 1:
		slices.SortFunc(found, func(a, b *entity) int { return cmp.Compare(a.key, b.key) })
		names := map[string]bool{}
		for _, e := range found {
			names[e.key] = true
		}
		return nil, Refuse("bad argument", "entity takes one of %s", cut(strings.Join(slices.Sorted(maps.Keys(names)), ", ")))
	case found[0].refuses != "":
		return nil, Refuse("bad argument", "%s: %s", found[0].key, found[0].refuses)
	}
	return found[0], nil
}

// set plans the payload for a value. The answer is the state topic; without
// one the entity cannot answer.
func (p *homeassistant) set(e *entity, value any) (Plan, error) {
	payload, want, err := e.payload(value)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Publish: []Publish{{Topic: e.commandTopic, Payload: []byte(payload)}}}
	if e.stateTopic == "" {
		return plan, nil
	}
	plan.Turn = e.stateTopic
	state := *e
	plan.Match = func(m Message) (Answer, bool) {
		if m.Retained || m.Topic != state.stateTopic || len(m.Payload) > MaxPayloadBytes {
			return Answer{}, false
		}
		got, ok, err := state.read(&document{payload: m.Payload, flat: &p.flat})
		if err != nil || !ok || got != want {
			return Answer{}, false
		}
		return succeeded(map[string]any{"entity": state.name, "value": plain(got)}), true
	}
	return plan, nil
}

// payload for a value, and the state that it is to bring about.
func (e *entity) payload(value any) (string, telemetry.Value, error) {
	var none telemetry.Value
	switch e.component {
	case "switch", "light":
		on, ok := value.(bool)
		if word, text := value.(string); text {
			on, ok = strings.EqualFold(word, "on"), strings.EqualFold(word, "on") || strings.EqualFold(word, "off")
		}
		if !ok {
			return "", none, Refuse("bad argument", "value takes true or false")
		}
		if on {
			return e.sendOn, telemetry.BoolValue(true), nil
		}
		return e.sendOff, telemetry.BoolValue(false), nil
	case "number":
		n, ok := value.(json.Number)
		v, err := strconv.ParseFloat(n.String(), 64)
		if !ok || err != nil || v < e.least || v > e.most {
			return "", none, Refuse("bad argument", "value takes a number from %v to %v", e.least, e.most)
		}
		return strconv.FormatFloat(v, 'f', -1, 64), telemetry.DoubleValue(v), nil
	case "select":
		word, ok := value.(string)
		if !ok || !slices.Contains(e.options, word) {
			return "", none, Refuse("bad argument", "value takes one of %s", cut(strings.Join(e.options, ", ")))
		}
		return word, telemetry.StringValue(word), nil
	}
	return "", none, Refuse("bad argument", "a %s cannot be set", e.component)
}
