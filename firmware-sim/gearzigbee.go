package firmwaresim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// zigbeeGear is Zigbee2MQTT with plugs behind it (www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html).
type zigbeeGear struct {
	names []string
	plugs map[string]*plug
}

func newZigbeeGear(names []string, rng *rand.Rand) gearModel {
	g := &zigbeeGear{names: names, plugs: map[string]*plug{}}
	for _, name := range names {
		g.plugs[name] = newPlug(rng)
	}
	return g
}

const zigbeeBase = "zigbee2mqtt/"

func (g *zigbeeGear) will(uint64) gearMessage {
	return keptBy(zigbeeBase+"bridge/state", `{"state":"offline"}`)
}

func (g *zigbeeGear) listens() []string {
	return []string{zigbeeBase + "+/set", zigbeeBase + "+/get"}
}

func (g *zigbeeGear) born(uint64) []gearMessage {
	devices := []any{map[string]any{"ieee_address": "0x00124b0022d2d320", "type": "Coordinator", "friendly_name": "Coordinator", "supported": false}}
	for i, name := range g.names {
		devices = append(devices, map[string]any{
			"ieee_address": fmt.Sprintf("0x00158d0001%06x", i),
			"type":         "Router", "friendly_name": name, "supported": true, "software_build_id": "01.01.7c",
			"definition": map[string]any{"model": "TS011F", "vendor": "TuYa", "exposes": []any{
				map[string]any{"type": "switch", "features": []any{map[string]any{
					"type": "binary", "name": "state", "property": "state", "access": 7, "value_on": "ON", "value_off": "OFF", "value_toggle": "TOGGLE"}}},
				exposed("power", "W"), exposed("voltage", "V"), exposed("current", "A"), exposed("energy", "kWh"), exposed("linkquality", "lqi"),
			}},
		})
	}
	messages := []gearMessage{
		keptBy(zigbeeBase+"bridge/state", `{"state":"online"}`),
		keptBy(zigbeeBase+"bridge/info", encoded(map[string]any{"version": "2.1.0", "commit": "0000000"})),
		keptBy(zigbeeBase+"bridge/devices", encoded(devices)),
	}
	return append(messages, g.tell(`{"state":"online"}`)...)
}

func exposed(property, unit string) map[string]any {
	return map[string]any{"type": "numeric", "name": property, "property": property, "access": 1, "unit": unit}
}

func (g *zigbeeGear) tell(availability string) (messages []gearMessage) {
	for _, name := range g.names {
		messages = append(messages, keptBy(zigbeeBase+name+"/availability", availability))
	}
	return messages
}

func (g *zigbeeGear) goodbye() []gearMessage {
	return append(g.tell(`{"state":"offline"}`), keptBy(zigbeeBase+"bridge/state", `{"state":"offline"}`))
}

func (g *zigbeeGear) read(now time.Time) (messages []gearMessage) {
	for _, name := range g.names {
		messages = append(messages, g.state(name, now))
	}
	return messages
}

func (g *zigbeeGear) state(name string, now time.Time) gearMessage {
	p := g.plugs[name]
	r := p.read(now)
	return readingOf(name, zigbeeBase+name, encoded(map[string]any{
		"state": p.word("ON", "OFF"), "power": r.power, "voltage": r.voltage, "current": r.current,
		"energy": round(r.energy/1000, 3), "linkquality": 120 + p.rng.IntN(20)}))
}

func (g *zigbeeGear) obey(topic string, payload []byte) ([]gearMessage, gearOutcome) {
	name, verb, _ := strings.Cut(strings.TrimPrefix(topic, zigbeeBase), "/")
	p := g.plugs[name]
	if p == nil {
		return nil, notForGear
	}
	if verb == "set" {
		var set struct {
			State string `json:"state"`
		}
		if json.Unmarshal(payload, &set) != nil {
			set.State = string(payload)
		}
		if !p.turn(set.State) {
			return []gearMessage{said(zigbeeBase+"bridge/logging", encoded(map[string]any{"level": "error",
				"message": "z2m: Publish 'set' to '" + name + "' failed: 'No converter available'"}))}, notUnderstood
		}
	}
	return []gearMessage{g.state(name, time.Now())}, obeyed
}
