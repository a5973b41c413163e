package profile

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// samples are the messages of a file of testdata.
func samples(t *testing.T, file string) (messages []Message) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(raw), "# Source: ") {
		t.Errorf("%s does not name its source", file)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(parts) != 3 || parts[0] != "retained" && parts[0] != "live" {
			t.Fatalf("%s: line %q", file, line)
		}
		messages = append(messages, Message{Topic: parts[1], Payload: []byte(parts[2]),
			Retained: parts[0] == "retained", Received: exampleReceived})
	}
	return messages
}

func text(topic, payload string) Message {
	return Message{Topic: topic, Payload: []byte(payload), Received: exampleReceived}
}

func kept(topic, payload string) Message {
	m := text(topic, payload)
	m.Retained = true
	return m
}

// story tells what came of messages, in a form to compare: one line a report
// that says something.
func story(t *testing.T, p Profile, messages ...Message) string {
	t.Helper()
	var b strings.Builder
	for _, m := range messages {
		matches := 0
		for _, f := range p.Filters() {
			if TopicMatches(f, m.Topic) {
				matches++
			}
		}
		if matches == 0 {
			t.Errorf("no filter matches %s", m.Topic)
		}
		for _, r := range take(t, p, m) {
			if m.Retained && (!r.NotAlive || len(r.Rows) > 0) {
				t.Errorf("%s is retained and is a sign of life or a reading: %+v", m.Topic, r)
			}
			for _, row := range r.Rows {
				fmt.Fprintf(&b, "%s: %s\n", r.Gear, fieldsOf(row))
			}
			if r.Status != Unchanged {
				fmt.Fprintf(&b, "%s %s\n", r.Gear, strings.TrimSpace([]string{"", "online", "offline"}[r.Status]+" "+r.Reason))
			}
			if r.Firmware != "" {
				fmt.Fprintf(&b, "%s firmware %s\n", r.Gear, r.Firmware)
			}
			if r.Problem != "" {
				fmt.Fprintf(&b, "%s problem: %s\n", r.Gear, r.Problem)
			}
			if r.Describe != nil {
				fmt.Fprintf(&b, "%s describes %s\n", r.Gear, described(r.Describe))
			}
		}
	}
	return b.String()
}

func described(d *devicev1.Describe) string {
	var words []string
	for _, f := range d.GetFields() {
		words = append(words, fmt.Sprintf("%s[%s]%s", f.GetName(), f.GetUnit(), strings.ToLower(strings.TrimPrefix(f.GetKind().String(), "KIND_"))))
	}
	for _, c := range d.GetCommands() {
		words = append(words, c.GetName()+"()")
	}
	return strings.Join(words, " ")
}

