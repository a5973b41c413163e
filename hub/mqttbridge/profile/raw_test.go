package profile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/telemetry"
)

const esphome = `
topics: ["{gear}/sensor/{field}/state"]
availability: {topic: "{gear}/status"}
fields:
  - {field: livingroom_temperature, name: temperature, unit: "°C", description: in the shade}
  - {field: livingroom_humidity, unit: "%", type: integer}
`

const esphomeSwitch = `
topic: "{gear}/switch/{field}/state"
type: bool
commands:
  - name: switch
    description: switch an output
    args:
      - {name: output, type: text}
      - {name: state, type: text, values: [ON, OFF]}
    topic: "{gear}/switch/{arg.output}/command"
    payload: "{arg.state}"
    answer: {topic: "{gear}/switch/{arg.output}/state", equals: "{arg.state}"}
`

func TestRawExamplesOfESPHome(t *testing.T) {
	var ours, switches []Message
	for _, m := range samples(t, "raw/esphome.txt") {
		switch {
		case strings.Contains(m.Topic, "/switch/"):
			switches = append(switches, m)
		case !strings.Contains(m.Topic, "/text_sensor/"):
			ours = append(ours, m)
		}
	}
	p := configured(t, "raw", esphome)
	const describes = `livingroom describes temperature[Cel]double livingroom_humidity[%]int` + "\n"
	wantStory(t, story(t, p, ours...), `
livingroom online
`+describes+`livingroom: temperature=double:21.5
`+describes+`livingroom: livingroom_humidity=int:48
`+describes+`livingroom offline it said "offline" on its availability topic
`+describes)
	wantStory(t, story(t, configured(t, "raw", esphomeSwitch), switches...), `
livingroom: desk_lamp=bool:true
livingroom describes switch()
`)
}

func TestRawTypes(t *testing.T) {
	long := strings.Repeat("x", telemetry.MaxStringBytes)
	for _, tc := range []struct{ settings, payload, want string }{
		{"type: number", "21.5", "f=double:21.5"},
		{"type: number", " +1e3\r\n", "f=double:1000"},
		{"type: number", "-0.5", "f=double:-0.5"},
		{"type: number", "nan", "not a number"},
		{"type: number", "Infinity", "not a number"},
		{"type: number", "1e999", "not a number"},
		{"type: number", "0x10", "not a number"},
		{"type: number", "1_000", "not a number"},
		{"type: number", "21.5 °C", "not a number"},
		{"type: number", "\xff\xfe", "not a number"},
		{"", "7", "f=double:7"},
		{"type: integer", "7", "f=int:7"},
		{"type: integer", "7.0", "f=int:7"},
		{"type: integer", "7.5", "not an integer"},
		{"type: bool", "ON", "f=bool:true"},
		{"type: bool", "0", "f=bool:false"},
		{"type: bool", "maybe", "not a bool"},
		{"type: bool, on: OPEN, off: [CLOSED, LOCKED]", "LOCKED", "f=bool:false"},
		{"type: bool, on: 5, off: 6", "5", "f=bool:true"},
		{"type: bool, on: OPEN, off: CLOSED", "ON", "not a bool"},
		{"type: text", " n/a ", "f=string: n/a "},
		{"type: text", "21", "f=string:21"},
		{"type: text", "\xff", "not UTF-8"},
		{"type: text", long, "f=string:" + long},
		{"type: text", long + "x", "text too long"},
		{"type: auto", "21", "f=double:21"},
		{"type: auto", "false", "f=bool:false"},
		{"type: auto", "n/a", "f=string:n/a"},
	} {
		p := configured(t, "raw", "{topic: \"{gear}/{field}\", "+tc.settings+"}")
		got := ""
		reports, err := p.Decode(text("g/f", tc.payload), nil)
		if err != nil {
			got = ReasonOf(err)
		} else {
			got = fieldsOf(one(t, reports).Rows[0])
		}
		if got != tc.want {
			t.Errorf("%s with %.40q: %.60s; want %.60s", tc.settings, tc.payload, got, tc.want)
		}
	}
}

