package profile

import (
	"fmt"
	"strings"
	"testing"
)

func TestZigbeeExamplesOfItsDocumentation(t *testing.T) {
	wantStory(t, story(t, configured(t, "zigbee2mqtt", ""), samples(t, "zigbee2mqtt/messages.txt")...), `
bridge online
bridge describes request()
bridge firmware Zigbee2MQTT 1.13.0-dev
bridge describes request()
WSDCGQ01LM online
WSDCGQ01LM: temperature=double:27.34 humidity=double:44.72
WXKG01LM: action=string:single
RTCGQ01LM: occupancy=bool:true
kitchen/floor_light: state=string:ON brightness=double:215 color_temp=double:325
kitchen/floor_light offline Zigbee2MQTT does not reach it
kitchen/floor_light online
`)
	p := configured(t, "zigbee2mqtt", "")
	plug := "my_plug describes state[]string power[W]double temperature[Cel]double set() get()\n"
	wantStory(t, story(t, p, samples(t, "zigbee2mqtt/devices.txt")...), "\n"+plug+`
my_bulb firmware 1.3.009
my_bulb describes state[]string brightness[]double color_x[]double color_y[]double occupancy[]bool set() get()
my_plug: state=string:ON power=double:12.5 temperature=double:31
`[1:]+plug)
	devices := samples(t, "zigbee2mqtt/devices.txt")[0]
	set := take(t, p, devices)[1].Describe.GetCommands()[0]
	var args []string
	for _, a := range set.GetArguments() {
		args = append(args, a.GetName()+":"+strings.TrimPrefix(a.GetKind().String(), "KIND_"))
	}
	if got := strings.Join(args, " "); got != "state:STRING brightness:DOUBLE color:UNSPECIFIED identify:STRING" {
		t.Errorf("set takes %s", got)
	}
}

func TestZigbeeMessages(t *testing.T) {
	p := configured(t, "zigbee2mqtt", "base: home/zigbee")
	take(t, p, text("home/zigbee/lamp", `{"state":"ON","last_seen":"2024-01-01T00:00:00Z","device":{"friendlyName":"other","model":"x"},"update":{"state":"idle"}}`))
	wantStory(t, story(t, p,
		text("home/zigbee/lamp", `{"state":"ON","last_seen":1700000000000,"device":{"friendlyName":"other"},"linkquality":90}`),
		kept("home/zigbee/lamp", `{"state":"ON"}`),
		text("home/zigbee/lamp/set", `{"state":"OFF"}`),
		text("home/zigbee/lamp/set/state", `OFF`),
		text("home/zigbee/lamp/get", `{"state":""}`),
		text("home/zigbee/bridge/response/permit_join", `{"data":{},"status":"ok"}`),
		text("home/zigbee/bridge/definitions", `[1`),
		text("home/zigbee", `x`),
		text("home/zigbee/a/b/c", `{"t":1}`),
		text("home/zigbee/lamp", ``),
		text("home/zigbee/bridge/state", `{"state":"offline"}`),
	), `
lamp: state=string:ON linkquality=double:90
a/b/c: t=double:1
bridge offline last will
a/b/c offline Zigbee2MQTT is offline
lamp offline Zigbee2MQTT is offline
`)
	refused(t, p, text("home/zigbee/lamp/brightness", "215"), "not a JSON object")
	refused(t, p, text("home/zigbee/lamp", `[1]`), "not a JSON object")
	refused(t, p, text("home/zigbee/lamp", `{"a":}`), "not JSON")
	refused(t, p, text("home/zigbee/lamp/availability", `sleepy`), "unknown availability")
	refused(t, p, text("home/zigbee/bridge/devices", `{"a":1}`), "not the JSON expected")
	refused(t, p, text("home/zigbee/bridge/devices", `[{"exposes":`+strings.Repeat(`[`, 100)+`]`), "too deep")
	refused(t, p, text("home/zigbee/lamp", `{"a":"`+strings.Repeat("x", MaxPayloadBytes)+`"}`), "too large")
	// Once the names are known, single attributes are no gear.
	take(t, p, kept("home/zigbee/bridge/devices", `[{"type":"Router","friendly_name":"lamp"}]`))
	for _, m := range []Message{text("home/zigbee/lamp/brightness", "215"), text("home/zigbee/lamp/color", `{"x":0.1}`)} {
		if reports := take(t, p, m); len(reports) > 0 {
			t.Errorf("%s: %+v", m.Topic, reports)
		}
	}
	wantBadSettings(t, "zigbee2mqtt", `base: "a/+"`, "base")
	wantBadSettings(t, "zigbee2mqtt", `base: ""`, "base")
	wantBadSettings(t, "zigbee2mqtt", `base: "a/"`, "base")
	wantBadSettings(t, "zigbee2mqtt", `measurement: "a b"`, "measurement")
	wantRecognised(t, "zigbee2mqtt", kept("zigbee2mqtt/bridge/state", "online"), "", "bridge")
	wantRecognised(t, "zigbee2mqtt", kept("home/z/bridge/state", `{"state":"online"}`), `{"base":"home/z"}`, "bridge")
	wantRecognised(t, "zigbee2mqtt", text("zigbee2mqtt/kitchen/lamp", `{"state":"ON"}`), "", "kitchen/lamp")
}

