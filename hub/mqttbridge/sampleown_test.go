package mqttbridge

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/registry"
)

// heard are messages as "topic payload"; one that begins with "!" is retained.
func heard(lines ...string) (all []profile.Message) {
	for _, line := range lines {
		line, retained := strings.CutPrefix(line, "!")
		topic, payload, _ := strings.Cut(line, " ")
		all = append(all, profile.Message{Topic: topic, Payload: []byte(payload), Retained: retained})
	}
	return all
}

// studied is what a sample makes of messages: the gear, the profiles of the
// config that it writes, read as the hub reads it, and what is left.
func studied(t *testing.T, filters []string, messages ...profile.Message) (gear []SampledGear, profiles []ProfileConfig, rest []SampledTopic) {
	t.Helper()
	all := recorded(t, messages...)
	st := newStudy(&BrokerConfig{Name: "mqtt", URL: "tcp://127.0.0.1:1883"}, noDevice)
	st.filters = filters
	gear = st.progress(all).Gear
	if text := st.config(&SampleRequest{Duration: DefaultSample}, all); text != "" {
		t.Logf("\n%s", text)
		profiles = loadText(t, text).Brokers[0].Profiles
	}
	return gear, profiles, st.unrecognised(all)
}

func settingsOf(t *testing.T, p ProfileConfig) map[string]any {
	t.Helper()
	settings := make(map[string]any)
	if err := p.decodeSettings(&settings); err != nil {
		t.Fatal(err)
	}
	return settings
}

// What gear says about its presence is presence, and neither a value nor other
// gear.
func TestSampledPresence(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages []string
		topic    string            // of availability; "": none
		status   map[string]string // of gear
		fields   string            // of the first one
	}{
		{"raw", []string{"!sensors/attic/status online", "sensors/attic/temperature 21.5", "sensors/attic/relay on", "!sensors/cellar/status offline", "sensors/cellar/temperature 9"},
			"sensors/{gear}/status", map[string]string{"attic": "online", "cellar": "offline"}, "relay temperature"},
		{"json", []string{`devices/pump/telemetry {"flow":3.5}`, "!devices/pump/status offline", "devices/pump/status online"},
			"devices/{gear}/status", map[string]string{"pump": "online"}, "flow"},
		{"short topics", []string{"!x/status online", `x/telemetry {"v":1}`}, "{gear}/status", map[string]string{"x": "online"}, "v"},
		{"behind the gear", []string{`farm/soil-1 {"moisture":41.2}`, "!farm/soil-1/LWT Online"}, "farm/{gear}/LWT", map[string]string{"soil-1": "online"}, "moisture"},
		{"levels the other way", []string{`farm/data/soil-1 {"moisture":41.2}`, "!farm/status/soil-1 connected"}, "farm/status/{gear}", nil, "moisture"},
		{"own words", []string{"s/attic/temp 21.5", "!s/attic/connection Connected"}, "s/{gear}/connection", map[string]string{"attic": "online"}, "temp"},
		{"document", []string{`d/pump/telemetry {"flow":3.5}`, `!d/pump/availability {"state":"online"}`}, "d/{gear}/availability", map[string]string{"pump": "online"}, "flow"},
		{"truth", []string{"s/attic/temp 21.5", "!s/attic/online 1"}, "s/{gear}/online", map[string]string{"attic": "online"}, "temp"},
		{"bare gear", []string{"s/attic/temp 21.5", "!s/attic online"}, "s/{gear}", map[string]string{"attic": "online"}, "temp"},
		{"line protocol", []string{"telegraf/nas/cpu cpu,host=nas usage_idle=91.5\n", "!telegraf/nas/status online"}, "telegraf/{gear}/status", map[string]string{"nas": "online"}, "usage_idle"},
		{"a state that is none", []string{"s/pump/state running", "s/pump/flow 3"}, "", nil, "flow state"},
		{"a switch", []string{"s/pump/state 1", "s/pump/flow 3"}, "", nil, "flow state"},
		{"the word of a router", []string{"!net/router/wan online", "net/router/load 3"}, "", nil, "load"},
	} {
		t.Run(c.name, func(t *testing.T) {
			gear, profiles, rest := studied(t, nil, heard(c.messages...)...)
			if len(profiles) != 1 || len(rest) != 0 {
				t.Fatalf("%d profiles, left %v", len(profiles), rest)
			}
			availability, _ := settingsOf(t, profiles[0])["availability"].(map[string]any)
			if topic, _ := availability["topic"].(string); topic != c.topic {
				t.Errorf("availability %q; want %q", topic, c.topic)
			}
			for _, g := range gear {
				if want := c.status[g.Name]; want != "" && g.Status != want {
					t.Errorf("%s is %q; want %q", g.Name, g.Status, want)
				}
				if g.Problem != "" {
					t.Errorf("%s: %s", g.Name, g.Problem)
				}
			}
			var fields []string
			for _, f := range gear[0].Fields {
				fields = append(fields, f.Name)
			}
			if got := strings.Join(fields, " "); got != c.fields {
				t.Errorf("fields %q; want %q", got, c.fields)
			}
		})
	}
	// Gear of which nothing else was heard is no device.
	gear, profiles, rest := studied(t, nil, heard("!x/status offline")...)
	if len(gear) != 0 || profiles != nil || len(rest) != 1 || !strings.Contains(rest[0].Reason, "presence") {
		t.Errorf("%v, %v, %+v", gear, profiles, rest)
	}
}

