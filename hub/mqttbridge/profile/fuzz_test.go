package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// fuzzSettings are settings of each kind, under which most of it is reached.
var fuzzSettings = map[string]string{
	"raw": `{topic: "{gear}/sensor/{field...}", type: auto, availability: {topic: "{gear}/status"},
		commands: [{name: set, topic: "{gear}/set/{arg.a}", payload: "{arg.b}", answer: {topic: "{gear}/sensor/{arg.a}", equals: "{arg.b}"}}]}`,
	"json": `{topic: "rtl_433/+/devices/{gear}/{gear}/{gear}", time: {path: time, format: unix}, omit: [a.*.b], fields: [{path: x, type: integer}],
		availability: {topic: "rtl_433/{gear}", path: state},
		commands: [{name: set, topic: "{gear}/set", answer: {topic: "rtl_433/{gear}/a", fields: {ok: true}}}]}`,
	"influx": `{topic: "telegraf/{gear}/+", tags: {cpu: field}}`,
}

// fuzzProfiles are one profile of each kind.
func fuzzProfiles(t testing.TB) (profiles []Profile) {
	for _, k := range Kinds() {
		profiles = append(profiles, configured(t, k.Name, fuzzSettings[k.Name]))
	}
	return profiles
}

// FuzzDecode gives a message to a profile of every kind, also to those whose
// filters would not bring it, and then a command, with the message as its
// arguments and as its answer.
func FuzzDecode(f *testing.F) {
	f.Add("/light/n/config", []byte(`{"~": "homeassistant/light/kitchen", "unique_id": "kitchen_light", "cmd_t": "~/set"}`), true) // no prefix
	seedSamples(f)
	for _, payload := range []string{`{"a":[1,{"b":"x\u00e4"}],"c":-1.5e-3,"d":null}`, `[[[[]]]]`, `nan`, `{"a":1,"a":2}`, `"\ud83d\ude00"`, "21.5", "ON", `{"state":"ON"}`} {
		f.Add("tele/p/SENSOR", []byte(payload), false)
		f.Add("livingroom/sensor/t", []byte(payload), true)
	}
	f.Fuzz(func(t *testing.T, topic string, payload []byte, retained bool) {
		wantFlat(t, payload)
		m := Message{Topic: topic, Payload: payload, Retained: retained, Received: exampleReceived}
		profiles := fuzzProfiles(t)
		for i, k := range Kinds() {
			wantHarmless(t, k, profiles[i], m)
		}
	})
}

// seedSamples has all messages of testdata as seeds.
func seedSamples(f *testing.F) {
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".txt" {
			return err
		}
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3); len(parts) == 3 {
				f.Add(parts[1], []byte(parts[2]), parts[0] == "retained")
			}
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
}

func wantHarmless(t *testing.T, k Kind, p Profile, m Message) {
	t.Helper()
	wantHarmlessWith(t, k, p, m, argsIn(m.Payload))
}

// argsIn are the arguments that a payload has; nil: none.
func argsIn(payload []byte) map[string]any {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	args := map[string]any{}
	if d.Decode(&args) != nil {
		return nil
	}
	return args
}

// wantHarmlessWith is wantHarmless, where commands have those arguments.
func wantHarmlessWith(t *testing.T, k Kind, p Profile, m Message, args map[string]any) {
	t.Helper()
	before := bytes.Clone(m.Payload)
	gear := "a/b/c"
	for range 2 { // the second time known
		reports, err := p.Decode(m, nil)
		var refusal *Refusal
		var early *Early
		if errors.As(err, &early) {
			err = early.Refusal
			if d, ok := p.(Describing); !ok || early.Key == "" && m.Topic != "" {
				t.Errorf("%s: early with the key %q, of %T", k.Name, early.Key, d)
			}
		}
		switch {
		case err != nil && !errors.As(err, &refusal):
			t.Errorf("%s: the error %v is no Refusal", k.Name, err)
		case err != nil && (refusal.Reason == "" || len(refusal.Detail) > 500 || !utf8.ValidString(refusal.Detail) && utf8.ValidString(m.Topic)):
			t.Errorf("%s: the refusal %q: %q", k.Name, refusal.Reason, refusal.Detail)
		}
		for _, r := range reports {
			checkReport(t, r)
			wantSound(t, k, r)
			gear = r.Gear
		}
		p.Connected()
	}
	if !bytes.Equal(before, m.Payload) {
		t.Errorf("%s has changed the payload", k.Name)
	}
	if k.Recognise != nil {
		if settings, ok := k.Recognise(m); ok && settings != nil {
			text, err := json.Marshal(settings)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := k.New(fromYAML(string(text))); err != nil {
				t.Errorf("%s recognises %q and gives settings that it does not take: %v", k.Name, m.Topic, err)
			}
		}
	}
	wantHarmlessCommand(t, k, p, gear, m, args)
}

