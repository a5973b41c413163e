package profile

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// zigbeeSettings are the settings of the kind zigbee2mqtt.
type zigbeeSettings struct {
	// Base is Zigbee2MQTT's mqtt.base_topic; "": zigbee2mqtt.
	Base        string `yaml:"base"`
	Measurement string `yaml:"measurement"` // of the rows; "": zigbee2mqtt
}

// zigbeeSilence is what Zigbee2MQTT itself grants to devices with batteries,
// where its availability feature is on.
const zigbeeSilence = 25 * time.Hour

// zigbeeBridge is the gear that stands for Zigbee2MQTT itself.
const zigbeeBridge = "bridge"

// zigbeeKind is gear behind Zigbee2MQTT (www.zigbee2mqtt.io, "MQTT Topics and
// Messages"), with its output as JSON, which is the default.
func zigbeeKind() Kind {
	return Kind{
		Name:    "zigbee2mqtt",
		Summary: "Zigbee devices and groups of Zigbee2MQTT, and its bridge",
		New: func(settings func(any) error) (Profile, error) {
			s := zigbeeSettings{Base: "zigbee2mqtt"}
			if err := settings(&s); err != nil {
				return nil, err
			}
			return newZigbee(s)
		},
		Recognise: recogniseZigbee,
		Silence:   zigbeeSilence,
	}
}

// zigbee is the profile.
type zigbee struct {
	base      string // with a '/' at its end
	measure   string
	flattener Flattener

	heard   map[string]*zigbeeHeard  // at most MaxGear, by name
	devices map[string]*zigbeeDevice // of bridge/devices; nil: not told yet
	groups  map[string]bool          // of bridge/groups
	online  bool                     // as bridge/state said last
}

// zigbeeHeard is gear that told its state.
type zigbeeHeard struct {
	described time.Time         // zero: it is due
	states    map[string]string // what can be toggled, as it was last told
}

func newZigbee(s zigbeeSettings) (Profile, error) {
	if p, err := newPattern(s.Base); err != nil || p.filter() != s.Base || strings.Contains("/"+s.Base+"/", "//") || strings.ContainsAny(s.Base, "+#") {
		return nil, fmt.Errorf("base: %q is no topic: it takes Zigbee2MQTT's mqtt.base_topic", s.Base)
	}
	measure, err := measurementOf(s.Measurement, "zigbee2mqtt")
	if err != nil {
		return nil, err
	}
	return &zigbee{base: s.Base + "/", measure: measure, heard: map[string]*zigbeeHeard{}}, nil
}

// Filters has one for all, because names may have slashes.
func (p *zigbee) Filters() []string { return []string{p.base + "#"} }

// Connected asks for nothing: Zigbee2MQTT keeps its lists on the broker.
func (p *zigbee) Connected() []Publish {
	for _, h := range p.heard {
		h.described = time.Time{}
	}
	return nil
}

// Decode a message.
func (p *zigbee) Decode(m Message, reports []Report) ([]Report, error) {
	rest, ours := strings.CutPrefix(m.Topic, p.base)
	if !ours || rest == "" || len(m.Payload) == 0 {
		return reports, nil
	}
	if topic, ok := strings.CutPrefix(rest, zigbeeBridge+"/"); ok {
		return p.bridge(topic, m, reports)
	}
	gear, availability := strings.CutSuffix(rest, "/availability")
	if !availability && zigbeeAsks(rest) {
		return reports, nil // a command, of whomever
	}
	if err := checkGear(gear); err != nil {
		return reports, err
	}
	var err error
	if availability {
		reports, err = p.availability(gear, m, reports)
	} else {
		reports, err = p.state(gear, m, reports)
	}
	return reports, refusedOf(gear, err)
}

// zigbeeAsks tells whether a topic below the base is one of set and get.
func zigbeeAsks(rest string) bool {
	return strings.HasSuffix(rest, "/set") || strings.HasSuffix(rest, "/get") || strings.Contains(rest, "/set/") || strings.Contains(rest, "/get/")
}

// availability is "online", or {"state":"online"} of later versions.
func (p *zigbee) availability(gear string, m Message, reports []Report) ([]Report, error) {
	state, err := zigbeeState(m.Payload)
	if err != nil {
		return reports, err
	}
	r := Report{Gear: gear, Status: Online, NotAlive: m.Retained}
	if state == "offline" {
		r.Status, r.Reason, r.NotAlive = Offline, "Zigbee2MQTT does not reach it", true
	}
	return append(reports, r), nil
}

func zigbeeState(payload []byte) (string, error) {
	state := string(payload[:min(len(payload), 64)])
	if payload[0] == '{' {
		var document struct {
			State string `json:"state"`
		}
		if err := DecodeJSON(payload, &document); err != nil {
			return "", err
		}
		state = document.State
	}
	if state != "online" && state != "offline" {
		return "", Refuse("unknown availability", "%s", quoted(state))
	}
	return state, nil
}