func TestRawTopics(t *testing.T) {
	for _, tc := range []struct{ settings, topic, want string }{
		{`topic: "a/{gear}/{field...}"`, "a/g/env/temp/1", "g: env_temp_1=double:1"},
		{`topic: "{gear}/{gear}/{field}"`, "hall/press/temp", "hall/press: temp=double:1"},
		{`topic: "esp-{gear}/{field}"`, "esp-7/temp", "7: temp=double:1"},
		{`topic: "+/{gear}/#"`, "x/g/y/z", "g: value=double:1"},
		{`{topic: "boiler/{field}", gear: boiler}`, "boiler/temp", "boiler: temp=double:1"},
		{`topic: "{gear}/{measurement}/{field}"`, "g/cpu-1/time", "g: time_=double:1"},
		{`topic: "/{gear}/{field}"`, "/g/0 °", "g: _0__=double:1"},
		{`topic: "{gear}/ä/{field}"`, "gärät/ä/f", "gärät: f=double:1"},
	} {
		p := configured(t, "raw", tc.settings)
		if got := strings.TrimSpace(story(t, p, text(tc.topic, "1"))); got != tc.want {
			t.Errorf("%s on %s: %s; want %s", tc.settings, tc.topic, got, tc.want)
		}
	}
	p := configured(t, "raw", `topic: "s/{gear}/{field}"`)
	for _, topic := range []string{"s/g", "s/g/f/x", "x/g/f", "s//f", "s/g/"} {
		if reports, err := p.Decode(text(topic, "1"), nil); err != nil || len(reports) > 0 {
			t.Errorf("%s: %v, %v; want nothing", topic, reports, err)
		}
	}
	refused(t, p, text("s/"+strings.Repeat("g", MaxGearBytes+1)+"/f", "1"), ReasonOf(checkGear(strings.Repeat("g", MaxGearBytes+1))))
	refused(t, p, text("s/a\tb/f", "1"), ReasonOf(checkGear("a\tb")))
	if r := one(t, take(t, configured(t, "raw", `topic: "{gear}/{measurement}/{field}"`), text("g/cpu-1/f", "1"))); r.Rows[0].Measurement != "cpu_1" {
		t.Errorf("measurement %s", r.Rows[0].Measurement)
	}
}

// Retained values are as old as the broker likes, and no sign of life.
// Two topics whose words make one field of a device are told.
func TestRawFieldsOfOneName(t *testing.T) {
	p := configured(t, "raw", `topic: "{gear}/{field}"`)
	say := func(topic string) string {
		t.Helper()
		return one(t, take(t, p, Message{Topic: topic, Payload: []byte("1")})).Problem
	}
	for range 2 {
		for topic, want := range map[string]string{"a/s_d": "", "b/s-d": ""} {
			if got := say(topic); got != want {
				t.Errorf("%s: %q", topic, got)
			}
		}
	}
	if got := say("a/süd"); !strings.Contains(got, `"s_d" and "süd"`) || !strings.Contains(got, "field s_d") {
		t.Errorf("%q", got)
	}
	named := configured(t, "raw", "topic: \"{gear}/{field}\"\nfields: [{field: süd, name: sued}]")
	for _, topic := range []string{"a/s_d", "a/süd"} {
		if r := one(t, take(t, named, Message{Topic: topic, Payload: []byte("1")})); r.Problem != "" {
			t.Errorf("%s: %q", topic, r.Problem)
		}
	}
}

func TestRawRetained(t *testing.T) {
	p := configured(t, "raw", `{topic: "{gear}/{field}", availability: {topic: "{gear}/lwt/x", online: up, offline: down}}`)
	if r := one(t, take(t, p, kept("g/f", "1"))); len(r.Rows) > 0 || !r.NotAlive {
		t.Errorf("%+v", r)
	}
	if r := one(t, take(t, p, kept("g/lwt/x", "up"))); r.Status != Online {
		t.Errorf("%+v", r)
	}
	refused(t, p, text("g/lwt/x", "sideways"), "unknown availability")
	if reports := take(t, p, kept("g/f", "")); len(reports) > 0 {
		t.Errorf("a retained message that was taken away: %+v", reports)
	}
}

