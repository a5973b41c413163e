package firmwaresim_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/goccy/go-yaml"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/mqtttest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

const gearWait = 2 * time.Minute

// gearCase is one kind of simulated gear and what the hub's profile makes of
// it.
type gearCase struct {
	sim, kind string
	settings  string
	gear      string // that obeys
	all       []string
	fields    []string // of gear, at least
	noStatus  bool     // it tells nothing of its presence
	command   string
	args      string
	want      devicev1.CommandPhase // 0: SUCCEEDED
}

var gearCases = []gearCase{
	{sim: "tasmota", kind: "tasmota", gear: "tasmota-plug", command: "power", args: `{"state":"off"}`,
		fields: []string{"ENERGY_Power", "ENERGY_Voltage", "POWER"}},
	{sim: "zigbee2mqtt", kind: "zigbee2mqtt", gear: "zigbee-plug", all: []string{"bridge", "zigbee-plug"}, command: "set", args: `{"state":"OFF"}`,
		fields: []string{"power", "voltage", "state"}},
	{sim: "homie", kind: "homie", gear: "homie-lamp", command: "set", args: `{"node":"light","property":"level","value":30}`,
		fields: []string{"sensor_temperature", "light_level"}},
	{sim: "shelly1", kind: "shelly", gear: "shellyplug-s-C18B12", command: "relay", args: `{"turn":"toggle"}`,
		fields: []string{"relay_0", "relay_0_power", "relay_0_energy", "temperature"}},
	{sim: "shelly2", kind: "shelly", gear: "shellyplus1pm-a8032abe54dc", command: "relay", args: `{"turn":"off"}`,
		fields: []string{"switch_0_apower", "switch_0_output", "switch_0_aenergy_total"}},
	{sim: "shelly2", kind: "shelly", gear: "shellyplus1pm-a8032abe54dc", command: "rpc", args: `{"method":"Switch.Set","params":{"id":7,"on":true}}`,
		want: devicev1.CommandPhase_COMMAND_PHASE_FAILED},
	{sim: "homeassistant", kind: "homeassistant", settings: `{state-filters: ["esp/#"]}`, gear: "esp-attic", command: "set", args: `{"value":false}`,
		fields: []string{"temperature", "power", "relay"}},
	{sim: "sparkplug", kind: "sparkplug", gear: "plant/press/motor", all: []string{"plant/press", "plant/press/motor"},
		command: "write", args: `{"metric":"Setpoint","value":900}`, fields: []string{"Bearing_Temperature", "Speed", "Running", "Setpoint"}},
	{sim: "sparkplug", kind: "sparkplug", gear: "plant/press", all: []string{"plant/press", "plant/press/motor"},
		command: "rebirth", args: `{}`, fields: []string{"Supply_Voltage"}},
	{sim: "raw", kind: "raw", gear: "raw-sensor", command: "relay", args: `{"state":"off"}`, fields: []string{"temperature", "power", "relay"},
		settings: `
topic: sensors/{gear}/{field}
availability: {topic: "sensors/{gear}/status", online: online, offline: offline}
fields: [{field: relay, type: bool}]
commands:
  - name: relay
    topic: sensors/{gear}/relay/set
    payload: "{arg.state}"
    answer: {topic: "sensors/{gear}/relay", equals: "{arg.state}"}`},
	{sim: "json", kind: "json", gear: "json-sensor", command: "relay", args: `{"on":false}`, fields: []string{"temperature", "meter_power"},
		settings: `
topic: devices/{gear}/telemetry
time: {path: ts, format: unix_ms}
availability: {topic: "devices/{gear}/status", online: online, offline: offline}
commands:
  - name: relay
    topic: devices/{gear}/cmd
    payload: {id: "{id}", do: relay, "on": "{arg.on}"}
    answer: {topic: "devices/{gear}/reply", fields: {id: "{id}", ok: true}}`},
	{sim: "influx", kind: "influx", gear: "influx-sensor", noStatus: true, fields: []string{"power", "temperature"},
		settings: `{topic: "telegraf/{gear}"}`},
}

