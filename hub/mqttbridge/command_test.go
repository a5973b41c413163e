package mqttbridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

const commanded = `
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    profiles:
      - kind: raw
        settings:
          topic: "s/{gear}/{field}"
          type: text
          commands:
            - name: set
              args: [{name: to, type: text}]
              topic: "c/{gear}/set"
              payload: "{arg.to}"
              answer: {topic: "s/{gear}/state", equals: "{arg.to}", failed: {equals: "error"}}
            - name: shout
              topic: "c/{gear}/shout"
              payload: "hey"
        silence: 0s
        devices: [{gear: lamp}]
`

// lamp is gear that keeps a ledger of what it was told.
type lamp struct {
	mqtt.Client
	told <-chan mqtt.Message
}

func newLamp(t testing.TB, broker *mqtttest.Broker) *lamp {
	c := broker.Dial(t, "lamp")
	return &lamp{c, mqtttest.Subscribe(t, c, "c/lamp/#", 1)}
}

// alive has the hub find the lamp online.
func (l *lamp) alive(t testing.TB, r *rig) {
	t.Helper()
	mqtttest.Publish(t, l, "s/lamp/alive", 1, false, "yes")
	eventually(t, "the lamp is online", func() bool { return r.live.Presence("lamp").Online })
}

// wantNoneKept fails where the broker keeps a command: somebody who subscribes
// later would be told it again. Nobody sees that who was there before (MQTT
// 3.1.1, section 3.3.1.3).
func (l *lamp) wantNoneKept(t testing.TB, broker *mqtttest.Broker) {
	t.Helper()
	late := broker.Dial(t, "late")
	defer late.Disconnect(0)
	told := mqtttest.Subscribe(t, late, "c/#", 1)
	mqtttest.Publish(t, l, "c/other", 1, false, "end")
	if m := mqtttest.Next(t, told); m.Topic() != "c/other" {
		t.Fatalf("the broker keeps %s %q", m.Topic(), m.Payload())
	}
}

func (l *lamp) wantTold(t testing.TB, payload string) {
	t.Helper()
	if m := mqtttest.Next(t, l.told); string(m.Payload()) != payload {
		t.Fatalf("told %s %q, want %q", m.Topic(), m.Payload(), payload)
	}
}

func (l *lamp) wantNothing(t testing.TB) {
	t.Helper()
	// What the lamp says now comes back after everything that it was told.
	mqtttest.Publish(t, l, "c/lamp/end", 1, false, "end")
	if m := mqtttest.Next(t, l.told); m.Topic() != "c/lamp/end" {
		t.Fatalf("the lamp was told %s %q", m.Topic(), m.Payload())
	}
}