func wantStory(t *testing.T, got, want string) {
	t.Helper()
	if want = strings.TrimLeft(want, "\n"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestHomieExamplesOfTheConvention(t *testing.T) {
	wantStory(t, story(t, testHomie(), samples(t, "homie/v4.txt")...), `
super-car online
super-car describes engine_temperature[Cel]double
super-car describes engine_temperature[Cel]double
super-car: engine_temperature=double:21.5
`)
	wantStory(t, story(t, testHomie(), samples(t, "homie/v3.txt")...), `
super-car firmware 1.0.0
super-car online
super-car describes lights_intensity[%]int lights_0_intensity[%]int lights_1_intensity[%]int set()
super-car describes lights_intensity[%]int lights_0_intensity[%]int lights_1_intensity[%]int set()
super-car: lights_0_intensity=int:80
super-car: lights_1_intensity=int:0
super-car: stats_uptime=double:120
`)
	wantStory(t, story(t, testHomie(), samples(t, "homie/v5.txt")...), `
kitchen-light online
kitchen-light describes light_brightness[%]int light_color[]string light_power[]bool light_press[]string set()
kitchen-light: light_power=bool:true
kitchen-light: light_brightness=int:85
kitchen-light: light_color=string:rgb,100,100,100
`)
	for _, m := range samples(t, "homie/v4.txt") {
		if settings, ok := homieKind().Recognise(m); !ok || settings != nil {
			t.Errorf("%s is recognised %v with %v", m.Topic, ok, settings)
		}
	}
	settings, ok := homieKind().Recognise(text("home/attic/car/$homie", "4.0.0"))
	if !ok || settings["prefix"] != "home/attic" {
		t.Errorf("another base topic is recognised %v with %v", ok, settings)
	}
}

// A broker sends what it retains in any order: once it has come, the device is
// described as it was, those elements of an array included that have said
// nothing since.
func TestHomieIsDescribedInAnyOrder(t *testing.T) {
	for file, want := range map[string]string{
		"homie/v4.txt": "engine_temperature[Cel]double",
		"homie/v3.txt": "lights_intensity[%]int lights_0_intensity[%]int lights_1_intensity[%]int set()",
		"homie/v5.txt": "light_brightness[%]int light_color[]string light_power[]bool light_press[]string set()",
	} {
		for range 200 {
			p := testHomie()
			messages := slices.DeleteFunc(samples(t, file), func(m Message) bool { return !m.Retained })
			rand.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
			var last string
			for _, m := range messages {
				for _, r := range take(t, p, m) {
					if r.Describe != nil {
						last = described(r.Describe)
					}
				}
			}
			if last != want {
				t.Fatalf("%s is described %s after %v", file, last, topicsOf(messages))
			}
		}
	}
}

func topicsOf(messages []Message) (topics []string) {
	for _, m := range messages {
		topics = append(topics, m.Topic)
	}
	return topics
}

// The number of an array's elements is the gear's word, and is bounded; an
// element that comes without being in it is one all the same.
func TestHomieArrays(t *testing.T) {
	for ofArray, want := range map[string]int{
		"0-1": 3, "3-3": 2, "0-0": 2, "1-0": 1, "": 1, "0-4294967295": 1, "9223372036854775807-9223372036854775808": 1, "-1-2": 1, "0-255": maxHomieProperties, "x": 1,
	} {
		p := testHomie()
		take(t, p, kept("homie/a/n/$array", ofArray))
		take(t, p, kept("homie/a/$state", "ready"))
		if r := one(t, take(t, p, kept("homie/a/n/p/$datatype", "integer"))); len(p.devices["a"].properties) != want || r.Describe == nil {
			t.Errorf("$array %q makes %d properties, want %d", ofArray, len(p.devices["a"].properties), want)
		}
		if ofArray == "x" {
			wantRow(t, one(t, take(t, p, text("homie/a/n_7/p", "4"))), 0, "n_7_p=int:4")
		}
	}
}

func TestHomiePresence(t *testing.T) {
	p := testHomie()
	wantStory(t, story(t, p,
		text("homie/a/$state", "init"), text("homie/a/$state", "ready"), text("homie/a/$state", "alert"),
		text("homie/a/$state", "sleeping"), text("homie/a/$state", "disconnected"),
		kept("homie/a/$state", "ready"), kept("homie/a/$state", "lost"), text("homie/a/$state", ""),
	), `
a online
a online
a online
a offline it sleeps
a offline it said goodbye
a online
a offline last will
a offline it was removed from the broker
`)
	refused(t, p, text("homie/a/$state", "READY"), "unknown $state")
	if r := one(t, take(t, p, text("homie/a/$state", "lost"))); !r.NotAlive {
		t.Error("the last will is a sign of life")
	}
	if reports := take(t, p, text("homie/$broadcast/alert", "Intruder detected")); len(reports) > 0 {
		t.Errorf("a broadcast is of gear: %+v", reports)
	}
	if reports := take(t, p, text("homie/a/light/power/set", "true")); len(reports) > 0 {
		t.Errorf("a controller's word is the gear's: %+v", reports)
	}
}

func TestHomieTypes(t *testing.T) {
	for _, c := range []struct{ datatype, payload, want string }{
		{"integer", "-5", "int:-5"}, {"integer", "5.0", ""}, {"integer", "+5", ""}, {"integer", "9223372036854775808", ""}, {"integer", "", "none"},
		{"float", "-1.5e3", "double:-1500"}, {"float", "NaN", ""}, {"float", "inf", ""}, {"float", "0x1p4", ""}, {"float", "1e999", ""}, {"float", "1_0", ""},
		{"boolean", "true", "bool:true"}, {"boolean", "TRUE", ""}, {"boolean", "1", ""},
		{"string", "open door", "string:open door"}, {"string", "a\xff", ""}, {"string", strings.Repeat("x", 4097), ""},
		{"enum", "on", "string:on"}, {"color", "1,2,3", "string:1,2,3"}, {"datetime", "2026-01-02T03:04:05Z", "string:2026-01-02T03:04:05Z"},
		{"percent", "5", ""},
	} {
		p := testHomie()
		take(t, p, kept("homie/a/n/p/$datatype", c.datatype))
		reports, err := p.Decode(text("homie/a/n/p", c.payload), nil)
		got := ""
		switch {
		case err == nil && len(reports[0].Rows) == 0:
			got = "none"
		case err == nil:
			got = strings.TrimPrefix(fieldsOf(reports[0].Rows[0]), "n_p=")
		case ReasonOf(err) != "wrong type":
			t.Errorf("%s %q: %v", c.datatype, c.payload, err)
		}
		if got != c.want {
			t.Errorf("%s %q: %q (%v), want %q", c.datatype, c.payload, got, err, c.want)
		}
	}
	p := testHomie()
	// Convention 3: a property without $datatype is a string, once the device
	// is ready.
	wantEarly(t, p, text("homie/a/n/p", "4"))
	take(t, p, kept("homie/a/$homie", "3.0.1"))
	take(t, p, kept("homie/a/n/p/$name", "P"))
	take(t, p, kept("homie/a/$state", "ready"))
	wantRow(t, one(t, take(t, p, text("homie/a/n/p", "5"))), 0, "n_p=string:5")

	// Two properties that make one field name.
	take(t, p, kept("homie/a/n-p/q/$datatype", "float"))
	take(t, p, kept("homie/a/n/p-q/$datatype", "float"))
	refused(t, p, text("homie/a/n-p/q", "5"), "ambiguous name")
	refused(t, p, text("homie/a/n/p-q", "5"), "ambiguous name")
	// The two conventions do not share a device.
	refused(t, p, text("homie/5/a/$state", "ready"), "two conventions")
	refused(t, p, text("homie/5/a/$description", `{"nodes":{}}`), "two conventions")
}

func TestHomieCommands(t *testing.T) {
	p := testHomie()
	for _, m := range samples(t, "homie/v5.txt") {
		take(t, p, m)
	}
	for _, line := range []string{"light/power/$datatype boolean", "light/power/$settable true", "light/level/$datatype float",
		"light/level/$settable true", "light/level/$format -20:120", "light/mode/$datatype enum", "light/mode/$settable true",
		"light/mode/$format off,eco,full", "light/hue/$datatype color", "light/hue/$settable true", "light/hue/$format rgb",
		"light/temp/$datatype float"} {
		topic, payload, _ := strings.Cut(line, " ")
		take(t, p, kept("homie/lamp/"+topic, payload))
	}
	set := func(gear, node, property string, value any) (Plan, error) {
		return p.Command(gear, Command{ID: "1", Name: "set", Args: map[string]any{"node": node, "property": property, "value": value}})
	}
	for _, c := range []struct {
		gear, property string
		value          any
		topic, payload string // "": refused
	}{
		{"lamp", "power", true, "homie/lamp/light/power", "true"},
		{"lamp", "level", json.Number("21.5"), "homie/lamp/light/level", "21.5"},
		{"lamp", "level", json.Number("1e2"), "homie/lamp/light/level", "100"},
		{"lamp", "mode", "eco", "homie/lamp/light/mode", "eco"},
		{"lamp", "hue", "255,255,0", "homie/lamp/light/hue", "255,255,0"},
		{"kitchen-light", "brightness", json.Number("40"), "homie/5/kitchen-light/light/brightness", "40"},
		{"kitchen-light", "color", "hsv,300,50,75", "homie/5/kitchen-light/light/color", "hsv,300,50,75"},
		{"lamp", "power", "on", "", ""}, {"lamp", "power", json.Number("1"), "", ""},
		{"lamp", "level", json.Number("121"), "", ""}, {"lamp", "level", "5", "", ""}, {"lamp", "level", json.Number("1e400"), "", ""},
		{"lamp", "mode", "party", "", ""}, {"lamp", "hue", "256,0,0", "", ""}, {"lamp", "hue", "1,2", "", ""}, {"lamp", "hue", "NaN,0,0", "", ""},
		{"lamp", "temp", json.Number("1"), "", ""}, {"lamp", "none", true, "", ""}, {"other", "power", true, "", ""},
		{"kitchen-light", "brightness", json.Number("40.5"), "", ""}, {"kitchen-light", "brightness", json.Number("101"), "", ""},
	} {
		plan, err := set(c.gear, "light", c.property, c.value)
		if c.topic == "" {
			if err == nil {
				t.Errorf("%s %s %v is taken: %+v", c.gear, c.property, c.value, plan)
			}
			continue
		}
		if err != nil || len(plan.Publish) != 1 || plan.Publish[0].Topic != c.topic+"/set" || string(plan.Publish[0].Payload) != c.payload {
			t.Errorf("%s %s %v: %+v %v", c.gear, c.property, c.value, plan, err)
			continue
		}
		for _, m := range []Message{kept(c.topic, c.payload), text(c.topic, "-1"), text(c.topic+"/set", c.payload), text("homie/x/light/power", c.payload)} {
			if _, ok := plan.Match(m); ok {
				t.Errorf("%s %q (retained %v) is taken for the answer", m.Topic, m.Payload, m.Retained)
			}
		}
		if a, ok := plan.Match(text(c.topic+"/$target", c.payload)); !ok || a.Phase != devicev1.CommandPhase_COMMAND_PHASE_RUNNING {
			t.Errorf("the target is %+v, %v", a, ok)
		}
		if a, ok := plan.Match(text(c.topic, c.payload)); !ok || a.Phase != devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED {
			t.Errorf("the value is %+v, %v", a, ok)
		}
	}
	if _, err := p.Command("lamp", Command{Name: "reboot", Args: map[string]any{}}); ReasonOf(err) != "unknown command" {
		t.Errorf("an unknown command: %v", err)
	}
}

func TestHomieMemoryIsBounded(t *testing.T) {
	p := testHomie()
	for i := range maxHomieProperties {
		take(t, p, kept(fmt.Sprintf("homie/a/n/p%d/$datatype", i), "float"))
	}
	refused(t, p, kept("homie/a/n/more/$datatype", "float"), "too many properties")
	refused(t, p, kept("homie/a/n/p0/$format", strings.Repeat("x", maxHomieFormat+1)), "too large")
	refused(t, p, kept("homie/5/b/$description", `{"nodes":{"n":{"properties":{"p":{"datatype":3}}}}}`), "not the JSON expected")
	refused(t, p, kept("homie/5/b/$description", strings.Repeat("[", 40)+strings.Repeat("]", 40)), "too deep")
	for i := range MaxGear - len(p.devices) {
		take(t, p, kept(fmt.Sprintf("homie/d%d/$homie", i), "4.0.0"))
	}
	refused(t, p, kept("homie/more/$homie", "4.0.0"), "too much gear")
	// What is removed makes room.
	take(t, p, kept("homie/a/$state", ""))
	if p.memory != 0 {
		t.Errorf("%d bytes are counted after all properties are gone", p.memory)
	}
	take(t, p, kept("homie/more/$homie", "4.0.0"))
}