func TestZigbeeCommands(t *testing.T) {
	p := configured(t, "zigbee2mqtt", "")
	take(t, p, text("zigbee2mqtt/lamp", `{"state":"ON","brightness":10}`))
	log := func(message string) Message {
		return text("zigbee2mqtt/bridge/logging", fmt.Sprintf(`{"level":"error","message":%q,"namespace":"z2m"}`, message))
	}
	failed := log("z2m: Publish 'set' 'state' to 'lamp' failed: 'Error: Command 0x1 genOnOff.on failed'")
	for _, tc := range []struct {
		name, args, published string
		messages              []Message
		want                  string
	}{
		{"set", `{"state":"OFF"}`, `zigbee2mqtt/lamp/set {"state":"OFF"}`, []Message{text("zigbee2mqtt/lamp", `{"state":"ON"}`), text("zigbee2mqtt/other", `{"state":"OFF"}`),
			kept("zigbee2mqtt/lamp", `{"state":"OFF"}`), text("zigbee2mqtt/lamp/set", `{"state":"OFF"}`), text("zigbee2mqtt/lamp", `{"state":"OFF","x":1}`)}, `SUCCEEDED by zigbee2mqtt/lamp {"state":"OFF","x":1}`},
		{"set", `{"state":"on","brightness":255,"transition":2}`, `zigbee2mqtt/lamp/set {"brightness":255,"state":"on","transition":2}`,
			[]Message{text("zigbee2mqtt/lamp", `{"state":"ON","brightness":215}`), text("zigbee2mqtt/lamp", `{"state":"ON"}`), text("zigbee2mqtt/lamp", `{"state":"ON","brightness":254}`)},
			`SUCCEEDED by zigbee2mqtt/lamp {"state":"ON","brightness":254}`},
		{"set", `{"color":{"x":0.123,"y":0.456}}`, `zigbee2mqtt/lamp/set {"color":{"x":0.123,"y":0.456}}`,
			[]Message{text("zigbee2mqtt/lamp", `{"color":{"x":0.3,"y":0.456}}`), text("zigbee2mqtt/lamp", `{"color":{"x":0.1231,"y":0.456}}`)}, `SUCCEEDED by zigbee2mqtt/lamp {"color":{"x":0.1231,"y":0.456}}`},
		{"set", `{"color":{"hex":"#547CFF"}}`, `zigbee2mqtt/lamp/set {"color":{"hex":"#547CFF"}}`,
			[]Message{text("zigbee2mqtt/lamp", `{"state":"ON"}`), text("zigbee2mqtt/lamp", `{"color":{"x":0.1}}`)}, `SUCCEEDED by zigbee2mqtt/lamp {"color":{"x":0.1}}`},
		{"set", `{"state":"TOGGLE"}`, `zigbee2mqtt/lamp/set {"state":"TOGGLE"}`,
			[]Message{text("zigbee2mqtt/lamp", `{"state":"ON","linkquality":9}`), text("zigbee2mqtt/lamp", `{"state":"OFF"}`)}, `SUCCEEDED by zigbee2mqtt/lamp {"state":"OFF"}`},
		{"set", `{"effect":"blink"}`, `zigbee2mqtt/lamp/set {"effect":"blink"}`, nil, "cannot answer"},
		{"set", `{"brightness_move":40}`, `zigbee2mqtt/lamp/set {"brightness_move":40}`, nil, "cannot answer"},
		{"set", `{"state":"OFF"}`, `zigbee2mqtt/lamp/set {"state":"OFF"}`, []Message{log("Publish 'set' 'state' to 'lamp2' failed: x"), log("Publish 'get' 'state' to 'lamp' failed: x"), failed},
			"FAILED by zigbee2mqtt/bridge/logging " + string(failed.Payload) + " z2m: Publish 'set' 'state' to 'lamp' failed: 'Error: Command 0x1 genOnOff.on failed'"},
		{"set", `{"state":"OFF"}`, `zigbee2mqtt/lamp/set {"state":"OFF"}`, []Message{text("zigbee2mqtt/lamp", `{`), text("zigbee2mqtt/bridge/logging", `{`)}, "no answer"},
		{"get", `{"property":"state"}`, `zigbee2mqtt/lamp/get {"state":""}`, []Message{text("zigbee2mqtt/lamp", `{"brightness":1}`), text("zigbee2mqtt/lamp", `{"state":"ON"}`)}, `SUCCEEDED by zigbee2mqtt/lamp {"state":"ON"}`},
	} {
		published, plan := told(t, p, "lamp", tc.name, tc.args)
		if published != tc.published {
			t.Errorf("%s %s publishes %s; want %s", tc.name, tc.args, published, tc.published)
			continue
		}
		if got := answered(t, plan, tc.messages...); got != tc.want {
			t.Errorf("%s %s: %s; want %s", tc.name, tc.args, got, tc.want)
		}
	}
	published, plan := told(t, p, "bridge", "request", `{"request":"permit_join","payload":{"time":60}}`)
	if published != `zigbee2mqtt/bridge/request/permit_join {"time":60,"transaction":"0198f1c2-aaaa"}` {
		t.Error(published)
	}
	const topic = "zigbee2mqtt/bridge/response/permit_join"
	foreign := []Message{text(topic, `{"data":{},"status":"ok"}`), text(topic, `{"status":"ok","transaction":23}`), text(topic, `{"status":"ok","transaction":"other"}`), text(topic, `x`)}
	if got := answered(t, plan, append(foreign, text(topic, `{"data":{"time":60},"status":"ok","transaction":"0198f1c2-aaaa"}`))...); !strings.HasPrefix(got, "SUCCEEDED by "+topic) {
		t.Error(got)
	}
	if got := answered(t, plan, append(foreign, text(topic, `{"data":{},"error":"Failed to connect to adapter","status":"error","transaction":"0198f1c2-aaaa"}`))...); !strings.HasPrefix(got, "FAILED by "+topic) || !strings.HasSuffix(got, " Failed to connect to adapter") {
		t.Error(got)
	}
	for args, name := range map[string]string{
		`{}`: "set", `{"property":""}`: "get", `{"x":1}`: "unheard",
	} {
		if published, _ := told(t, p, "lamp", name, args); !strings.HasPrefix(published, "refused: ") {
			t.Errorf("%s %s publishes %s", name, args, published)
		}
	}
	for _, args := range []string{`{"request":"../x"}`, `{"request":"#"}`, `{"request":"permit_join","payload":[1]}`, `{}`} {
		if published, _ := told(t, p, "bridge", "request", args); !strings.HasPrefix(published, "refused: ") {
			t.Errorf("request %s publishes %s", args, published)
		}
	}
	// With the definition known, what the state does not show is not awaited.
	take(t, p, samples(t, "zigbee2mqtt/devices.txt")[0])
	if _, plan := told(t, p, "my_bulb", "set", `{"identify":"blink"}`); plan.Match != nil {
		t.Error("identify is awaited")
	}
}

func TestZigbeeMemoryIsBounded(t *testing.T) {
	p := configured(t, "zigbee2mqtt", "").(*zigbee)
	for i := range MaxGear + 1000 {
		take(t, p, text(fmt.Sprintf("zigbee2mqtt/g%d", i), fmt.Sprintf(`{"state_%d":"ON"}`, i)))
	}
	for i := range 100 {
		take(t, p, text("zigbee2mqtt/one", fmt.Sprintf(`{"state_%d":"ON"}`, i)))
	}
	if len(p.heard) > MaxGear || len(p.heard["one"].states) > maxZigbeeStates {
		t.Errorf("%d pieces of gear, %d states of one", len(p.heard), len(p.heard["one"].states))
	}
	wantRow(t, one(t, take(t, p, text("zigbee2mqtt/one-more", `{"f":1}`))), 0, "f=double:1")
}