const switchDiscovery = `!homeassistant/switch/esp-1/relay/config {"~":"esp/esp-1","stat_t":"~/state","cmd_t":"~/relay/set","avty_t":"~/status","uniq_id":"r","val_tpl":"{{ value_json.relay }}"}`

// However narrow the sample, its config takes what discovery names: with the
// topics of commands left out there would be no commands.
func TestSampledFiltersHaveCommands(t *testing.T) {
	for _, c := range []struct {
		name    string
		filters []string
		more    []string
		want    []string
	}{
		{"all", nil, nil, []string{"esp/#"}},
		{"beside others", nil, []string{"esp/other/temp 3", "esp/other/hum 4"}, []string{"esp/esp-1/#"}},
		{"by a filter", []string{"homeassistant/#", "esp/+/state"}, nil, []string{"esp/esp-1/relay/set", "esp/esp-1/state", "esp/esp-1/status"}},
		{"by a wider filter", []string{"homeassistant/#", "esp/+/#"}, nil, []string{"esp/esp-1/#"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := append([]string{switchDiscovery, `esp/esp-1/state {"relay":"ON"}`}, c.more...)
			gear, profiles, _ := studied(t, c.filters, heard(lines...)...)
			var filters []string
			for _, f := range settingsOf(t, profiles[0])["state-filters"].([]any) {
				filters = append(filters, f.(string))
			}
			if !slices.Equal(filters, c.want) || profiles[0].Kind != "homeassistant" {
				t.Errorf("%s with the filters %q; want %q", profiles[0].Kind, filters, c.want)
			}
			i := slices.IndexFunc(gear, func(g SampledGear) bool { return g.Name == "esp-1" })
			if i < 0 || !slices.Contains(gear[i].Commands, "set") || gear[i].Problem != "" {
				t.Errorf("gear %+v", gear)
			}
		})
	}
}