func wantSound(t *testing.T, k Kind, r Report) {
	t.Helper()
	if len(r.Problem) > 500 || r.Status == Offline && !r.NotAlive || len(r.Reason) > 200 {
		t.Errorf("%s: %+v", k.Name, r)
	}
	for _, row := range r.Rows {
		for _, f := range row.Fields {
			wantField(t, f)
		}
	}
	if _, err := wire.Encode(1, r.Rows); len(r.Rows) > 0 && err != nil && rowsHaveTimes(r.Rows) {
		t.Errorf("%s: %v", k.Name, err)
	}
}

func rowsHaveTimes(rows []telemetry.Row) bool {
	for _, r := range rows {
		if r.Time == 0 {
			return false
		}
	}
	return true
}

// wantHarmlessCommand gives every command that any kind knows.
func wantHarmlessCommand(t *testing.T, k Kind, p Profile, gear string, m Message, args map[string]any) {
	t.Helper()
	if args == nil {
		args = map[string]any{"a": m.Topic, "b": "x", "state": "on", "command": m.Topic, "property": m.Topic, "value": m.Topic}
	}
	for _, name := range []string{"set", "get", "power", "dimmer", "color", "ct", "command", "request", "switch", "rpc", "write", "rebirth"} {
		plan, err := p.Command(gear, Command{ID: "0198f1c2-aaaa", Name: name, Args: args})
		var refusal *Refusal
		if err != nil && !errors.As(err, &refusal) {
			t.Errorf("%s: %s: the error %v is no Refusal", k.Name, name, err)
		}
		for _, published := range plan.Publish {
			if published.Topic == "" || strings.ContainsAny(published.Topic, "+#\x00") && !strings.ContainsAny(gear, "+#\x00") {
				t.Errorf("%s: %s publishes to %q", k.Name, name, published.Topic)
			}
		}
		if plan.Match != nil {
			if answer, ok := plan.Match(m); ok && (m.Retained || answer.Phase == 0) {
				t.Errorf("%s: %s is answered by %q retained %v: %+v", k.Name, name, m.Topic, m.Retained, answer)
			}
		}
	}
}

// TestHostileMessages are refused by every kind, or do no harm.
func TestHostileMessages(t *testing.T) {
	long := strings.Repeat("x", MaxPayloadBytes+1)
	payloads := []string{
		"", " ", "\x00", "\xff\xfe", "{", "[", `{"a":`, "nan", "1e999", "-", `"`, "null", "[]", "{}", `{"a":{}}`, long,
		`{"a":"` + long[:MaxPayloadBytes] + `"}`, strings.Repeat("[", MaxPayloadBytes), strings.Repeat(`{"a":`, MaxPayloadBytes/5),
		strings.Repeat(" ", MaxPayloadBytes), `{"a":1e999,"b":-1e999,"c":123456789012345678901234567890}`,
		`{"` + strings.Repeat("k", 100_000) + `":1}`, `{"a":"\ud800"}`, "{\"a\":\"\x00\"}", `{"time":"1","device":"2","_value":3}`, "m a=1 99999999999999999999",
		`{"` + strings.Repeat(`a":1,"`, 1000) + `b":1}`, `{"state":{"a":1},"id":{},"params":[],"src":7,"method":[]}`,
	}
	topics := map[string]bool{"tele/p/SENSOR": true, "stat/p/RESULT": true, "tele/p/LWT": true, "zigbee2mqtt/p": true, "zigbee2mqtt/bridge/devices": true,
		"zigbee2mqtt/bridge/state": true, "zigbee2mqtt/p/availability": true, "livingroom/sensor/t": true, "livingroom/status": true, "telegraf/h/m": true,
		"rtl_433/x/devices/a/b/c": true, "": true, "/": true, "////////": true, "$SYS/broker/uptime": true, strings.Repeat("a/", 300): true, "\xff/\xfe/x": true}
	args := make([]map[string]any, len(payloads))
	for i, payload := range payloads {
		args[i] = argsIn([]byte(payload))
	}
	profiles := fuzzProfiles(t)
	for i, k := range Kinds() {
		for _, f := range profiles[i].Filters() {
			topics[strings.NewReplacer("+", "p", "#", "p").Replace(f)] = true
		}
		for topic := range topics {
			for n, payload := range payloads {
				wantHarmlessWith(t, k, profiles[i], Message{Topic: topic, Payload: []byte(payload), Received: exampleReceived}, args[n])
			}
		}
	}
}

// wantField checks what a store relies on.
func wantField(t *testing.T, f telemetry.Field) {
	t.Helper()
	if err := wire.CheckColumnName(f.Name); err != nil {
		t.Error(err)
	}
	v := f.Value
	switch v.Kind() {
	case telemetry.Double, telemetry.Float:
		if math.IsNaN(v.Float64()) || math.IsInf(v.Float64(), 0) {
			t.Errorf("field %s is %v", f.Name, v.Float64())
		}
	case telemetry.String:
		if len(v.Str()) > telemetry.MaxStringBytes || !utf8.ValidString(v.Str()) {
			t.Errorf("field %s is a text of %d bytes, UTF-8 %v", f.Name, len(v.Str()), utf8.ValidString(v.Str()))
		}
	case telemetry.Int, telemetry.Bool:
	default:
		t.Errorf("field %s has no value", f.Name)
	}
}
