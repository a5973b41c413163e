package profile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

func testHomeassistant(filters ...string) *homeassistant {
	return must(newHomeassistant(homeassistantSettings{Discovery: "homeassistant", StateFilters: filters}))
}

func TestHomeassistantExamplesOfTheDocumentation(t *testing.T) {
	wantStory(t, withoutDescriptions(story(t, testHomeassistant(), samples(t, "homeassistant/discovery.txt")...)), `
garden: motion=bool:true
sensorBedroomT: temperature=double:23.2
sensorBedroomH: humidity=double:43.7
irrigation: state=bool:false
kitchen: state=bool:true brightness=double:255
`)
	for _, m := range samples(t, "homeassistant/discovery.txt") {
		_, ok := homeassistantKind().Recognise(m)
		if want := strings.HasSuffix(m.Topic, "/config") && len(m.Payload) > 0; ok != want {
			t.Errorf("%s is recognised %v", m.Topic, ok)
		}
	}
}

// A device as Zigbee2MQTT and ESPHome tell of it: a node with entities.
func TestHomeassistantNode(t *testing.T) {
	p := testHomeassistant("plug/#")
	base := func(component, object, more string) Message {
		return kept("homeassistant/"+component+"/plug1/"+object+"/config", `{"~":"plug/1","stat_t":"~/state",`+
			`"avty":[{"t":"~/status","pl_avail":"up","pl_not_avail":"down"}],"dev":{"ids":["0x1"],"sw":"2.4"},`+more+`}`)
	}
	got := story(t, p,
		base("sensor", "power", `"unit_of_meas":"W","dev_cla":"power","val_tpl":"{{ value_json.power }}","name":"Power"`),
		base("sensor", "energy", `"unit_of_meas":"kWh","val_tpl":"{{ value_json['energy']['total'] | float }}"`),
		base("sensor", "mode", `"val_tpl":"{{ value_json.mode }}"`),
		base("switch", "relay", `"val_tpl":"{{ value_json.on }}","pl_on":true,"pl_off":false,"cmd_t":"~/set"`),
		base("number", "limit", `"val_tpl":"{{ value_json.limit }}","cmd_t":"~/limit/set","min":0,"max":16`),
		base("select", "led", `"val_tpl":"{{ value_json.led }}","cmd_t":"~/led/set","ops":["off","dim"]`),
		base("button", "restart", `"cmd_t":"~/restart","pl_prs":"now"`),
		kept("plug/1/status", "up"),
		kept("plug/1/state", `{"power":1}`),
		text("plug/1/state", `{"power":12.5,"energy":{"total":3},"mode":"7","on":true,"limit":10,"led":"off"}`),
		text("plug/1/state", `{"power":"unavailable","on":false}`),
		text("plug/1/state", `{"power":"n/a","on":"maybe"}`),
		kept("plug/1/status", "down"),
		text("plug/1/status", "?"),
	)
	wantStory(t, withoutDescriptions(got), `
plug1 firmware 2.4
plug1 firmware 2.4
plug1 firmware 2.4
plug1 firmware 2.4
plug1 firmware 2.4
plug1 firmware 2.4
plug1 firmware 2.4
plug1 online
plug1: power=double:12.5 energy=double:3 mode=string:7 relay=bool:true limit=double:10 led=string:off
plug1: relay=bool:false
plug1 problem: sensor/power: "n/a" is no number (and 1 more)
plug1 offline availability topic
plug1 problem: availability "?" is neither "up" nor "down"
`)
	const want = "plug1 describes limit[]double led[]string energy[kW.h]double mode[]string power[W]double relay[]bool set() press()\n"
	if !strings.Contains(got, want) {
		t.Errorf("not there: %sin\n%s", want, got)
	}

	command := func(name, entity string, value any) (Plan, error) {
		args := map[string]any{}
		if entity != "" {
			args["entity"] = entity
		}
		if value != nil {
			args["value"] = value
		}
		return p.Command("plug1", Command{ID: "1", Name: name, Args: args})
	}
	for _, c := range []struct {
		entity         string
		value          any
		topic, payload string
		answer, other  string
	}{
		{"relay", true, "plug/1/set", "true", `{"on":true}`, `{"on":false}`},
		{"relay", "off", "plug/1/set", "false", `{"on":false}`, `{"power":1}`},
		{"limit", json.Number("16"), "plug/1/limit/set", "16", `{"limit":16.0}`, `{"limit":15}`},
		{"select/led", "dim", "plug/1/led/set", "dim", `{"led":"dim"}`, `no`},
	} {
		plan, err := command("set", c.entity, c.value)
		if err != nil || len(plan.Publish) != 1 || plan.Publish[0].Topic != c.topic || string(plan.Publish[0].Payload) != c.payload {
			t.Errorf("%s %v: %+v %v", c.entity, c.value, plan, err)
			continue
		}
		for _, m := range []Message{text("plug/1/state", c.other), kept("plug/1/state", c.answer), text("plug/1/status", c.answer)} {
			if _, ok := plan.Match(m); ok {
				t.Errorf("%s: %s is taken for the answer", c.entity, m.Payload)
			}
		}
		if a, ok := plan.Match(text("plug/1/state", c.answer)); !ok || a.Phase != devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED {
			t.Errorf("%s: %+v %v", c.entity, a, ok)
		}
	}
	plan, err := command("press", "", nil)
	if err != nil || plan.Publish[0].Topic != "plug/1/restart" || string(plan.Publish[0].Payload) != "now" || plan.Match != nil {
		t.Errorf("press: %+v %v", plan, err)
	}
	for _, c := range []struct {
		name, entity string
		value        any
		reason       string
	}{
		{"set", "", true, "bad argument"}, {"set", "limit", json.Number("17"), "bad argument"}, {"set", "limit", "5", "bad argument"},
		{"set", "led", "bright", "bad argument"}, {"set", "relay", json.Number("1"), "bad argument"}, {"set", "power", true, "bad argument"},
		{"set", "restart", true, "bad argument"}, {"press", "relay", nil, "bad argument"}, {"open", "", nil, "unknown command"},
	} {
		if _, err := command(c.name, c.entity, c.value); ReasonOf(err) != c.reason {
			t.Errorf("%s %s %v: %v", c.name, c.entity, c.value, err)
		}
	}
	if _, err := p.Command("other", Command{Name: "set", Args: map[string]any{}}); ReasonOf(err) != "not described" {
		t.Errorf("gear without discovery: %v", err)
	}
}

