package profile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

func testShelly(topics ...string) *shelly {
	return must(newShelly(shellySettings{Topics: topics, ReplyTo: shellyReplyTo}))
}

// withoutDescriptions leaves out what would be told again and again.
func withoutDescriptions(story string) string {
	var b strings.Builder
	for line := range strings.Lines(story) {
		if !strings.Contains(line, " describes ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestShellyExamplesOfTheDocumentation(t *testing.T) {
	got := story(t, testShelly(), samples(t, "shelly/gen1.txt")...)
	wantStory(t, withoutDescriptions(got), `
shellyplug-s-C18B12 online
shellyplug-s-C18B12 firmware 20230913-113421/v1.14.0-gcb84623
shellyplug-s-C18B12: relay_0=bool:true
shellyplug-s-C18B12: relay_0_power=double:61.21
shellyplug-s-C18B12: relay_0_energy=double:1204
shellyplug-s-C18B12: temperature=double:27.52
shellyplug-s-C18B12: temperature_f=double:81.54
shellyplug-s-C18B12: overtemperature=bool:false
shellyplug-s-C18B12: wifi_rssi=double:-58 uptime=double:106854 ram_free=double:39584
shellyplug-s-C18B12 firmware 20230913-113421/v1.14.0-gcb84623
shelly1-B929CC: input_0=double:1
shelly1-B929CC: input_event_0=string:S input_event_0_count=double:2
shelly1-B929CC: relay_0=bool:false relay_0_overpower=bool:true
shellyem-B9E4A1: emeter_0_power=double:-120.5
shellyem-B9E4A1: emeter_0_total_returned=double:9311.5
shellyht-F3A1B2: sensor_temperature=double:22.25
shellyht-F3A1B2: sensor_battery=double:100
shellyflood-A1B2C3: sensor_flood=bool:false
shellydimmer2-C8C9A3708E3A: light_0=bool:false
shellydimmer2-C8C9A3708E3A: light_0_power=double:0
shellydimmer2-C8C9A3708E3A: light_0_ison=bool:false light_0_source=string:mqtt light_0_has_timer=bool:false light_0_timer_started=double:0 light_0_timer_duration=double:0 light_0_timer_remaining=double:0 light_0_mode=string:white light_0_brightness=double:100 light_0_transition=double:0
shellyrgbw2-11ABD9: color_0_ison=bool:true color_0_red=double:34 color_0_green=double:34 color_0_blue=double:34 color_0_white=double:34 color_0_gain=double:5 color_0_effect=double:0 color_0_power=double:0 color_0_overpower=bool:false
shellyrgbw2-2B8361: white_1_ison=bool:true white_1_mode=string:white white_1_brightness=double:33 white_1_power=double:1.2 white_1_overpower=bool:false
shelly1-B929CC: sensor_ext_temperatures_0_hwID=string:28ce46aa3c2001ba sensor_ext_temperatures_0_tC=double:20.75 sensor_ext_temperatures_0_tF=double:69.35 sensor_ext_temperatures_1_hwID=string:28d7d9bbcc20010d sensor_ext_temperatures_1_tC=double:21 sensor_ext_temperatures_1_tF=double:69.8
shellyplug-s-C18B12 offline last will
`)
	const plug = "describes relay_0[]bool relay_0_power[W]double relay_0_energy[W.min]double temperature[Cel]double relay() announce()\n"
	if !strings.Contains(got, plug) {
		t.Errorf("not there: %s in\n%s", plug, got)
	}
	for _, want := range []string{"light_0_power[W]double", "light_0_brightness[%]double", "sensor_ext_temperatures_1_tC[Cel]double", "light() announce()", "white() announce()", "color() announce()"} {
		if !strings.Contains(got, want) {
			t.Errorf("not there: %s in\n%s", want, got)
		}
	}

	p := testShelly()
	old := samples(t, "shelly/gen2.txt")
	for i := range old {
		old[i].Received = time.Unix(1631266600, 0)
	}
	got = story(t, p, old...)
	wantStory(t, withoutDescriptions(got), `
shellypro4pm-f008d1d8b8b8 online
shellypro4pm-f008d1d8b8b8: switch_0_output=bool:true switch_0_source=string:button
shellypro4pm-f008d1d8b8b8: cloud_connected=bool:false
shellypro4pm-f008d1d8b8b8: input_0_event=string:single_push
shellyplus1pm-a8032abe54dc: switch_0_source=string:WS_in switch_0_output=bool:false switch_0_apower=double:8.9 switch_0_voltage=double:237.5 switch_0_aenergy_total=double:6.532 switch_0_temperature_tC=double:23.5 switch_0_temperature_tF=double:74.4
`)
	for _, unit := range []string{"switch_0_apower[W]double", "switch_0_aenergy_total[W.h]double", "switch_0_temperature_tC[Cel]double", "rpc() relay()"} {
		if !strings.Contains(got, unit) {
			t.Errorf("not there: %s in\n%s", unit, got)
		}
	}
	r := one(t, take(t, p, old[1]))
	if r.Rows[0].Time != 1631186545_040000000 {
		t.Errorf("the time is %d, want that of ts", r.Rows[0].Time)
	}
	for _, file := range []string{"shelly/gen1.txt", "shelly/gen2.txt"} {
		for _, m := range samples(t, file) {
			if settings, ok := shellyKind().Recognise(m); m.Topic != "shellies/announce" && (!ok || settings != nil) {
				t.Errorf("%s is recognised %v with %v", m.Topic, ok, settings)
			}
		}
	}
}

func TestShellyTakesOnlyItsOwn(t *testing.T) {
	p := testShelly()
	for _, m := range []Message{
		text("shellies/announce", `{"id":"shellyplug-s-C18B12"}`), text("shellies/command", "announce"),
		text("shellies/a/relay/0/command", "on"), text("shellies/a/command", "announce"), text("shellies/a/light/0/set", "{}"),
		text("zigbee/online", "true"), text("plug/status/switch:0", "{}"), text(shellyReplyTo+"/rpc", `{"id":"1"}`),
	} {
		if reports := take(t, p, m); len(reports) > 0 {
			t.Errorf("%s is of gear: %+v", m.Topic, reports)
		}
	}
	for topic, reason := range map[string]string{
		"shellies/a/relay/0": "wrong type", "shellies/a/temperature": "wrong type", "shellies/a/online": "unknown presence",
		"shellies/a/sensor/flood": "wrong type", "shellies/a/info": "not JSON", "shellies/a/input_event/0": "not JSON",
		"shellyplus1-x/events/rpc": "not JSON", "shellyplus1-x/status/switch:0": "not JSON",
		"shellies/" + strings.Repeat("a", 129) + "/online": "gear name too long",
	} {
		refused(t, p, text(topic, "n/a"), reason)
	}
	refused(t, p, text("shellies/a/info", strings.Repeat("[", 50)+strings.Repeat("]", 50)), "too deep")
	if r := one(t, take(t, p, text("shellies/a/unheard/of", "5"))); len(r.Rows) > 0 || r.NotAlive {
		t.Errorf("an unknown topic: %+v", r)
	}
	// What the broker has kept is no reading.
	if r := one(t, take(t, p, kept("shellies/a/temperature", "21"))); len(r.Rows) > 0 || !r.NotAlive {
		t.Errorf("a retained reading: %+v", r)
	}
	// Gear of one generation cannot be spoken for by topics of the other.
	take(t, p, text("shellies/shelly1-A/online", "true"))
	refused(t, p, text("shelly1-A/online", "false"), "two generations")
	// Own topic prefixes.
	p = testShelly("home/+/plug", "shellies/kitchen")
	wantStory(t, withoutDescriptions(story(t, p, text("home/attic/plug/online", "true"), text("shellies/kitchen/status/temperature:0", `{"id":0,"tC":21}`))), `
home/attic/plug online
shellies/kitchen: temperature_0_tC=double:21
`)
	// A clock that is not set.
	r := one(t, take(t, p, text("home/attic/plug/events/rpc", `{"method":"NotifyStatus","params":{"ts":12.5,"switch:0":{"output":true}}}`)))
	if len(r.Rows) != 1 || r.Rows[0].Time != 0 || r.Problem == "" {
		t.Errorf("ts of 1970: %+v", r)
	}
}

func TestShellyMemoryIsBounded(t *testing.T) {
	p := testShelly()
	for i := range MaxGear {
		take(t, p, text(fmt.Sprintf("shellies/s%d/online", i), "true"))
	}
	refused(t, p, text("shellies/more/online", "true"), "too much gear")
	for i := range 3 * telemetry.MaxFields {
		take(t, p, text(fmt.Sprintf("shellies/s1/relay/%d", i), "on"))
	}
	if d := p.devices["s1"]; len(d.fields) != telemetry.MaxFields || len(d.relays) != maxShellyRelays {
		t.Errorf("%d fields and %d relays are remembered", len(d.fields), len(d.relays))
	}
}

func TestShellyCommandsOfGeneration1(t *testing.T) {
	p := testShelly()
	take(t, p, text("shellies/plug/relay/0", "off"))
	turn := func(args map[string]any) (Plan, error) {
		return p.Command("plug", Command{ID: "1", Name: "relay", Args: args})
	}
	plan, err := turn(map[string]any{"turn": "on"})
	if err != nil || len(plan.Publish) != 1 || plan.Publish[0].Topic != "shellies/plug/relay/0/command" || string(plan.Publish[0].Payload) != "on" {
		t.Fatalf("%+v %v", plan, err)
	}
	for _, m := range []Message{kept("shellies/plug/relay/0", "on"), text("shellies/plug/relay/0", "off"), text("shellies/plug/relay/1", "on"),
		text("shellies/plug/relay/0/command", "on"), text("shellies/other/relay/0", "on")} {
		if _, ok := plan.Match(m); ok {
			t.Errorf("%s %s is taken for the answer", m.Topic, m.Payload)
		}
	}
	if a, ok := plan.Match(text("shellies/plug/relay/0", "on")); !ok || a.Phase != devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED || string(a.Result) != `{"state":"on"}` {
		t.Errorf("%+v %v", a, ok)
	}
	if a, ok := plan.Match(text("shellies/plug/relay/0", "overpower")); !ok || a.Phase != devicev1.CommandPhase_COMMAND_PHASE_FAILED || a.Code != 9 {
		t.Errorf("%+v %v", a, ok)
	}
	// What it tells every 30 s is no answer to a toggle.
	plan, err = turn(map[string]any{"turn": "toggle", "channel": json.Number("0")})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := plan.Match(text("shellies/plug/relay/0", "off")); ok {
		t.Error("the state from before is taken for the answer to a toggle")
	}
	if _, ok := plan.Match(text("shellies/plug/relay/0", "on")); !ok {
		t.Error("the other state is no answer to a toggle")
	}
	plan, err = p.Command("plug", Command{Name: "roller", Args: map[string]any{"go": "to_pos", "position": json.Number("40")}})
	if err != nil || plan.Publish[0].Topic != "shellies/plug/roller/0/command/pos" || string(plan.Publish[0].Payload) != "40" {
		t.Errorf("%+v %v", plan, err)
	}
	if _, ok := plan.Match(text("shellies/plug/roller/0/pos", "40")); !ok {
		t.Error("the position is no answer")
	}
	plan, err = p.Command("plug", Command{Name: "announce", Args: map[string]any{}})
	if err != nil || plan.Publish[0].Topic != "shellies/plug/command" {
		t.Errorf("%+v %v", plan, err)
	}
	if a, ok := plan.Match(text("shellies/plug/announce", `{"id":"plug"}`)); !ok || string(a.Result) != `{"id":"plug"}` {
		t.Errorf("%+v %v", a, ok)
	}
	for _, args := range []map[string]any{{}, {"turn": "up"}, {"turn": true}, {"turn": "on", "channel": "0/../x"},
		{"turn": "on", "channel": json.Number("-1")}, {"turn": "on", "channel": json.Number("1.5")}, {"turn": "on", "more": 1}} {
		if plan, err := turn(args); ReasonOf(err) != "bad argument" || plan.Publish != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := p.Command("nobody", Command{Name: "relay", Args: map[string]any{"turn": "on"}}); ReasonOf(err) != "not heard yet" {
		t.Errorf("gear that was not heard: %v", err)
	}
	if _, err := p.Command("plug", Command{Name: "rpc", Args: map[string]any{}}); ReasonOf(err) != "unknown command" {
		t.Errorf("rpc of generation 1: %v", err)
	}
}

func TestShellyRPC(t *testing.T) {
	p := testShelly()
	take(t, p, text("shellyplus1-a8/online", "true"))
	call := func(name string, args map[string]any) Plan {
		t.Helper()
		plan, err := p.Command("shellyplus1-a8", Command{ID: "cmd-1", Name: name, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	plan := call("relay", map[string]any{"turn": "on"})
	if plan.Publish[0].Topic != "shellyplus1-a8/rpc" ||
		string(plan.Publish[0].Payload) != `{"id":"cmd-1","src":"tetherline-shelly","method":"Switch.Set","params":{"id":0,"on":true}}` {
		t.Errorf("published %s to %s", plan.Publish[0].Payload, plan.Publish[0].Topic)
	}
	plan = call("rpc", map[string]any{"method": "Switch.GetStatus", "params": map[string]any{"id": json.Number("0")}})
	const topic = "tetherline-shelly/rpc"
	for _, m := range []Message{
		text(topic, `{"id":"cmd-2","result":{}}`), text(topic, `{"id":1,"result":{}}`), text(topic, `{"result":{}}`), text(topic, `no`),
		text("other/rpc", `{"id":"cmd-1","result":{}}`), kept(topic, `{"id":"cmd-1","result":{}}`),
	} {
		if _, ok := plan.Match(m); ok {
			t.Errorf("%s %s is taken for the answer", m.Topic, m.Payload)
		}
	}
	// shelly-api-docs.shelly.cloud/gen2/General/RPCProtocol, "Response Frame".
	a, ok := plan.Match(text(topic, `{"id":"cmd-1","src":"shellyplus1-a8","dst":"tetherline-shelly","result":{"id":0,"source":"init","output":false}}`))
	if !ok || a.Phase != devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED || string(a.Result) != `{"id":0,"source":"init","output":false}` {
		t.Errorf("%+v %s %v", a, a.Result, ok)
	}
	a, ok = plan.Match(text(topic, `{"id":"cmd-1","src":"shellyplus1-a8","dst":"tetherline-shelly","error":{"code":-105,"message":"Argument 'id', value 7 not found!"}}`))
	if !ok || a.Phase != devicev1.CommandPhase_COMMAND_PHASE_FAILED || a.Code != 5 || a.Message != "-105: Argument 'id', value 7 not found!" {
		t.Errorf("%+v %v", a, ok)
	}
	for _, args := range []map[string]any{{}, {"method": json.Number("1")}, {"method": "A", "params": "x"}, {"method": "A", "id": "mine"}} {
		if _, err := p.Command("shellyplus1-a8", Command{Name: "rpc", Args: args}); ReasonOf(err) != "bad argument" {
			t.Errorf("%v: %v", args, err)
		}
	}
}
