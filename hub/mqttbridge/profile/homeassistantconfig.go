package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// entityConfig are the keys of a discovery message in full.
type entityConfig map[string]any

// discoveryWords are the abbreviations of those keys that are read here (the
// table "Supported abbreviations in MQTT discovery messages").
var discoveryWords = map[string]string{
	"avty": "availability", "avty_mode": "availability_mode", "avty_t": "availability_topic", "avty_tpl": "availability_template",
	"cmd_t": "command_topic", "cmd_tpl": "command_template", "cmps": "components", "dev": "device", "dev_cla": "device_class",
	"ops": "options", "p": "platform", "pl_avail": "payload_available", "pl_not_avail": "payload_not_available",
	"pl_off": "payload_off", "pl_on": "payload_on", "pl_prs": "payload_press", "stat_cla": "state_class",
	"stat_off": "state_off", "stat_on": "state_on", "stat_t": "state_topic", "t": "topic", "sw": "sw_version",
	"stat_val_tpl": "state_value_template", "unit_of_meas": "unit_of_measurement", "val_tpl": "value_template",
}

// parseConfig decodes a discovery message: abbreviations are spelled out and
// "~" at the front or the back of a topic is replaced by the base topic.
func parseConfig(payload []byte) (entityConfig, error) {
	if err := CheckJSON(payload); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var config map[string]any
	if err := misshapen(decoder.Decode(&config)); err != nil {
		return nil, err
	}
	if config == nil {
		return nil, Refuse("not the JSON expected", "a discovery message is an object")
	}
	return spell(config, "", 0), nil
}

// spell out the keys of an object, and of those within that are read.
func spell(config map[string]any, base string, depth int) entityConfig {
	if own, ok := config["~"].(string); ok {
		base = own
	}
	full := make(entityConfig, len(config))
	for key, value := range config {
		if long, ok := discoveryWords[key]; ok {
			key = long
		}
		switch v := value.(type) {
		case string:
			if base != "" && (key == "topic" || strings.HasSuffix(key, "_topic")) {
				value = baseTopic(v, base)
			}
		case map[string]any:
			value = map[string]any(spell(v, base, depth+1))
		case []any:
			for i := range v {
				if object, ok := v[i].(map[string]any); ok {
					v[i] = map[string]any(spell(object, base, depth+1))
				}
			}
		}
		full[key] = value
	}
	return full
}

func baseTopic(topic, base string) string {
	if rest, ok := strings.CutPrefix(topic, "~"); ok {
		return base + rest
	}
	if rest, ok := strings.CutSuffix(topic, "~"); ok {
		return rest + base
	}
	return topic
}

// text of a key; a number or bool as it is written. Long ones are refused.
func (c entityConfig) text(key string) (string, error) {
	var text string
	switch v := c[key].(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		text = strconv.FormatBool(v)
	}
	if len(text) > maxEntityText {
		return "", fmt.Errorf("%s has over %d bytes", key, maxEntityText)
	}
	return text, nil
}

// topic of a key, "" for none: without wildcards and under the filters.
func (p *homeassistant) topic(c entityConfig, key string) (string, error) {
	topic, err := c.text(key)
	if err != nil || topic == "" {
		return "", err
	}
	if strings.ContainsAny(topic, "+#\x00") || strings.HasPrefix(topic, "$") || checkText(topic) != nil {
		return "", fmt.Errorf("%s: %s is no topic of gear", key, quoted(topic))
	}
	if !p.covers(topic) {
		return "", fmt.Errorf("%s %s is not under the state-filters of the profile: add %q to them", key, quoted(topic), suggestFilter(topic))
	}
	if _, ok := parseDiscovery(p.discovery, topic); ok {
		return "", fmt.Errorf("%s: %s is a discovery topic", key, quoted(topic))
	}
	return topic, nil
}

// suggestFilter is the filter of all below the first level of a topic.
func suggestFilter(topic string) string {
	first, _, more := strings.Cut(topic, "/")
	if !more {
		return topic
	}
	return first + "/#"
}

// words joins what the reader fills in once: text or, after an error, none.
type words struct {
	c   entityConfig
	err error
}

func (w *words) text(key, otherwise string) string {
	text, err := w.c.text(key)
	if err != nil && w.err == nil {
		w.err = err
	}
	if _, given := w.c[key]; !given || err != nil {
		return otherwise
	}
	return text
}