func TestHomeassistantDeviceDiscovery(t *testing.T) {
	p := testHomeassistant("sensors/#")
	wantStory(t, withoutDescriptions(story(t, p,
		kept("homeassistant/device/0AFFD2/config", `{"dev":{"ids":"ea334450945afc","sw":"1.0"},"stat_t":"sensors/1",`+
			`"cmps":{"temp":{"p":"sensor","unit_of_meas":"°C","val_tpl":"{{ value_json.t }}"},"wet":{"platform":"binary_sensor","val_tpl":"{{ value_json.w }}","pl_on":"1","pl_off":"0"},"odd":{"p":"climate"}}}`),
		text("sensors/1", `{"t":21,"w":1}`),
		kept("homeassistant/device/0AFFD2/config", `{"dev":{"ids":"ea334450945afc"},"cmps":{}}`),
		text("sensors/1", `{"t":22}`),
	)), `
0AFFD2 firmware 1.0
0AFFD2 problem: climate/odd: entities of the kind "climate" are not understood
0AFFD2: temp=double:21 wet=bool:true
0AFFD2 problem: the discovery message of device "0AFFD2" has no components
`)
	if len(p.gear) != 0 || len(p.states) != 0 || p.memory != 0 {
		t.Errorf("%d gear, %d topics, %d bytes are left", len(p.gear), len(p.states), p.memory)
	}
}