// Simulated gear is what the profiles of the hub, written from the same
// documents, take it for: its readings, presence and answers.
func TestGearIsAsTheProfilesKnowIt(t *testing.T) {
	for _, c := range gearCases {
		t.Run(c.sim+" "+c.command, c.run)
	}
}

func (c gearCase) run(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	kind, ok := profile.KindOf(c.kind)
	if !ok {
		t.Fatalf("no kind %s", c.kind)
	}
	p, err := kind.New(func(into any) error {
		if c.settings == "" {
			return nil
		}
		return yaml.UnmarshalWithOptions([]byte(c.settings), into, yaml.Strict())
	})
	if err != nil {
		t.Fatal(err)
	}
	client := broker.Dial(t, "listener", func(o *mqtt.ClientOptions) { o.SetOrderMatters(true) })
	defer client.Disconnect(100)
	var mu sync.Mutex
	var queue []profile.Message
	for _, f := range leastFilters(p.Filters()) {
		if err := mqtttest.Wait(t, client.Subscribe(f, 1, func(_ mqtt.Client, m mqtt.Message) {
			mu.Lock()
			defer mu.Unlock()
			queue = append(queue, profile.Message{Topic: m.Topic(), Payload: m.Payload(), Retained: m.Retained(), Received: time.Now()})
		})); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	type ending struct {
		summary firmwaresim.GearSummary
		err     error
	}
	ended := make(chan ending, 1)
	go func() {
		s, err := firmwaresim.RunGear(ctx, firmwaresim.GearConfig{Broker: broker.URL, Kind: c.sim, Interval: 50 * time.Millisecond, QoS: 1})
		ended <- ending{s, err}
	}()

	status, fields, seen := map[string]profile.Status{}, map[string]bool{}, map[string]bool{}
	var plan *profile.Plan
	var answer *profile.Answer
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(gearWait); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within %v; status %v, fields %v, gear %v", what, gearWait, status, slices.Sorted(maps.Keys(fields)), seen)
			}
			mu.Lock()
			work := queue
			queue = nil
			mu.Unlock()
			for _, m := range work {
				if plan != nil && plan.Match != nil && answer == nil {
					if a, ok := plan.Match(m); ok {
						answer = &a
					}
				}
				reports, err := p.Decode(m, nil)
				var early *profile.Early
				if err != nil && !(errors.As(err, &early) && early.Refusal == nil) { // what it is told is of no gear
					t.Errorf("%s %.200q: %v", m.Topic, m.Payload, err)
				}
				for _, r := range reports {
					if r.Problem != "" || len(r.Publish) > 0 {
						t.Errorf("%s: problem %q, to be published %v", m.Topic, r.Problem, r.Publish)
					}
					seen[r.Gear] = true
					if r.Status != profile.Unchanged {
						status[r.Gear] = r.Status
					}
					for _, row := range r.Rows {
						for _, f := range row.Fields {
							fields[r.Gear+" "+f.Name] = true
						}
					}
				}
			}
		}
	}
	until("readings", func() bool {
		for _, f := range c.fields {
			if f != "light_level" && f != "Setpoint" && f != "Running" && !fields[c.gear+" "+f] {
				return false
			}
		}
		return c.noStatus || status[c.gear] == profile.Online
	})
	if c.command != "" {
		args := map[string]any{}
		decoder := json.NewDecoder(strings.NewReader(c.args))
		decoder.UseNumber()
		if err := decoder.Decode(&args); err != nil {
			t.Fatal(err)
		}
		planned, err := p.Command(c.gear, profile.Command{ID: "0199-1", Name: c.command, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		plan = &planned
		for _, m := range planned.Publish {
			mqtttest.Publish(t, client, m.Topic, 0, false, m.Payload)
		}
		until("answer", func() bool { return answer != nil })
		want := c.want
		if want == 0 {
			want = devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED
		}
		if answer.Phase != want {
			t.Errorf("the answer is %+v, want %v", answer, want)
		}
		until("fields", func() bool {
			for _, f := range c.fields {
				if !fields[c.gear+" "+f] {
					return false
				}
			}
			return true
		})
	}
	stop()
	end := <-ended
	if end.err != nil {
		t.Fatal(end.err)
	}
	if !c.noStatus {
		until("goodbye", func() bool { return status[c.gear] == profile.Offline })
	}
	all := c.all
	if all == nil {
		all = []string{c.gear}
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, all) {
		t.Errorf("gear %v, want %v", got, all)
	}
	s := end.summary
	if s.Published == 0 || s.Acknowledged != s.Published || s.Readings[c.gear] == 0 {
		t.Errorf("summary %+v", s)
	}
	if failed := c.want != 0; c.command != "" && (s.Commands != 1 && !failed || s.Refused != 1 && failed) {
		t.Errorf("%d commands obeyed, %d refused", s.Commands, s.Refused)
	}
}

// leastFilters leaves out what other filters cover, that no message comes
// twice.
func leastFilters(filters []string) (least []string) {
	for i, f := range filters {
		covered := slices.ContainsFunc(filters, func(other string) bool {
			return other != f && profile.TopicMatches(other, strings.NewReplacer("+", "x", "#", "x/y").Replace(f))
		})
		if !covered && !slices.Contains(filters[:i], f) {
			least = append(least, f)
		}
	}
	return least
}

// The broker restarted, gear comes back by itself; a name that another has
// taken, and a wrong password, are told.
func TestGearComesBack(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	births := mqtttest.Subscribe(t, broker.Dial(t, "before"), "spBv1.0/plant/NBIRTH/+", 0) // before there are any: they are not retained
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan firmwaresim.GearSummary, 1)
	go func() {
		s, err := firmwaresim.RunGear(ctx, firmwaresim.GearConfig{Broker: broker.URL, Kind: "sparkplug", Count: 3, Interval: 20 * time.Millisecond, QoS: 1})
		if err != nil {
			t.Error(err)
		}
		ended <- s
	}()
	for range 3 {
		mqtttest.Next(t, births)
	}
	broker.Kill(t)
	broker.Start(t)
	births = mqtttest.Subscribe(t, broker.Dial(t, "after"), "spBv1.0/plant/+/+", 0)
	heard := map[string]bool{}
	for len(heard) < 3 {
		m := mqtttest.Next(t, births)
		heard[m.Topic()[strings.LastIndexByte(m.Topic(), '/')+1:]] = true
	}
	stop()
	if s := <-ended; s.Reconnects < 3 || len(s.Gear) != 3 { // a busy machine may break one more
		t.Errorf("summary %+v", s)
	}
	for _, c := range []firmwaresim.GearConfig{
		{Kind: "toaster", Broker: broker.URL}, {Kind: "raw", Broker: "127.0.0.1:1883"}, {Kind: "raw", Broker: broker.URL, Name: "a/b"},
		{Kind: "sparkplug", Broker: broker.URL, Name: "node"}, {Kind: "raw", Broker: broker.URL, Interval: time.Millisecond},
		{Kind: "raw", Broker: broker.URL, Count: firmwaresim.MaxGear + 1}, {Kind: "raw", Broker: broker.URL, QoS: 2},
	} {
		if _, err := firmwaresim.RunGear(t.Context(), c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	guarded := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{Users: map[string]string{"gear": "right"}})
	_, err := firmwaresim.RunGear(t.Context(), firmwaresim.GearConfig{Kind: "raw", Broker: guarded.URL, User: "gear", Password: "wrong"})
	if err == nil {
		t.Error("a wrong password is no error")
	}
}
