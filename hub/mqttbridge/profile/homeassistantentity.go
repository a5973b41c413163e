package profile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
)

// entity is one sensor, switch or the like of a piece of gear.
type entity struct {
	of        *entityGear
	key       string // component/object
	config    string // discovery topic
	component string
	name      string // object id
	field     string
	title     string // for people
	kind      telemetry.Kind
	unit      string

	stateTopic string // "": it has none
	value      valueTemplate
	on, off    string // states of a Bool

	commandTopic string // "": it takes no commands
	sendOn       string
	sendOff      string
	refuses      string // why commands cannot be made, "": they can
	least, most  float64
	options      []string

	availability []availableBy
}

// availableBy is one topic that tells whether an entity is available.
type availableBy struct {
	topic   string
	value   valueTemplate
	on, off string
}

func (e *entity) size() int {
	n := 700 + len(e.key) + len(e.config) + len(e.name) + len(e.field) + len(e.title) + len(e.unit) + len(e.stateTopic) +
		len(e.value.path) + len(e.on) + len(e.off) + len(e.commandTopic) + len(e.sendOn) + len(e.sendOff) + len(e.refuses)
	for _, o := range e.options {
		n += 16 + len(o)
	}
	for _, a := range e.availability {
		n += 200 + len(a.topic) + len(a.value.path) + len(a.on) + len(a.off)
	}
	return n
}

// newEntity reads the config of one entity. alone: it is all that its gear
// has, which is named after it.
func (p *homeassistant) newEntity(component, object string, c entityConfig, alone bool) (*entity, error) {
	e := &entity{component: component, name: object, key: component + "/" + object}
	w := words{c: c}
	class := w.text("device_class", "")
	e.title = clean(w.text("name", object), maxTextBytes)
	e.unit = w.text("unit_of_measurement", "")
	var err error
	if e.value, err = parseValueTemplate(w.text("value_template", w.text("state_value_template", ""))); err != nil {
		return nil, err
	}
	if e.stateTopic, err = p.topic(c, "state_topic"); err != nil {
		return nil, err
	}
	if e.commandTopic, err = p.topic(c, "command_topic"); err != nil {
		return nil, err
	}
	if err := e.shape(class, c, &w); err != nil {
		return nil, err
	}
	if t := w.text("command_template", ""); t != "" && strings.Join(strings.Fields(t), "") != "{{value}}" {
		e.refuses = "its command_template " + quoted(t) + " is not understood"
	}
	if e.availability, err = p.newAvailability(c, &w); err != nil {
		return nil, err
	}
	if w.err != nil {
		return nil, w.err
	}
	e.field = FieldName(object)
	if alone {
		e.field = FieldName(e.plainName(class))
	}
	return e, nil
}

// plainName is the field of an entity whose gear has its name. Each name is of
// one type over all gear.
func (e *entity) plainName(class string) string {
	switch {
	case e.kind == telemetry.Bool && slices.Contains(levelClasses, class):
		return class + "_state"
	case class != "" && len(class) <= 32:
		return class
	case e.kind == telemetry.Bool:
		return "state"
	case e.kind == telemetry.String:
		return "text"
	}
	return "value"
}

// levelClasses are device classes of sensors, which have a number, and of
// binary sensors (www.home-assistant.io/integrations/sensor and
// /integrations/binary_sensor, "Device class").
var levelClasses = []string{"battery", "carbon_monoxide", "gas", "moisture", "power"}