func (r *rig) send(id, name, args string, timeout time.Duration, replay commands.Replay) {
	r.t.Helper()
	_, _, err := r.commands.Send(r.t.Context(), commands.Request{
		Key: id, Device: "lamp", Spec: commands.Spec{Name: name, Payload: commands.Payload{JSON: args}, Timeout: timeout, Replay: replay},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// wantEnd waits for the end of a command.
func (r *rig) wantEnd(id string, want commands.State, reason string) {
	r.t.Helper()
	var c commands.Command
	eventually(r.t, fmt.Sprintf("command %s is %s", id, want), func() bool {
		var err error
		if c, _, err = r.commands.Get(r.t.Context(), id); err != nil {
			r.t.Fatal(err)
		}
		return c.State.Ended()
	})
	if c.State != want || !strings.Contains(c.Reason+" "+c.Message, reason) {
		r.t.Fatalf("command %s: %s, %q, %q; want %s with %q", id, c.State, c.Reason, c.Message, want, reason)
	}
}

func TestCommandsToGear(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, stop := r.bridge(broker.URL, commanded)
	up(t, b)
	l := newLamp(t, broker)
	eventually(t, "the lamp is a device", func() bool { _, ok := r.registry.Get("lamp"); return ok })

	// Waits until the lamp is there.
	r.send("early", "set", `{"to":"dim"}`, longer, commands.UntilDelivered)
	l.wantNothing(t)
	l.alive(t, r)
	m := mqtttest.Next(t, l.told)
	if m.Topic() != "c/lamp/set" || string(m.Payload()) != "dim" || m.Qos() != 0 || m.Retained() {
		t.Fatalf("told %s %q, QoS %d, retained %v", m.Topic(), m.Payload(), m.Qos(), m.Retained())
	}
	l.wantNoneKept(t, broker)
	mqtttest.Publish(t, l, "s/lamp/state", 0, false, "dim")
	r.wantEnd("early", commands.Succeeded, "")
	r.wantStored("lamp", `raw alive="yes"`, `raw state="dim"`) // an answer is a reading all the same

	// Several that wait for the same message go out one after the other.
	for _, c := range []struct{ id, to string }{{"a", "red"}, {"b", "blue"}, {"c", "blue"}} {
		r.send(c.id, "set", fmt.Sprintf(`{"to":%q}`, c.to), 2*time.Minute, commands.Once)
	}
	l.wantTold(t, "red")
	l.wantNothing(t)
	mqtttest.Publish(t, l, "s/lamp/state", 0, false, "blue")
	mqtttest.Publish(t, l, "s/lamp/state", 0, false, "error")
	r.wantEnd("a", commands.Failed, "")
	for _, id := range []string{"b", "c"} {
		l.wantTold(t, "blue")
		l.wantNothing(t)
		mqtttest.Publish(t, l, "s/lamp/state", 0, false, "blue")
		r.wantEnd(id, commands.Succeeded, "")
	}

	// No answer, in time or at all.
	r.send("mute", "set", `{"to":"on"}`, 300*time.Millisecond, commands.UntilDelivered)
	r.wantEnd("mute", commands.TimedOut, "published to the broker on c/lamp/set, but the gear did not answer within 300ms; whether it acted is not known")
	r.send("shout", "shout", "", 10*time.Second, commands.UntilDelivered)
	r.wantEnd("shout", commands.TimedOut, "on c/lamp/shout; this gear gives no answer, so whether it acted is not known")
	for range 2 {
		mqtttest.Next(t, l.told)
	}

	// Refused: nothing is published.
	r.send("unknown", "explode", "", 10*time.Second, commands.UntilDelivered)
	r.wantEnd("unknown", commands.Rejected, "explode")
	r.send("wrong", "set", `{"to":7}`, 10*time.Second, commands.UntilDelivered)
	r.wantEnd("wrong", commands.Rejected, "to")
	l.wantNothing(t)

	// Published, and then asked to be canceled: it cannot be recalled.
	r.send("regret", "set", `{"to":"off"}`, 5*time.Second, commands.UntilDelivered)
	mqtttest.Next(t, l.told)
	if _, err := r.commands.Cancel(t.Context(), "regret", "ann"); err != nil {
		t.Fatal(err)
	}
	r.wantEnd("regret", commands.TimedOut, "could not be confirmed")
	l.wantNothing(t)

	// The bridge ends while a command waits: it is not published again, by
	// whatever is started afterwards, and its end is known.
	r.send("torn", "set", `{"to":"on"}`, 2*time.Second, commands.UntilDelivered)
	mqtttest.Next(t, l.told)
	stop()
	b, _ = r.bridge(broker.URL, commanded)
	up(t, b)
	l.alive(t, r)
	r.wantEnd("torn", commands.TimedOut, "not published again")
	_, story, err := r.commands.Get(t.Context(), "torn")
	var told []string
	for _, e := range story {
		told = append(told, e.Reason)
	}
	if text := strings.Join(told, "\n"); err != nil || !strings.Contains(text, "given to the bridge, which publishes it") ||
		strings.Contains(text, "attempt") || strings.Contains(text, "sent to the device") {
		t.Errorf("%s, %v", text, err)
	}
	l.wantNothing(t)
}

// A command for gear of a broker that has gone for a moment is published when
// it is back, once.
func TestCommandsWaitForTheBroker(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, commanded)
	up(t, b)
	l := newLamp(t, broker)
	l.alive(t, r)
	broker.Stop(t)
	eventually(t, "the broker is missed", func() bool { return !b.Brokers()[0].Connected })
	r.send("wait", "set", `{"to":"on"}`, longer, commands.UntilDelivered)
	r.send("never", "set", `{"to":"off"}`, longer, commands.UntilDelivered)
	if _, err := r.commands.Cancel(t.Context(), "never", "ann"); err != nil {
		t.Fatal(err)
	}
	r.wantEnd("never", commands.Canceled, "")
	broker.Start(t)
	l = newLamp(t, broker)
	up(t, b)
	l.alive(t, r)
	br := b.brokers[0]
	eventually(t, "the command is published", func() bool {
		br.mu.Lock()
		defer br.mu.Unlock()
		w := br.profiles[0].waiting
		return len(w) == 1 && !w[0].deadline.IsZero()
	})
	mqtttest.Publish(t, l, "s/lamp/state", 0, false, "on")
	r.wantEnd("wait", commands.Succeeded, "")
	// Either the bridge has published it as soon as it was back, before the
	// lamp was: then the lamp has missed it, and nobody repeats it; or after.
	mqtttest.Publish(t, l, "c/lamp/end", 1, false, "end")
	m := mqtttest.Next(t, l.told)
	if string(m.Payload()) == "on" {
		m = mqtttest.Next(t, l.told)
	}
	if m.Topic() != "c/lamp/end" {
		t.Fatalf("told %s %q", m.Topic(), m.Payload())
	}
}
