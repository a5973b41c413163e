package profile

import (
	"strings"
	"testing"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// Real gear tells some things in several types: a field has one type all the
// same, in its rows and in its description.
func TestFieldsOfOneKindHaveOneType(t *testing.T) {
	const rpc = "shellyplus-p/events/rpc"
	exposes := func(gear, expose string) Message {
		return text("zigbee2mqtt/bridge/devices", `[{"friendly_name":"`+gear+`","definition":{"exposes":[`+expose+`]}}]`)
	}
	for _, c := range []struct {
		kind, settings string
		messages       []Message
		want           string // of all rows, without descriptions
	}{
		{"tasmota", "", []Message{
			text("tele/p/RESULT", `{"RfReceived":{"Sync":12820,"Low":440,"High":1260,"Data":"7028D4","RfKey":"None"}}`),
			text("tele/p/RESULT", `{"RfReceived":{"Sync":12820,"Low":440,"High":1260,"Data":7350484,"RfKey":4}}`),
			text("tele/p/RESULT", `{"IrReceived":{"Protocol":"NEC","Bits":32,"Data":"0x807F8877"}}`),
			text("tele/p/RESULT", `{"IrReceived":{"Protocol":"NEC","Bits":32,"Data":2155842679}}`),
			text("stat/p/POWER", "ON"), text("stat/p/RESULT", `{"POWER":"OFF"}`), text("tele/p/STATE", `{"POWER":1}`),
		}, `
p: RfReceived_Sync=double:12820 RfReceived_Low=double:440 RfReceived_High=double:1260 RfReceived_Data=string:7028D4 RfReceived_RfKey=string:None
p: RfReceived_Sync=double:12820 RfReceived_Low=double:440 RfReceived_High=double:1260 RfReceived_Data=string:7350484 RfReceived_RfKey=string:4
p: IrReceived_Protocol=string:NEC IrReceived_Bits=double:32 IrReceived_Data=string:0x807F8877
p: IrReceived_Protocol=string:NEC IrReceived_Bits=double:32 IrReceived_Data=string:2155842679
p: POWER=bool:true
p: POWER=bool:false
p: POWER=bool:true
`},
		{"zigbee2mqtt", "", []Message{
			exposes("a", `{"type":"binary","property":"child_lock","access":7,"value_on":"LOCK","value_off":"UNLOCK"},{"type":"binary","property":"window_detection","access":7,"value_on":true,"value_off":false}`),
			text("zigbee2mqtt/a", `{"child_lock":"LOCK","window_detection":true,"state":"ON"}`),
			text("zigbee2mqtt/b", `{"child_lock":false,"window_detection":"OFF","valve_detection":"on","state":"OPEN"}`),
			text("zigbee2mqtt/c", `{"child_lock":"maybe","temperature":21}`),
			text("zigbee2mqtt/c", `{"child_lock":null,"temperature":21.5}`),
		}, `
a: child_lock=bool:true window_detection=bool:true state=string:ON
b: child_lock=bool:false window_detection=bool:false valve_detection=bool:true state=string:OPEN
c: temperature=double:21
c problem: child_lock: "maybe" is neither on nor off
c: temperature=double:21.5
`},
		{"shelly", "", []Message{
			text(rpc, `{"method":"NotifyStatus","params":{"bthomesensor:200":{"id":200,"value":21.5},"bthomesensor:201":{"id":201,"value":true},"bthomesensor:202":{"id":202,"value":"x"},"number:200":{"value":1}}}`),
		}, `
shellyplus-p: bthomesensor_200_value=double:21.5 bthomesensor_201_state=bool:true bthomesensor_202_text=string:x number_200_value=double:1
`},
		{"homeassistant", `state-filters: ["s/#"]`, []Message{
			text("homeassistant/sensor/a/config", `{"stat_t":"s/a","dev_cla":"battery","unit_of_meas":"%"}`), text("s/a", "97"),
			text("homeassistant/binary_sensor/b/config", `{"stat_t":"s/b","dev_cla":"battery"}`), text("s/b", "ON"),
			text("homeassistant/binary_sensor/c/config", `{"stat_t":"s/c","dev_cla":"door"}`), text("s/c", "ON"),
			text("homeassistant/sensor/d/config", `{"stat_t":"s/d"}`), text("s/d", "12"),
			text("homeassistant/sensor/e/config", `{"stat_t":"s/e","unit_of_meas":"x"}`), text("s/e", "12"),
			text("homeassistant/select/f/config", `{"stat_t":"s/f","ops":["a"]}`), text("s/f", "a"),
			text("homeassistant/number/g/config", `{"stat_t":"s/g"}`), text("s/g", "5"),
		}, `
a: battery=double:97
b: battery_state=bool:true
c: door=bool:true
d: text=string:12
e: value=double:12
f: text=string:a
g: value=double:5
`},
		{"homie", "", homieInteger, "a: n_v=int:5\na online\na: n_w=double:5\n"},
		{"homie", "integers: number", homieInteger, "a: n_v=double:5\na online\na: n_w=double:5\n"},
		{"json", `{topic: "s/{gear}"}`, []Message{text("s/g", `{"a":1}`), text("s/g", `{"a":1.5}`), text("s/g", `{"a":1e3}`)}, "g: a=double:1\ng: a=double:1.5\ng: a=double:1000\n"},
		// What a sample finds of several types works with a type that is named.
		{"json", `{topic: "s/{gear}", fields: [{path: relay, type: bool}]}`, relayJSON, "g: relay=bool:true\ng: relay=bool:false\n"},
		{"json", `{topic: "s/{gear}", fields: [{path: relay, type: text}]}`, relayJSON, "g: relay=string:true\ng: relay=string:off\n"},
		{"raw", `{topic: "s/{gear}/{field}", type: auto, fields: [{field: relay, type: bool}]}`, relayRaw, "g: relay=bool:true\ng: relay=bool:false\ng: mode=string:off\n"},
		{"raw", `{topic: "s/{gear}/{field}", type: auto, fields: [{field: relay, type: text}]}`, relayRaw, "g: relay=string:true\ng: relay=string:off\ng: mode=string:off\n"},
		{"raw", `{topic: "s/{gear}/{field}"}`, []Message{text("s/g/a", "1"), text("s/g/a", "1.5")}, "g: a=double:1\ng: a=double:1.5\n"},
	} {
		p := configured(t, c.kind, c.settings)
		kinds := map[string]string{}
		var lines []string
		for _, m := range c.messages {
			for line := range strings.Lines(story(t, p, m)) {
				_, fields, isDescription := strings.Cut(line, " describes ")
				if !isDescription {
					lines = append(lines, line)
					continue
				}
				for _, word := range strings.Fields(fields) {
					if name, kind, ok := strings.Cut(word, "["); ok {
						kinds[name] = kind[strings.Index(kind, "]")+1:]
					}
				}
			}
		}
		got := strings.Join(lines, "")
		wantStory(t, got, c.want)
		for name, kind := range kinds {
			for _, line := range lines {
				if _, value, has := strings.Cut(" "+line, " "+name+"="); has && !strings.HasPrefix(value, kind+":") {
					t.Errorf("%s describes %s as %s, and has %s", c.kind, name, kind, line)
				}
			}
		}
	}
	wantBadSettings(t, "homie", "integers: float", "integers")
	wantBadSettings(t, "sparkplug", "integers: float", "integers")
}

var (
	relayJSON = []Message{text("s/g", `{"relay":true}`), text("s/g", `{"relay":"off"}`)}
	relayRaw  = []Message{text("s/g/relay", "true"), text("s/g/relay", "off"), text("s/g/mode", "off")}
)

var homieInteger = []Message{
	text("homie/a/$homie", "4.0.0"), text("homie/a/n/v/$datatype", "integer"), text("homie/a/n/v", "5"), text("homie/a/n/w/$datatype", "float"),
	text("homie/a/$state", "ready"), text("homie/a/n/w", "5"),
}

// Sparkplug's types are those of the birth, unless the settings have integers
// stored as all numbers are.
func TestSparkplugIntegersAsNumbers(t *testing.T) {
	birth := birthOf(1, metric("Level", sparkplugv1.DataType_Int16, uint32(7)), metric("Count", sparkplugv1.DataType_UInt64, uint64(1)<<53))
	for settings, want := range map[string]telemetry.Kind{"": telemetry.Int, "integers: number": telemetry.Double} {
		r := one(t, take(t, configured(t, "sparkplug", settings), message(t, topicNBIRTH, birth)))
		for _, f := range r.Rows[0].Fields {
			if f.Value.Kind() != want {
				t.Errorf("with %q %s is a %v", settings, f.Name, f.Value.Kind())
			}
		}
		for _, f := range r.Describe.GetFields() {
			if f.GetKind() != KindNumber(want) {
				t.Errorf("with %q %s is described as %v", settings, f.GetName(), f.GetKind())
			}
		}
		if len(r.Rows[0].Fields) != 2 || len(r.Describe.GetFields()) != 2 {
			t.Errorf("%+v", r)
		}
	}
}
