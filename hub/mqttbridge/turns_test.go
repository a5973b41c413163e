package mqttbridge

import (
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

const turning = `
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    profiles:
      - kind: tasmota
        devices: [{gear: tf, id: lamp}]
      - kind: shelly
        devices: [{gear: shelly1-A, id: shelly}]
      - kind: zigbee2mqtt
        devices: [{gear: bulb}]
`

// turner is a client that plays gear, and is told what gear is told.
type turner struct {
	mqtt.Client
	t    *testing.T
	told <-chan mqtt.Message
}

func newTurner(t *testing.T, r *rig, e mqtttest.Endpoint, device, commandTopic, aliveTopic, alive string) turner {
	c := e.Dial(t, "gear "+device)
	g := turner{c, t, mqtttest.Subscribe(t, c, commandTopic, 1)}
	g.say(aliveTopic, alive)
	eventually(t, device+" is online", func() bool { return r.live.Presence(device).Online })
	return g
}

func (g turner) say(topic, payload string) {
	g.t.Helper()
	mqtttest.Publish(g.t, g, topic, 0, false, payload)
}

func (g turner) wantTold() {
	g.t.Helper()
	mqtttest.Next(g.t, g.told)
}

func (g turner) wantNotTold(topic string) {
	g.t.Helper()
	g.say(topic, "end")
	if m := mqtttest.Next(g.t, g.told); string(m.Payload()) != "end" {
		g.t.Fatalf("the gear was told %s %q", m.Topic(), m.Payload())
	}
}

func (r *rig) order(id, device, name, args string, timeout, ttl time.Duration) {
	r.t.Helper()
	_, _, err := r.commands.Send(r.t.Context(), commands.Request{Key: id, Device: device, Spec: commands.Spec{
		Name: name, Payload: commands.Payload{JSON: args}, Timeout: timeout, TTL: ttl, Replay: commands.UntilDelivered}})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) wantState(id string, want commands.State) {
	r.t.Helper()
	eventually(r.t, id+" is "+want.String(), func() bool {
		c, _, err := r.commands.Get(r.t.Context(), id)
		return err == nil && c.State == want
	})
}

const (
	toggleTasmota = `{"state":"toggle"}`
	longer        = 3 * time.Minute // than the test waits
)

// Tasmota says each answer twice, as RESULT and as POWER: both halves are of
// one command.
func TestOneAnswerEndsOneCommand(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, _ := r.bridge(url, turning)
		up(t, b)
		g := newTurner(t, r, e, "lamp", "cmnd/tf/POWER", "tele/tf/LWT", "Online")
		pair := func(state string) { g.say("stat/tf/RESULT", `{"POWER":"`+state+`"}`); g.say("stat/tf/POWER", state) }

		// The gear does the first of two and then no more.
		r.order("first", "lamp", "power", toggleTasmota, longer, 0)
		r.order("second", "lamp", "power", toggleTasmota, time.Second, 0)
		g.wantTold()
		g.wantNotTold("cmnd/tf/POWER")
		pair("ON")
		r.wantEnd("first", commands.Succeeded, "")
		g.wantTold()
		g.say("stat/tf/POWER", "ON")
		r.wantEnd("second", commands.TimedOut, "did not answer within 1s")

		// The first of two is lost on the way.
		r.order("lost", "lamp", "power", `{"state":"on"}`, time.Second, 0)
		r.order("done", "lamp", "power", `{"state":"on"}`, longer, 0)
		g.wantTold()
		r.wantEnd("lost", commands.TimedOut, "did not answer within 1s")
		g.wantTold()
		pair("ON")
		r.wantEnd("done", commands.Succeeded, "")
		r.wantEnd("lost", commands.TimedOut, "")
	})
}