// A field of several types is said to be one, and the config gives it the type
// that takes what came.
func TestSampledMixedTypes(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages []string
		place    string
		as, kind string
		problem  bool // besides, of what stands for no value
	}{
		{"raw bool", []string{"s/a/relay true", "s/a/relay on", "s/a/temp 1"}, "relay", "bool", "KIND_BOOL", false},
		{"raw text", []string{"s/a/mode 1", "s/a/mode eco", "s/a/temp 1"}, "mode", "text", "KIND_STRING", false},
		{"raw of two", []string{"s/a/relay true", "s/b/relay on"}, "relay", "bool", "KIND_BOOL", false},
		{"json bool", []string{`j/a {"relay":true,"n":1}`, `j/a {"relay":"ON","n":1}`}, "relay", "bool", "KIND_BOOL", false},
		{"json number", []string{`j/a {"meter":{"power":"12.5"}}`, `j/a {"meter":{"power":12}}`}, "meter.power", "number", "KIND_DOUBLE", false},
		{"no value", []string{`j/a {"temp":12.5}`, `j/a {"temp":"unavailable"}`}, "temp", "number", "KIND_DOUBLE", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			gear, profiles, _ := studied(t, nil, heard(c.messages...)...)
			if len(profiles) != 1 {
				t.Fatalf("%d profiles", len(profiles))
			}
			fields, _ := settingsOf(t, profiles[0])["fields"].([]any)
			if len(fields) != 1 {
				t.Fatalf("settings %v", settingsOf(t, profiles[0]))
			}
			field := fields[0].(map[string]any)
			if field["type"] != c.as || field["path"] != c.place && field["field"] != c.place {
				t.Errorf("field %v", field)
			}
			for _, f := range gear[0].Fields {
				if f.Description == "mixed" && f.Kind.String() != c.kind {
					t.Errorf("%v", f)
				}
			}
			if p := gear[0].Problem; !strings.Contains(p, "mixed") || !strings.Contains(p, c.as) {
				t.Errorf("problem %q", p)
			}
		})
	}
	// Gear that did not send the field is not told that it is mixed.
	others, _, _ := studied(t, nil, heard("s/a/relay true", "s/a/relay on", "s/a/temp 1", "s/b/temp 2")...)
	if len(others) != 2 || !strings.Contains(others[0].Problem, "field relay is mixed") || others[1].Problem != "" {
		t.Errorf("%v", others)
	}
	// Profiles whose fields are at odds do not share a measurement.
	gear, profiles, _ := studied(t, nil, heard("a/one/relay on", "a/one/temp 1", "b/c/two/relay true")...)
	if len(profiles) != 2 || settingsOf(t, profiles[0])["measurement"] != nil || settingsOf(t, profiles[1])["measurement"] != "raw_2" ||
		gear[0].Problem+gear[1].Problem != "" || gear[1].Fields[0].Measurement != "raw_2" {
		t.Errorf("%v", gear)
	}
	// A profile that cannot be told the type says what it is.
	cfg := loadText(t, "brokers: [{name: b, url: 'tcp://h:1', profiles: [{kind: json, settings: {topic: 'j/{gear}'}}]}]")
	st := newStudy(&cfg.Brokers[0], noDevice)
	g := st.progress(recorded(t, heard(`j/a {"relay":true}`, `j/a {"relay":"ON"}`, `j/a {"relay":1}`)...)).Gear[0]
	if f := g.Fields[0]; f.Kind != 0 || f.Description != "mixed: bool, string, double" || !strings.Contains(g.Problem, "a store may refuse") {
		t.Errorf("%v, %s", f, g.Problem)
	}
}

// A broker of the config is known by its address, whatever it is called.
func TestSampledBrokerIsKnownByItsAddress(t *testing.T) {
	cfg := Config{Brokers: []BrokerConfig{
		{Name: "own", URL: EmbeddedURL},
		{Name: "barn", URL: "tcp://127.0.0.1:1883", User: "hub", PasswordFile: "secret"},
	}}
	embedded := &Embedded{Endpoint: func() (string, string, string, *tls.Config) { return "ssl://127.0.0.1:8883", "", "", nil }}
	s := NewSampler(cfg, embedded, nil)
	for _, c := range []struct{ broker, user, known, dial, as string }{
		{"embedded", "", "own", EmbeddedURL, ""},
		{"own", "", "own", EmbeddedURL, ""},
		{"ssl://localhost:8883", "", "own", EmbeddedURL, ""},
		{"ssl://localhost:8883", "gear", "own", "ssl://localhost:8883", "gear"},
		{"barn", "", "barn", "tcp://127.0.0.1:1883", "hub"},
		{"tcp://LocalHost:1883", "", "barn", "tcp://127.0.0.1:1883", "hub"},
		{"tcp://127.0.0.1:1883", "me", "barn", "tcp://127.0.0.1:1883", "me"},
		{"ssl://127.0.0.1:1883", "", "mqtt", "ssl://127.0.0.1:1883", ""},
		{"tcp://127.0.0.1:1884", "", "mqtt", "tcp://127.0.0.1:1884", ""},
		{"tcp://farm.example:1883", "", "farm", "tcp://farm.example:1883", ""},
	} {
		b, err := s.broker(&SampleRequest{Broker: c.broker, User: c.user})
		if err != nil {
			t.Errorf("%s: %v", c.broker, err)
			continue
		}
		if b.known.Name != c.known || b.dial.URL != c.dial || b.dial.User != c.as || c.user != "" && b.dial.PasswordFile != "" {
			t.Errorf("%s as %q: %s, by %s as %q", c.broker, c.user, b.known.Name, b.dial.URL, b.dial.User)
		}
	}
	if cfg.Brokers[1].User != "hub" || cfg.Brokers[1].PasswordFile != "secret" {
		t.Error("the config was changed")
	}
}