func TestHomeassistantTemplates(t *testing.T) {
	const doc = `{"a":{"b":1.5,"c.d":"x"},"list":[7],"flag":true}`
	for template, want := range map[string]string{
		"{{ value }}": doc, "": doc, "{{value_json.a.b}}": "1.5", "{{ value_json['a']['b'] }}": "1.5", `{{ value_json["a"].b }}`: "1.5",
		"{{ value_json.a['c.d'] }}": "x", "{{ value_json.list[0] }}": "7", "{{ value_json.flag }}": "true", "{{ value_json.a.b | float }}": "1.5",
		"{{- value_json.a.b -}}": "1.5", "{{ value_json.none }}": "none",
	} {
		v, err := parseValueTemplate(template)
		if err != nil {
			t.Errorf("%s: %v", template, err)
			continue
		}
		d := &document{payload: []byte(doc), flat: new(Flattener)}
		got, ok, err := d.text(v)
		if !ok {
			got = "none"
		}
		if got != want || err != nil {
			t.Errorf("%s makes %q, %v, want %q", template, got, err, want)
		}
	}
	for _, template := range []string{
		"{{ value_json.a | round(1) }}", "{{ value_json.a * 2 }}", "{% if value %}1{% endif %}", "{{ states('x') }}", "{{ value_json.a ", "value_json.a",
		"{{ value_json..a }}", "{{ value_json.a }}{{ value_json.b }}", "{{ value_json[a] }}", "{{ value_json['a\\'] }}", "{{ value_jsonx }}", "{{ value.a }}",
		"{{ value_json" + strings.Repeat(".a", 17) + " }}", "{{ value_json.9a }}",
	} {
		if v, err := parseValueTemplate(template); err == nil || !strings.Contains(err.Error(), "is not understood") {
			t.Errorf("%s is understood as %+v (%v)", template, v, err)
		}
	}
	p := testHomeassistant()
	r := one(t, take(t, p, kept("homeassistant/sensor/a/config", `{"stat_t":"homeassistant/a","val_tpl":"{{ value_json.a | round(1) }}"}`)))
	if want := `"{{ value_json.a | round(1) }}"`; !strings.Contains(r.Problem, want) {
		t.Errorf("the problem %q does not name the template", r.Problem)
	}
}

func TestHomeassistantBelievesOnlyWhatItMay(t *testing.T) {
	p := testHomeassistant("plug/+")
	for config, want := range map[string]string{
		`{"stat_t":"other/1"}`:                              `add "other/#"`,
		`{"stat_t":"plug/1/2"}`:                             "state-filters",
		`{"stat_t":"plug/+"}`:                               "no topic of gear",
		`{"stat_t":"$SYS/broker/load"}`:                     "no topic of gear",
		`{"stat_t":"plug/1","cmd_t":"spBv1.0/g/NCMD/n"}`:    "command_topic",
		`{"stat_t":"plug/1","avty_t":"x"}`:                  "availability_topic",
		`{"stat_t":"homeassistant/sensor/other/config"}`:    "discovery topic",
		`{"stat_t":"` + strings.Repeat("p", 513) + `"}`:     "over 512 bytes",
		`{"stat_t":"plug/1","ops":[1]}`:                     "",
		`{"stat_t":"plug/1","avty":[1]}`:                    "takes objects",
		`{"stat_t":"plug/1","avty":[{},{},{},{},{},{},{}]}`: "over 4",
	} {
		r := one(t, take(t, p, kept("homeassistant/sensor/a/config", config)))
		if want == "" && r.Problem != "" || !strings.Contains(r.Problem, want) {
			t.Errorf("%s: problem %q, want %q", config, r.Problem, want)
		}
	}
	refused(t, p, kept("homeassistant/sensor/a/config", "ON"), "not JSON")
	refused(t, p, kept("homeassistant/sensor/a/config", "[]"), "not the JSON expected")
	refused(t, p, kept("homeassistant/sensor/a/config", `{"a":`+strings.Repeat("[", 20)+strings.Repeat("]", 20)+`}`), "too deep")
	refused(t, p, kept("homeassistant/sensor/"+strings.Repeat("a", 200)+"/config", `{}`), "gear name too long")
	for _, m := range []Message{text("homeassistant/status", "online"), text("homeassistant/sensor/config", "{}"), text("plug/9", "5")} {
		if reports := take(t, p, m); len(reports) > 0 {
			t.Errorf("%s is of gear: %+v", m.Topic, reports)
		}
	}

	// A template for commands that is not understood.
	p = testHomeassistant()
	take(t, p, kept("homeassistant/switch/s/config", `{"~":"homeassistant/s","stat_t":"~","cmd_t":"~/set","cmd_tpl":"{{ 1 }}"}`))
	if _, err := p.Command("s", Command{Name: "set", Args: map[string]any{"value": true}}); err == nil || !strings.Contains(err.Error(), "{{ 1 }}") {
		t.Errorf("a command with a template: %v", err)
	}
	// Without a state the gear cannot answer.
	take(t, p, kept("homeassistant/switch/t/config", `{"cmd_t":"homeassistant/t/set"}`))
	if plan, err := p.Command("t", Command{Name: "set", Args: map[string]any{"value": true}}); err != nil || plan.Match != nil {
		t.Errorf("a switch without a state: %+v %v", plan, err)
	}
	// Entities that make one field.
	take(t, p, kept("homeassistant/sensor/n/a-b/config", `{"stat_t":"homeassistant/n"}`))
	r := one(t, take(t, p, kept("homeassistant/sensor/n/a_b/config", `{"stat_t":"homeassistant/n"}`)))
	if !strings.Contains(r.Problem, "none is stored") {
		t.Errorf("problem %q", r.Problem)
	}
	r = one(t, take(t, p, text("homeassistant/n", "5")))
	if len(r.Rows) > 0 || r.Problem == "" {
		t.Errorf("an ambiguous field: %+v", r)
	}
	take(t, p, kept("homeassistant/sensor/n/a-b/config", ""))
	wantRow(t, one(t, take(t, p, text("homeassistant/n", "5"))), 0, "a_b=string:5")
}

