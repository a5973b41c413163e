package profile

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// fromYAML is settings as the config has them.
func fromYAML(text string) func(any) error {
	return func(into any) error {
		if text == "" {
			return nil
		}
		return yaml.UnmarshalWithOptions([]byte(text), into, yaml.Strict())
	}
}

// configured is a profile of a kind with settings in YAML.
func configured(t testing.TB, kind, settings string) Profile {
	t.Helper()
	k, ok := KindOf(kind)
	if !ok {
		t.Fatalf("there is no kind %s", kind)
	}
	p, err := k.New(fromYAML(settings))
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return p
}

// must is for settings that are known to be good.
func must[P Profile](p P, err error) P {
	if err != nil {
		panic(err)
	}
	return p
}

func testHomie() *homie { return must(newHomie(homieSettings{Prefix: "homie"})) }

func testSparkplug() *sparkplug { return must(newSparkplug(sparkplugSettings{})) }

// wantBadSettings checks that New refuses settings and that the error names
// the key.
func wantBadSettings(t *testing.T, kind, settings, key string) {
	t.Helper()
	k, _ := KindOf(kind)
	if _, err := k.New(fromYAML(settings)); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("%s with %s: error %v; want one that names %s", kind, settings, err, key)
	}
}

// wantRecognised checks that a kind recognises a message, and that a profile
// with the settings that it gives has the gear appear.
func wantRecognised(t *testing.T, kind string, m Message, settings, gear string) {
	t.Helper()
	for _, k := range Kinds() {
		if k.Recognise == nil {
			continue
		}
		given, ok := k.Recognise(m)
		if !ok {
			continue
		}
		text := ""
		if given != nil {
			encoded, err := json.Marshal(given)
			if err != nil {
				t.Fatal(err)
			}
			text = string(encoded)
		}
		if k.Name != kind || text != settings {
			t.Errorf("%s is recognised as %s with %s; want %s with %s", m.Topic, k.Name, text, kind, settings)
			return
		}
		p := configured(t, kind, text)
		for _, r := range take(t, p, m) {
			if r.Gear == gear {
				return
			}
		}
		t.Errorf("%s: no gear %s appears with %s", m.Topic, gear, text)
		return
	}
	t.Errorf("%s is recognised by no kind; want %s", m.Topic, kind)
}

// told plans a command and says what is published.
func told(t *testing.T, p Profile, gear, name, args string) (published string, plan Plan) {
	t.Helper()
	plan, err := p.Command(gear, commandOf(t, name, args))
	if err != nil {
		return "refused: " + ReasonOf(err), Plan{}
	}
	var b strings.Builder
	for _, m := range plan.Publish {
		if strings.ContainsAny(m.Topic, "+#\x00") {
			t.Errorf("the topic %q is no topic to publish to", m.Topic)
		}
		b.WriteString(m.Topic + " " + string(m.Payload))
	}
	return b.String(), plan
}

func commandOf(t *testing.T, name, args string) Command {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(args))
	d.UseNumber()
	c := Command{ID: "0198f1c2-aaaa", Name: name}
	if err := d.Decode(&c.Args); err != nil {
		t.Fatalf("%s: %v", args, err)
	}
	return c
}

// answered is the end that the messages bring, and with which of them.
func answered(t *testing.T, plan Plan, messages ...Message) string {
	t.Helper()
	if plan.Match == nil {
		return "cannot answer"
	}
	for _, m := range messages {
		a, ok := plan.Match(m)
		if !ok {
			continue
		}
		if len(a.Result) > 0 && !json.Valid(a.Result) {
			t.Errorf("the result %q is no JSON", a.Result)
		}
		if (a.Code == 0) != (a.Phase == devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED) {
			t.Errorf("code %d with %v", a.Code, a.Phase)
		}
		phase := strings.TrimPrefix(a.Phase.String(), "COMMAND_PHASE_")
		return strings.TrimSpace(phase + " by " + m.Topic + " " + string(m.Payload) + " " + a.Message)
	}
	return "no answer"
}