// state is what a device or group tells of itself.
func (p *zigbee) state(gear string, m Message, reports []Report) ([]Report, error) {
	if p.attribute(gear) {
		return reports, nil
	}
	if m.Payload[0] != '{' {
		return reports, Refuse("not a JSON object", "%s; Zigbee2MQTT's setting advanced.output takes json", quoted(m.Payload))
	}
	leaves, problem, err := p.flattener.Flatten(m.Payload)
	if err != nil {
		return reports, err
	}
	h := p.hear(gear)
	r := Report{Gear: gear, NotAlive: m.Retained}
	var wrong troubles
	if problem != "" {
		wrong.add(problem)
	}
	row := telemetry.Row{Measurement: p.measure, Fields: make([]telemetry.Field, 0, len(leaves))}
	for _, l := range leaves {
		if l.Path == "last_seen" || strings.HasPrefix(l.Path, "device.") {
			continue // when it was heard, and what it is: no readings
		}
		h.keep(l)
		value := l.Value
		if zigbeeSwitches[l.Path] {
			var ok bool
			if value, ok = zigbeeSwitch(l); !ok {
				wrong.add(fmt.Sprintf("%s: %s is neither on nor off", l.Path, quoted(l.text())))
				continue
			}
		}
		row.Fields = append(row.Fields, telemetry.Field{Name: l.Name, Value: value})
	}
	r.Problem = wrong.String()
	// A retained state may be of any age.
	if len(row.Fields) > 0 && !m.Retained {
		r.Rows = []telemetry.Row{row}
	}
	if d := p.devices[gear]; d != nil && (m.Received.Sub(h.described) >= describeEvery || m.Received.Before(h.described)) {
		r.Describe, r.Firmware, h.described = d.describe, d.firmware, m.Received
	}
	return append(reports, r), nil
}

// zigbeeSwitches are properties that some devices tell as true and false and
// others as ON and OFF or LOCK and UNLOCK: zigbee-herdsman-converters
// (lib/exposes.ts) has a preset of each kind for them, as child_lock and
// child_lock_bool. They are bools here.
var zigbeeSwitches = map[string]bool{"child_lock": true, "window_detection": true, "valve_detection": true}

func zigbeeSwitch(l Leaf) (telemetry.Value, bool) {
	if l.Value.Kind() == telemetry.Bool {
		return l.Value, true
	}
	switch strings.ToUpper(l.text()) {
	case "ON", "LOCK", "TRUE", "1":
		return telemetry.BoolValue(true), true
	case "OFF", "UNLOCK", "FALSE", "0":
		return telemetry.BoolValue(false), true
	}
	return telemetry.Value{}, false
}

// attribute tells whether a topic is one value of a known device, which
// Zigbee2MQTT also publishes when its output is attribute_and_json.
func (p *zigbee) attribute(gear string) bool {
	at := strings.LastIndexByte(gear, '/')
	if at < 0 || p.devices == nil || p.has(gear) {
		return false
	}
	return p.has(gear[:at])
}

func (p *zigbee) has(gear string) bool { return p.devices[gear] != nil || p.groups[gear] }

// hear finds the gear. Beyond MaxGear another one is forgotten, which costs
// it nothing but an early description.
func (p *zigbee) hear(gear string) *zigbeeHeard {
	h := p.heard[gear]
	if h == nil {
		if len(p.heard) >= MaxGear {
			for other := range p.heard {
				delete(p.heard, other)
				break
			}
		}
		h = &zigbeeHeard{}
		p.heard[strings.Clone(gear)] = h
	}
	return h
}

// maxZigbeeStates of one device are kept: relays, blinds and locks have few.
const maxZigbeeStates = 16

// keep what a toggle will be known by.
func (h *zigbeeHeard) keep(l Leaf) {
	if l.Value.Kind() != telemetry.String || !strings.HasPrefix(l.Path, "state") || len(l.Path) > 64 || len(l.Value.Str()) > 16 {
		return
	}
	if h.states[l.Path] == l.Value.Str() {
		return
	}
	if h.states == nil {
		h.states = map[string]string{}
	}
	if _, known := h.states[l.Path]; known || len(h.states) < maxZigbeeStates {
		h.states[l.Path] = l.Value.Str()
	}
}

// recogniseZigbee takes what Zigbee2MQTT's bridge says, under any base, and
// JSON objects and availability under the usual one.
func recogniseZigbee(m Message) (map[string]any, bool) {
	base, topic, found := strings.Cut(m.Topic, "/"+zigbeeBridge+"/")
	if found && zigbeeBridgeTells(topic, m.Payload) && plainTopic(base) {
		if base == "zigbee2mqtt" {
			return nil, true
		}
		return map[string]any{"base": base}, true
	}
	rest, usual := strings.CutPrefix(m.Topic, "zigbee2mqtt/")
	if !usual || zigbeeAsks(rest) || len(m.Payload) == 0 {
		return nil, false
	}
	if strings.HasSuffix(rest, "/availability") {
		_, err := zigbeeState(m.Payload)
		return nil, err == nil
	}
	return nil, bytes.HasPrefix(m.Payload, []byte("{")) && CheckJSON(m.Payload) == nil
}

func zigbeeBridgeTells(topic string, payload []byte) bool {
	if len(payload) == 0 {
		return false
	}
	switch topic {
	case "state":
		_, err := zigbeeState(payload)
		return err == nil
	case "devices", "groups":
		return payload[0] == '[' && CheckJSON(payload) == nil
	case "info", "logging", "event":
		return payload[0] == '{' && CheckJSON(payload) == nil
	}
	return false
}
