package profile

import (
	"slices"
	"strings"
)

// homeassistantComponents are those of MQTT discovery, as its topics name them
// ("MQTT Discovery", discovery topic), and "device" of device discovery.
var homeassistantComponents = map[string]bool{
	"alarm_control_panel": true, "binary_sensor": true, "button": true, "camera": true, "climate": true, "cover": true,
	"device": true, "device_automation": true, "device_tracker": true, "event": true, "fan": true, "humidifier": true,
	"image": true, "lawn_mower": true, "light": true, "lock": true, "notify": true, "number": true, "scene": true,
	"select": true, "sensor": true, "siren": true, "switch": true, "tag": true, "text": true, "update": true,
	"vacuum": true, "valve": true, "water_heater": true,
}

// recogniseDiscovery is Kind.Recognise. Below the prefix that Home Assistant
// has of itself every object is discovery; elsewhere the topic has to name a
// component and the document what discovery names.
func recogniseDiscovery(m Message) (map[string]any, bool) {
	if len(m.Payload) == 0 || m.Payload[0] != '{' {
		return nil, false
	}
	settings := map[string]any{"state-filters": []string{"#"}}
	if _, ok := parseDiscovery(defaultDiscovery, m.Topic); ok {
		return settings, true
	}
	prefix, ok := discoveryPrefix(m.Topic)
	if !ok || !namesEntity(m.Payload) {
		return nil, false
	}
	settings["discovery"] = prefix
	return settings, true
}

// discoveryPrefix is what stands before component, node and object of a
// discovery topic, or before component and object.
func discoveryPrefix(topic string) (string, bool) {
	rest, ok := strings.CutSuffix(topic, "/config")
	if !ok {
		return "", false
	}
	levels := strings.Split(rest, "/")
	for _, back := range []int{3, 2} {
		at := len(levels) - back
		if at < 1 || !homeassistantComponents[levels[at]] {
			continue
		}
		if slices.ContainsFunc(levels[:at], func(level string) bool { return checkLevel("discovery", level) != nil }) {
			continue // no setting takes it
		}
		prefix := strings.Join(levels[:at], "/")
		if _, ok := parseDiscovery(prefix, topic); ok {
			return prefix, true
		}
	}
	return "", false
}

// namesEntity reports whether a document tells of an entity: a topic of it,
// and what it is or belongs to.
func namesEntity(payload []byte) bool {
	config, err := parseConfig(payload)
	if err != nil {
		return false
	}
	any := func(keys ...string) bool {
		for _, key := range keys {
			if _, ok := config[key]; ok {
				return true
			}
		}
		return false
	}
	return any("state_topic", "command_topic", "components") && any("unique_id", "uniq_id", "~", "device")
}
