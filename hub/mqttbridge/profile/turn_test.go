package profile

import "testing"

// Commands whose answers could be taken for each other's share a turn; those
// that are named by their answers have none.
func TestTurns(t *testing.T) {
	raw := configured(t, "raw", `
topic: "s/{gear}/{field}"
type: text
commands:
  - {name: on, topic: "c/{gear}", payload: "1", answer: {topic: "s/{gear}/state", equals: "1"}}
  - {name: off, topic: "c/{gear}", payload: "0", answer: {topic: "s/{gear}/state", equals: "0"}}
  - {name: dim, topic: "c/{gear}", payload: "5", answer: {topic: "s/{gear}/level", equals: "5"}}
  - {name: named, topic: "c/{gear}", payload: "{id}", answer: {topic: "s/{gear}/reply", fields: {id: "{id}"}}}
  - {name: own, topic: "c/{gear}", payload: "{id}", answer: {topic: "s/{gear}/{id}"}}
  - {name: half, topic: "c/{gear}", payload: "{id}", answer: {topic: "s/{gear}/reply", fields: {id: "{id}"}, failed: {equals: "no"}}}
`)
	plan := func(p Profile, gear, name, args string) Plan {
		t.Helper()
		published, plan := told(t, p, gear, name, args)
		if plan.Publish == nil {
			t.Fatal(published)
		}
		return plan
	}
	on, off, dim := plan(raw, "a", "on", `{}`), plan(raw, "a", "off", `{}`), plan(raw, "a", "dim", `{}`)
	if on.Named || on.Turn == "" || on.Turn != off.Turn || on.Turn == dim.Turn || on.Turn == plan(raw, "b", "on", `{}`).Turn {
		t.Errorf("%q %q %q", on.Turn, off.Turn, dim.Turn)
	}
	for name, named := range map[string]bool{"named": true, "own": true, "half": false} {
		if plan(raw, "a", name, `{}`).Named != named {
			t.Errorf("%s: named %v", name, !named)
		}
	}

	plug := configured(t, "tasmota", "")
	if a, b := plan(plug, "p", "power", `{"state":"on"}`), plan(plug, "p", "command", `{"command":"Backlog","payload":"Power on"}`); a.Named || a.Turn != b.Turn {
		t.Errorf("%+v, %+v", a, b)
	}
	shelly := configured(t, "shelly", "")
	take(t, shelly, text("shellies/shelly1-A/relay/0", "off"))
	if a, b := plan(shelly, "shelly1-A", "relay", `{"turn":"on"}`), plan(shelly, "shelly1-A", "relay", `{"turn":"on","channel":1}`); a.Named || a.Turn == b.Turn {
		t.Errorf("%q, %q", a.Turn, b.Turn)
	}
	// A toggle waits for the other state than the gear has when it is planned.
	for _, k := range []struct{ state, want string }{{"on", "SUCCEEDED by shellies/shelly1-A/relay/0 off"}, {"off", "no answer"}} {
		take(t, shelly, text("shellies/shelly1-A/relay/0", k.state))
		if got := answered(t, plan(shelly, "shelly1-A", "relay", `{"turn":"toggle"}`), text("shellies/shelly1-A/relay/0", "off")); got != k.want {
			t.Error(got)
		}
	}
}

// Discovery may name any topic; a command goes to none that other gear names.
func TestHomeassistantCommandTopicOfOtherGear(t *testing.T) {
	p := configured(t, "homeassistant", `state-filters: ["esp/#"]`)
	config := func(gear string) Message {
		return text("homeassistant/switch/"+gear+"/r/config", `{"stat_t":"esp/`+gear+`/r","cmd_t":"esp/victim/r/set"}`)
	}
	take(t, p, config("victim"))
	if published, _ := told(t, p, "victim", "set", `{"value":true}`); published != "esp/victim/r/set ON" {
		t.Error(published)
	}
	take(t, p, config("evil"))
	for _, gear := range []string{"victim", "evil"} {
		if published, _ := told(t, p, gear, "set", `{"value":true}`); published != "refused: claimed twice" {
			t.Errorf("%s: %s", gear, published)
		}
	}
	take(t, p, text("homeassistant/switch/evil/r/config", ""))
	if published, _ := told(t, p, "victim", "set", `{"value":true}`); published != "esp/victim/r/set ON" {
		t.Error(published)
	}
}