func TestHomeassistantAvailabilityModes(t *testing.T) {
	for mode, want := range map[string]string{
		"all": "on off off on", "any": "on on off on", "latest": "on off off on",
	} {
		p := testHomeassistant()
		take(t, p, kept("homeassistant/sensor/a/config", `{"~":"homeassistant","stat_t":"~/a","avty_mode":"`+mode+`","avty":[{"t":"~/1"},{"t":"~/2"}]}`))
		var got []string
		for _, m := range []Message{text("homeassistant/1", "online"), text("homeassistant/2", "offline"), text("homeassistant/1", "offline"), text("homeassistant/2", "online")} {
			got = append(got, map[Status]string{Online: "on", Offline: "off"}[one(t, take(t, p, m)).Status])
		}
		if mode == "all" {
			want = "on off off off"
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", mode, got, want)
		}
	}
}

func TestHomeassistantMemoryIsBounded(t *testing.T) {
	p := testHomeassistant()
	for i := range maxEntities {
		take(t, p, kept(fmt.Sprintf("homeassistant/sensor/n/e%d/config", i), `{"stat_t":"homeassistant/n"}`))
	}
	if r := one(t, take(t, p, text("homeassistant/n", "5"))); len(r.Rows) != 1 || len(r.Rows[0].Fields) != telemetry.MaxFields {
		t.Errorf("a message for %d entities: %+v", maxEntities, len(r.Rows))
	}
	for _, topic := range []string{"homeassistant/sensor/n/more/config", "homeassistant/sensor/m/one/config"} {
		if r := one(t, take(t, p, kept(topic, `{"stat_t":"homeassistant/n"}`))); !strings.Contains(r.Problem, "over 256") {
			t.Errorf("%s: problem %q", topic, r.Problem)
		}
	}
	p = testHomeassistant()
	for i := range MaxGear {
		take(t, p, kept(fmt.Sprintf("homeassistant/sensor/g%d/config", i), fmt.Sprintf(`{"stat_t":"homeassistant/s%d","avty_t":"homeassistant/up"}`, i)))
	}
	refused(t, p, kept("homeassistant/sensor/more/config", `{"stat_t":"homeassistant/more"}`), "too much gear")
	if reports := take(t, p, text("homeassistant/up", "offline")); len(reports) != MaxGear {
		t.Errorf("%d reports of one availability topic of %d pieces of gear", len(reports), MaxGear)
	}
	for i := range MaxGear {
		take(t, p, kept(fmt.Sprintf("homeassistant/sensor/g%d/config", i), ""))
	}
	if len(p.gear)+len(p.states)+len(p.watches)+p.memory != 0 {
		t.Errorf("%d gear, %d states, %d watches, %d bytes are left", len(p.gear), len(p.states), len(p.watches), p.memory)
	}
}

// A light that tells its brightness beside its state has both; one that is off
// tells none, and that is well.
func TestHomeAssistantLightHasItsBrightness(t *testing.T) {
	p := testHomeassistant("lamp/#")
	const config = `{"~":"lamp","cmd_t":"~/set","stat_t":"~/state","schema":"json","brightness":true}`
	for _, c := range []struct{ topic, payload, want string }{
		{"homeassistant/light/lamp/config", config, ""},
		{"lamp/state", `{"state":"ON","brightness":200}`, "brightness state"},
		{"lamp/state", `{"state":"OFF"}`, "state"},
	} {
		reports, err := p.Decode(text(c.topic, c.payload), nil)
		if err != nil {
			t.Fatal(err)
		}
		var fields []string
		for _, r := range reports {
			if r.Problem != "" {
				t.Errorf("%s: %s", c.payload, r.Problem)
			}
			for _, row := range r.Rows {
				for _, f := range row.Fields {
					fields = append(fields, f.Name)
				}
			}
		}
		slices.Sort(fields)
		if got := strings.Join(fields, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.payload, got, c.want)
		}
	}
}