func TestRawCommands(t *testing.T) {
	p := configured(t, "raw", esphomeSwitch)
	published, plan := told(t, p, "livingroom", "switch", `{"output":"desk_lamp","state":"ON"}`)
	if published != "livingroom/switch/desk_lamp/command ON" {
		t.Error(published)
	}
	for want, m := range map[string]Message{
		"SUCCEEDED by livingroom/switch/desk_lamp/state ON": text("livingroom/switch/desk_lamp/state", "ON"),
		"no answer":  text("livingroom/switch/desk_lamp/state", "OFF"),
		"no answer ": kept("livingroom/switch/desk_lamp/state", "ON"),
		" no answer": text("kitchen/switch/desk_lamp/state", "ON"),
		"no  answer": text("livingroom/switch/other/state", "ON"),
	} {
		if got := answered(t, plan, m); got != strings.Join(strings.Fields(want), " ") {
			t.Errorf("%s %s: %s", m.Topic, m.Payload, got)
		}
	}
	for args, reason := range map[string]string{
		`{"output":"desk_lamp"}`:                                            "missing argument",
		`{"output":"desk_lamp","state":"DIM"}`:                              "bad argument",
		`{"output":"desk_lamp","state":true}`:                               "bad argument",
		`{"output":"a/b","state":"ON"}`:                                     "bad argument",
		`{"output":"+","state":"ON"}`:                                       "bad argument",
		`{"output":"#","state":"ON"}`:                                       "bad argument",
		`{"output":"","state":"ON"}`:                                        "bad argument",
		`{"output":"a\u0000b","state":"ON"}`:                                "bad argument",
		`{"output":"desk_lamp","state":"ON","extra":"1"}`:                   "unknown argument",
		fmt.Sprintf(`{"output":%q,"state":"ON"}`, strings.Repeat("x", 129)): "bad argument",
	} {
		if got, _ := told(t, p, "livingroom", "switch", args); got != "refused: "+reason {
			t.Errorf("%s: %s; want %s", args, got, reason)
		}
	}
	if got, _ := told(t, p, "livingroom", "explode", `{}`); got != "refused: unknown command" {
		t.Error(got)
	}
	if got, _ := told(t, configured(t, "raw", `topic: "{gear}/{field}"`), "g", "x", `{}`); got != "refused: unknown command" {
		t.Error(got)
	}
	silent := configured(t, "raw", `{topic: "{gear}/{field}", commands: [{name: beep, topic: "{gear}/beep", payload: "1"}]}`)
	if got, plan := told(t, silent, "g", "beep", `{}`); got != "g/beep 1" || answered(t, plan) != "cannot answer" {
		t.Error(got)
	}
}

func TestRawSettings(t *testing.T) {
	for settings, key := range map[string]string{
		``:                                              "topic",
		`topic: "a/b"`:                                  "{gear}",
		`{topic: "a/{gear}", gear: g}`:                  "gear",
		`topic: "a/{gear}/#/b"`:                         "#",
		`topic: "a/{gear}/{field...}/b"`:                "last",
		`topic: "a/{gear}/{nonsense}"`:                  "nonsense",
		`topic: "a/{gear}/x+"`:                          "+",
		`{topic: "{gear}/{field}", type: float}`:        "type",
		`{topic: "{gear}/{field}", measurement: "a b"}`: "measurement",
		`{topic: "{gear}/{field}", nonsense: 1}`:        "nonsense",
		`{topic: "{gear}/{field}", fields: [{field: a, name: "a b"}]}`:                           "name",
		`{topic: "{gear}/{field}", fields: [{field: a, name: time}]}`:                            "name",
		`{topic: "{gear}/{field}", availability: {topic: "status"}}`:                             "availability",
		`{topic: "{gear}/{field}", commands: [{name: "a b", topic: x}]}`:                         "name",
		`{topic: "{gear}/{field}", commands: [{name: a, topic: "x/#"}]}`:                         "topic",
		`{topic: "{gear}/{field}", commands: [{name: a, topic: "x/{args.b}"}]}`:                  "{args.b}",
		`{topic: "{gear}/{field}", commands: [{name: a, topic: x}, {name: a, topic: y}]}`:        "twice",
		`{topic: "{gear}/{field}", commands: [{name: a, topic: x, args: [{name: b, type: c}]}]}`: "type",
		`{topic: "{gear}/{field}", commands: [{name: a, topic: x, answer: {topic: "+"}}]}`:       "answer",
		`{topic: "{gear}/{field}", commands: [{name: a, topic: x, payload: '{"v":"{arg.v}"}'}]}`: "payload",
		`{topic: "{gear}/{field}", commands: [{name: a, topic: x, payload: {v: "{argv}"}}]}`:     "payload",
	} {
		wantBadSettings(t, "raw", settings, key)
	}
	p := configured(t, "raw", `{topics: ["{gear}/{gear}/{field}"], commands: [{name: a, topic: "{gear}/set", answer: {topic: "{gear}/ack/dev-{arg.n}"}}]}`)
	if got := strings.Join(p.Filters(), " "); got != "+/+/+ +/+/ack/+" {
		t.Errorf("filters %s", got)
	}
}

func TestRawRecognised(t *testing.T) {
	wantRecognised(t, "raw", text("livingroom/sensor/temperature", "21.5"), `{"topic":"livingroom/{gear}/{field}","type":"auto"}`, "sensor")
	wantRecognised(t, "raw", text("boiler/state", "ON"), `{"topic":"{gear}/{field}","type":"auto"}`, "boiler")
	for _, m := range []Message{text("temperature", "1"), text("a/b", ""), text("a/b", "{oops"), text("a/b", "\x01\x02"), text("$SYS/broker/uptime", "1"), text("a/{b}", "1")} {
		for _, k := range Kinds() {
			if k.Recognise == nil {
				continue
			}
			if settings, ok := k.Recognise(m); ok {
				t.Errorf("%s %q is recognised as %s with %v", m.Topic, m.Payload, k.Name, settings)
			}
		}
	}
}
