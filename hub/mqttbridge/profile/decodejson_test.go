package profile

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// goWords are of Go and its packages, and say nothing to who runs gear.
var goWords = regexp.MustCompile(`json:|unmarshal|go struct|go value|proto:|\*?sparkplugv1|strconv|invalid character|\[\]|map\[|interface|%!|<nil>|0x[0-9a-f]{4,}`)

// What cannot be read is told in words for people, with the place.
func TestMisshapenPayloadsAreToldInPlainWords(t *testing.T) {
	for _, c := range []struct{ kind, settings, topic, payload, want string }{
		{"zigbee2mqtt", "", "zigbee2mqtt/bridge/info", `{"version":7}`, "version: a number where a text belongs"},
		{"zigbee2mqtt", "", "zigbee2mqtt/bridge/info", `[1]`, "the document: a list where an object belongs"},
		{"zigbee2mqtt", "", "zigbee2mqtt/bridge/devices", `{"friendly_name":"a"}`, "the document: an object where a list belongs"},
		{"zigbee2mqtt", "", "zigbee2mqtt/bridge/devices", `[{"definition":{"exposes":[{"access":"all"}]}}]`, "definition.exposes.access: a text where a whole number belongs"},
		{"zigbee2mqtt", "", "zigbee2mqtt/bridge/devices", `[{"definition":{"exposes":[{"access":1.5}]}}]`, `the number "1.5" where a whole number belongs`},
		{"zigbee2mqtt", "", "zigbee2mqtt/bridge/groups", `[true]`, "true or false where an object belongs"},
		{"zigbee2mqtt", "", "zigbee2mqtt/p/availability", `{"state":{"a":1}}`, "state: an object where a text belongs"},
		{"zigbee2mqtt", "", "zigbee2mqtt/bridge/state", `{"state":NaN}`, "NaN or Infinity, which JSON does not have"},
		{"zigbee2mqtt", "", "zigbee2mqtt/p", `"ON"`, "Zigbee2MQTT's setting advanced.output takes json"},
		{"homie", "", "homie/5/d/$description", `{"nodes":[]}`, "nodes: a list where an object belongs"},
		{"homie", "", "homie/5/d/$description", `{"nodes":{"n":{"properties":{"p":{"settable":"yes"}}}}}`, "settable: a text where true or false belongs"},
		{"shelly", "", "shelly-p/events/rpc", `{"method":5}`, "method: a number where a text belongs"},
		{"shelly", "", "shelly-p/events/rpc", `{"method":"NotifyStatus","params":{"ts":"soon"}}`, "a text where a number belongs"},
		{"shelly", "", "shelly-p/events/rpc", `{"method":"NotifyStatus","params":[]}`, "params: a list where an object belongs"},
		{"shelly", "", "shellies/p/info", `{"uptime":"long"}`, "uptime: a text where a number belongs"},
		{"shelly", "", "shellies/p/input_event/0", `[]`, "the document: a list where an object belongs"},
		{"homeassistant", "", "homeassistant/sensor/p/config", `[]`, "the document: a list where an object belongs"},
		{"homeassistant", "", "homeassistant/sensor/p/config", `null`, "a discovery message is an object"},
		{"homeassistant", "", "homeassistant/sensor/p/config", `{"min":NaN}`, "NaN or Infinity, which JSON does not have"},
		{"tasmota", "", "tele/p/SENSOR", `{"a":`, "it ends"},
		{"tasmota", "", "tele/p/LWT", `{}`, "LWT"},
		{"json", `{topic: "s/{gear}"}`, "s/g", `{"a" 1}`, "byte 5"},
		{"raw", `{topic: "s/{gear}"}`, "s/g", `n/a`, "n/a"},
		{"influx", `{topic: "s/{gear}"}`, "s/g", `cpu`, "missing fields"},
		{"sparkplug", "", "spBv1.0/g/NBIRTH/n", "\x12\x02\x0a\x05", "no protobuf message"},
		{"sparkplug", "", "spBv1.0/g/NBIRTH/n", "ON", "not a Sparkplug payload"},
	} {
		reports, err := configured(t, c.kind, c.settings).Decode(text(c.topic, c.payload), nil)
		if err == nil || len(reports) > 0 {
			t.Errorf("%s %s is taken", c.topic, c.payload)
			continue
		}
		if !errors.As(err, new(*Refusal)) || goWords.MatchString(err.Error()) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v; want %q, and no word of Go", c.topic, c.payload, err, c.want)
		}
	}
	for want, m := range map[string]*sparkplugWire{
		"string_value where a Float belongs": metric("m", sparkplugv1.DataType_Float, "x"),
		"no value where a Float belongs":     {},
	} {
		if err := wrongMember(m, uint32(sparkplugv1.DataType_Float)); err.Error() != want {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
