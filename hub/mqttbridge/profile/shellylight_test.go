package profile

import (
	"encoding/json"
	"testing"
)

func TestShellyLights(t *testing.T) {
	p := testShelly()
	take(t, p, text("shellies/dim/online", "true"))
	command := func(name string, args map[string]any) (Plan, error) {
		return p.Command("dim", Command{Name: name, Args: args})
	}
	const status = "shellies/dim/light/0/status"
	for _, c := range []struct {
		args          map[string]any
		told          string
		right, wrong1 string
	}{
		{map[string]any{"brightness": json.Number("50")}, `{"brightness":50}`, `{"ison":false,"brightness":50}`, `{"ison":true,"brightness":51}`},
		{map[string]any{"brightness": json.Number("0"), "turn": "off"}, `{"turn":"off","brightness":0}`, `{"ison":false,"brightness":0}`, `{"ison":true,"brightness":0}`},
		{map[string]any{"brightness": json.Number("7"), "turn": "on"}, `{"turn":"on","brightness":7}`, `{"ison":true,"brightness":7}`, `{"brightness":7}`},
	} {
		plan, err := command("light", c.args)
		if err != nil || len(plan.Publish) != 1 || plan.Publish[0].Topic != "shellies/dim/light/0/set" || string(plan.Publish[0].Payload) != c.told {
			t.Fatalf("%v: %+v, %v", c.args, plan.Publish, err)
		}
		if _, ok := plan.Match(text(status, c.right)); !ok {
			t.Errorf("%v: %s is no answer", c.args, c.right)
		}
		for _, m := range []Message{text(status, c.wrong1), text(status, "{}"), text(status, "x"), kept(status, c.right), text("shellies/dim/light/1/status", c.right)} {
			if _, ok := plan.Match(m); ok {
				t.Errorf("%v: %s %s is an answer", c.args, m.Topic, m.Payload)
			}
		}
		if turn, err := command("light", map[string]any{"turn": "on"}); err != nil || turn.Turn != plan.Turn {
			t.Errorf("switching has the turn %q, %v, dimming %q", turn.Turn, err, plan.Turn)
		}
	}
	if plan, err := command("color", map[string]any{"turn": "toggle"}); err != nil || plan.Publish[0].Topic != "shellies/dim/color/0/command" {
		t.Errorf("%+v, %v", plan.Publish, err)
	}
	if plan, err := command("white", map[string]any{"channel": json.Number("3"), "brightness": json.Number("100")}); err != nil || plan.Publish[0].Topic != "shellies/dim/white/3/set" {
		t.Errorf("%+v, %v", plan.Publish, err)
	}
	for _, bad := range []map[string]any{
		{"brightness": json.Number("101")}, {"brightness": json.Number("-1")}, {"brightness": json.Number("1.5")}, {"brightness": "50"}, {"brightness": nil},
		{"brightness": json.Number("5"), "turn": "toggle"}, {"brightness": json.Number("5"), "red": json.Number("5")}, {},
	} {
		if _, err := command("light", bad); ReasonOf(err) != "bad argument" {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := command("relay", map[string]any{"turn": "on", "brightness": json.Number("5")}); ReasonOf(err) != "bad argument" {
		t.Errorf("a relay is dimmed: %v", err)
	}
	refused(t, p, text(status, "on"), "not JSON")
	refused(t, p, text(status, "5"), "not the JSON expected")
}