// Two toggles in a row: what answers the second depends on what the first has
// done.
func TestTogglesInARow(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, _ := r.bridge(url, turning)
		up(t, b)
		for _, k := range []struct{ device, told, state, off, on, name, args string }{
			{"shelly", "shellies/shelly1-A/relay/0/command", "shellies/shelly1-A/relay/0", "off", "on", "relay", `{"turn":"toggle"}`},
			{"bulb", "zigbee2mqtt/bulb/set", "zigbee2mqtt/bulb", `{"state":"OFF"}`, `{"state":"ON"}`, "set", `{"state":"TOGGLE"}`},
		} {
			g := newTurner(t, r, e, k.device, k.told, k.state, k.off)
			r.order(k.device+"-1", k.device, k.name, k.args, longer, 0)
			r.order(k.device+"-2", k.device, k.name, k.args, longer, 0)
			r.order(k.device+"-3", k.device, k.name, k.args, longer, 0)
			r.order(k.device+"-4", k.device, k.name, k.args, time.Second, 0)
			for i, state := range []string{k.on, k.off, k.on} {
				g.wantTold()
				g.wantNotTold(k.told)
				g.say(k.state, state)
				r.wantEnd(k.device+"-"+string(rune('1'+i)), commands.Succeeded, "")
			}
			// What it was before does not say that it was toggled.
			g.wantTold()
			g.say(k.state, k.on)
			r.wantEnd(k.device+"-4", commands.TimedOut, "did not answer within 1s")
		}
	})
}

// An answer that comes after its command's time is that command's, not the
// next one's.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, _ := r.bridge(url, turning)
		br := b.brokers[0]
		br.mu.Lock()
		br.lateTime = longer
		br.mu.Unlock()
		up(t, b)
		g := newTurner(t, r, e, "lamp", "cmnd/tf/POWER", "tele/tf/LWT", "Online")
		r.order("slow", "lamp", "power", toggleTasmota, 500*time.Millisecond, 0)
		g.wantTold()
		r.wantEnd("slow", commands.TimedOut, "did not answer within 500ms")
		r.order("next", "lamp", "power", toggleTasmota, longer, 0)
		r.order("never", "lamp", "power", toggleTasmota, longer, commands.MinTTL)
		r.wantEnd("never", commands.Expired, "it was never sent")
		g.wantNotTold("cmnd/tf/POWER")
		g.say("stat/tf/RESULT", `{"POWER":"ON"}`)
		g.say("stat/tf/POWER", "ON")
		r.wantState("slow", commands.Succeeded)
		g.wantTold()
		if c, _, err := r.commands.Get(t.Context(), "next"); err != nil || c.State != commands.Sent {
			t.Fatalf("%s, %v", c.State, err)
		}
		g.say("stat/tf/RESULT", `{"POWER":"OFF"}`)
		r.wantEnd("next", commands.Succeeded, "")
		g.wantNotTold("cmnd/tf/POWER")
	})
}

// A command whose turn has not come is canceled without being published.
func TestCancelWhatWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, turning)
	up(t, b)
	g := newTurner(t, r, broker.Endpoint, "lamp", "cmnd/tf/POWER", "tele/tf/LWT", "Online")
	r.order("first", "lamp", "power", toggleTasmota, longer, 0)
	r.order("second", "lamp", "power", toggleTasmota, longer, 0)
	g.wantTold()
	if _, err := r.commands.Cancel(t.Context(), "second", "ann"); err != nil {
		t.Fatal(err)
	}
	r.wantEnd("second", commands.Canceled, "")
	g.say("stat/tf/RESULT", `{"POWER":"ON"}`)
	r.wantEnd("first", commands.Succeeded, "")
	g.wantNotTold("cmnd/tf/POWER")
}

// While the broker is away a command is QUEUED, and its end says that it was
// never sent.
func TestCommandWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, turning)
	up(t, b)
	newTurner(t, r, broker.Endpoint, "lamp", "cmnd/tf/POWER", "tele/tf/LWT", "Online")
	broker.Stop(t)
	eventually(t, "the broker is missed", func() bool { return !b.Brokers()[0].Connected })
	r.order("away", "lamp", "power", toggleTasmota, longer, commands.MinTTL)
	r.wantEnd("away", commands.Expired, "it was never sent")
	c, story, err := r.commands.Get(t.Context(), "away")
	if err != nil || c.Attempts != 0 {
		t.Fatalf("%d attempts, %v", c.Attempts, err)
	}
	for _, s := range story {
		if s.State == commands.Sent {
			t.Errorf("%+v", s)
		}
	}
}