// shape sets what belongs to the component.
func (e *entity) shape(class string, c entityConfig, w *words) error {
	e.on, e.off = w.text("payload_on", "ON"), w.text("payload_off", "OFF")
	e.sendOn, e.sendOff = e.on, e.off
	switch e.component {
	case "sensor":
		e.kind = telemetry.String
		_, precise := c["suggested_display_precision"]
		if e.unit != "" || c["state_class"] != nil || precise || class != "" && class != "enum" && class != "timestamp" && class != "date" {
			e.kind = telemetry.Double
		}
	case "binary_sensor":
		e.kind = telemetry.Bool
	case "switch":
		e.kind = telemetry.Bool
		e.on, e.off = w.text("state_on", e.on), w.text("state_off", e.off)
	case "light":
		e.kind = telemetry.Bool
		switch schema := w.text("schema", "basic"); schema {
		case "basic", "default":
		case "json":
			e.value = valueTemplate{json: true, path: "state"}
			e.on, e.off, e.sendOn, e.sendOff = "ON", "OFF", `{"state":"ON"}`, `{"state":"OFF"}`
		default:
			return fmt.Errorf("lights of the schema %s are not understood", quoted(schema))
		}
	case "number":
		e.kind = telemetry.Double
		e.least, e.most = number(c["min"], 1), number(c["max"], 100)
	case "select":
		e.kind = telemetry.String
		return e.choose(c)
	case "button":
		e.sendOn, e.stateTopic = w.text("payload_press", "PRESS"), ""
	default:
		return fmt.Errorf("entities of the kind %s are not understood", quoted(e.component))
	}
	return nil
}

func number(value any, otherwise float64) float64 {
	n, _ := value.(json.Number)
	if v, err := n.Float64(); err == nil {
		return v
	}
	return otherwise
}

func (e *entity) choose(c entityConfig) error {
	options, _ := c["options"].([]any)
	if len(options) > maxEntityOptions {
		return fmt.Errorf("options: over %d", maxEntityOptions)
	}
	for _, o := range options {
		text, ok := o.(string)
		if !ok || len(text) > maxEntityText {
			return fmt.Errorf("options takes texts to %d bytes", maxEntityText)
		}
		e.options = append(e.options, text)
	}
	return nil
}

// newAvailability reads availability_topic or the list availability.
func (p *homeassistant) newAvailability(c entityConfig, w *words) ([]availableBy, error) {
	var list []availableBy
	one := func(from entityConfig, topicKey, templateKey string) error {
		topic, err := p.topic(from, topicKey)
		if err != nil || topic == "" {
			return err
		}
		in := words{c: from}
		a := availableBy{topic: topic,
			on:  in.text("payload_available", w.text("payload_available", "online")),
			off: in.text("payload_not_available", w.text("payload_not_available", "offline"))}
		if a.value, err = parseValueTemplate(in.text(templateKey, "")); err != nil {
			return err
		}
		list = append(list, a)
		return in.err
	}
	if err := one(c, "availability_topic", "availability_template"); err != nil {
		return nil, err
	}
	entries, _ := c["availability"].([]any)
	if single, ok := c["availability"].(map[string]any); ok {
		entries = []any{single}
	}
	if len(entries)+len(list) > maxEntityAvailing {
		return nil, fmt.Errorf("availability: over %d topics", maxEntityAvailing)
	}
	for _, entry := range entries {
		from, ok := entry.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("availability takes objects with a topic")
		}
		if err := one(from, "topic", "value_template"); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// read the state of an entity; false: it has none now.
func (e *entity) read(d *document) (telemetry.Value, bool, error) {
	text, ok, err := d.text(e.value)
	if err != nil || !ok {
		return telemetry.Value{}, false, err
	}
	switch text {
	case "", "None", "unknown", "unavailable":
		if e.kind != telemetry.String || text == "" {
			return telemetry.Value{}, false, nil
		}
	}
	switch e.kind {
	case telemetry.Double:
		v, ok := parseNumber(text)
		if !ok {
			return telemetry.Value{}, false, fmt.Errorf("%s: %s is no number", e.key, quoted(text))
		}
		return telemetry.DoubleValue(v), true, nil
	case telemetry.Bool:
		switch {
		case sameState(text, e.on):
			return telemetry.BoolValue(true), true, nil
		case sameState(text, e.off):
			return telemetry.BoolValue(false), true, nil
		}
		return telemetry.Value{}, false, fmt.Errorf("%s: %s is neither %s nor %s", e.key, quoted(text), quoted(e.on), quoted(e.off))
	}
	if err := checkText(text); err != nil {
		return telemetry.Value{}, false, fmt.Errorf("%s: %w", e.key, err)
	}
	return telemetry.StringValue(strings.Clone(text)), true, nil
}

// sameState compares a state with a payload of the config. A template makes
// "True" of true in Home Assistant, and configs are written either way.
func sameState(text, want string) bool {
	return text == want || (strings.EqualFold(want, "true") || strings.EqualFold(want, "false")) && strings.EqualFold(text, want)
}
