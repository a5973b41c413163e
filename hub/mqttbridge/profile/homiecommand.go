package profile

import (
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// Command plans "set".
func (p *homie) Command(gear string, c Command) (Plan, error) {
	if c.Name != "set" {
		return Plan{}, unknownCommand(c.Name, "set")
	}
	if err := onlyArguments(c, "node", "property", "value"); err != nil {
		return Plan{}, err
	}
	node, _ := c.Args["node"].(string)
	id, _ := c.Args["property"].(string)
	d := p.devices[gear]
	if d == nil {
		return Plan{}, Refuse("not described", "the device has not told of its properties")
	}
	property := d.properties[node+"/"+id]
	switch {
	case property == nil:
		return Plan{}, Refuse("bad argument", "the device has no property %s", quoted(node+"/"+id))
	case !property.settable:
		return Plan{}, Refuse("bad argument", "%s is not settable", property.key)
	case homieKindOf(property.datatype) == 0:
		return Plan{}, Refuse("bad argument", "%s has no $datatype of the convention", property.key)
	}
	text, err := homieText(property, c.Args["value"])
	if err != nil {
		return Plan{}, Refuse("bad argument", "%s %v", property.key, err)
	}
	want, err := homieReading(property.datatype, text)
	if err != nil {
		return Plan{}, Refuse("bad argument", "%s: %v", property.key, err)
	}
	topic := p.prefix + "/"
	if d.v5 {
		topic += "5/"
	}
	topic += gear + "/" + property.key
	return Plan{
		Publish: []Publish{{Topic: topic + "/set", Payload: []byte(text)}},
		Turn:    topic,
		Match:   matchHomie(topic, property, want),
	}, nil
}

// matchHomie waits for the value on the property's topic. That it is on its
// way there, the $target of the convention 5, is progress.
func matchHomie(topic string, property *homieProperty, want telemetry.Value) func(Message) (Answer, bool) {
	datatype, key := property.datatype, property.key
	return func(m Message) (Answer, bool) {
		target := m.Topic == topic+"/$target"
		if m.Retained || m.Topic != topic && !target || len(m.Payload) > MaxPayloadBytes {
			return Answer{}, false
		}
		got, err := homieReading(datatype, string(m.Payload))
		if err != nil || got != want {
			return Answer{}, false
		}
		if target {
			return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_RUNNING}, true
		}
		return succeeded(map[string]any{"property": key, "value": plain(got)}), true
	}
}