// Gear that has a device keeps its id, however it was allowed.
func TestSampledGearKeepsItsDevice(t *testing.T) {
	st := newStudy(&BrokerConfig{Name: "barn", URL: "tcp://h:1"}, noDevice)
	st.gear = func(g registry.Gear) string {
		if g == (registry.Gear{Broker: "barn", Profile: "json", Name: "pump"}) {
			return "pump-17"
		}
		return ""
	}
	all := recorded(t, heard(`j/pump {"flow":1}`, `j/fan {"speed":1}`)...)
	gear := st.progress(all).Gear
	if gear[0].DeviceID != "fan" || gear[1].DeviceID != "pump-17" || !strings.Contains(st.config(&SampleRequest{}, all), "id: pump-17") {
		t.Errorf("%+v", gear)
	}
}

// The time that json gear tells is in the config that a sample prints, and is
// no field.
func TestSampledTime(t *testing.T) {
	now := time.Now()
	all := heard(fmt.Sprintf(`devices/pump {"flow":3.5,"ts":%d}`, now.Unix()), fmt.Sprintf(`devices/pump {"flow":3.5,"ts":%d}`, now.Unix()+1))
	for i := range all {
		all[i].Received = now
	}
	gear, profiles, _ := studied(t, nil, all...)
	if len(gear) != 1 || len(profiles) != 1 {
		t.Fatalf("%+v, %+v", gear, profiles)
	}
	if got := fmt.Sprint(settingsOf(t, profiles[0])["time"]); got != "map[format:unix path:ts]" {
		t.Errorf("time: %s", got)
	}
	if got := strings.Join(gearWords(gear), "\n"); strings.Contains(got, "ts:") || !strings.Contains(got, "flow:") {
		t.Error(got)
	}
}

// Discovery is recognised under any prefix, and what only looks like it is
// gear as before.
func TestSampledDiscoveryUnderAnotherPrefix(t *testing.T) {
	for topic, prefix := range map[string]string{
		"ha/sensor/x/config":                "ha",
		"site/north/sensor/x/load/config":   "site/north",
		"homeassistant/sensor/x/config":     "",
		"ha/device/x/config":                "ha",
		"a/sensor/switch/x/relay/config":    "a/sensor",
		"homeassistant2/switch/x/r1/config": "homeassistant2",
	} {
		config := `{"~":"own/x","name":"load","stat_t":"~/load","uniq_id":"x1","dev":{"ids":["x"]}}`
		if strings.Contains(topic, "/device/") {
			config = `{"dev":{"ids":["x"]},"o":{"name":"x"},"cmps":{"load":{"p":"sensor","stat_t":"own/x/load","uniq_id":"x1"}}}`
		}
		gear, profiles, rest := studied(t, nil, heard("!"+topic+" "+config, "own/x/load 3.5", "s/attic/temp 21.5")...)
		if len(profiles) != 2 || len(rest) > 0 || len(gear) != 2 {
			t.Errorf("%s: %d profiles, gear %v, left %v", topic, len(profiles), gearWords(gear), rest)
			continue
		}
		found := settingsOf(t, profiles[0])
		if at, _ := found["discovery"].(string); profiles[0].Kind != "homeassistant" || at != prefix || fmt.Sprint(found["state-filters"]) != "[own/#]" {
			t.Errorf("%s: %s %v", topic, profiles[0].Kind, found)
		}
		if gear[0].Name != "x" || len(gear[0].Fields) != 1 || gear[1].Name != "attic" {
			t.Errorf("%s: gear %v", topic, gearWords(gear))
		}
	}
	for _, line := range []string{
		`ha/sensor/x/config {"interval":5,"unique_id":"x1"}`,
		`ha/gauge/x/config {"state_topic":"own/x","unique_id":"x1"}`,
		`sensor/x/config {"state_topic":"own/x","unique_id":"x1"}`,
		`ha/sensor/x/config 5`,
	} {
		_, profiles, _ := studied(t, nil, heard(line)...)
		for _, p := range profiles {
			if p.Kind == "homeassistant" {
				t.Errorf("%s is taken for discovery", line)
			}
		}
	}
}
