package mqttbridge

import (
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// silentGear has gear of each kind of presence beside the lamp of commanded.
const silentGear = commanded + `
      - kind: raw
        name: announced
        settings: {topic: "a/{gear}/{field}", availability: {topic: "a/{gear}"}}
        silence: 0s
        auto-allow: ["*"]
      - kind: raw
        name: quick
        settings: {topic: "q/{gear}/{field}"}
        silence: 1s
        auto-allow: ["*"]
      - kind: tasmota
        auto-allow: ["*"]
      - kind: zigbee2mqtt
        auto-allow: ["*"]
`

// A hub that is started anew takes up silent gear where it was, and publishes
// its commands; gear that tells of its presence, or that a last will tells of,
// it waits for.
func TestSilentGearComesBackWithTheHub(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, stop := r.bridge(url, silentGear)
		up(t, b)
		gear := e.Dial(t, "gear")
		told := mqtttest.Subscribe(t, gear, "c/lamp/#", 1)
		for _, m := range [][2]string{
			{"s/lamp/alive", "yes"}, {"a/gate", "online"}, {"q/quick/v", "1"},
			{"zigbee2mqtt/bulb", `{"state":"ON"}`}, {"tele/plug/STATE", `{"Time":"2026-11-21T12:00:00","POWER":"ON"}`},
			{"tele/fan/STATE", `{"Time":"2026-11-21T12:00:00","POWER":"ON"}`}, // the broker has lost its last will
		} {
			mqtttest.Publish(t, gear, m[0], 1, false, m[1])
		}
		devices := []string{"gate", "quick", "bulb", "plug", "fan"}
		for _, id := range append(devices, "lamp") {
			eventually(t, id+" is there", func() bool { return r.live.Presence(id).Epoch > 0 })
		}
		stop()
		mqtttest.Publish(t, gear, "tele/plug/LWT", 1, true, "Offline")
		mqtttest.Publish(t, gear, "zigbee2mqtt/bridge/state", 1, true, `{"state":"offline"}`)
		heard := r.live.Presence("lamp").LastSeen

		r.send("waits", "set", `{"to":"on"}`, 2*time.Minute, commands.UntilDelivered)
		b, _ = r.bridge(url, silentGear)
		up(t, b)
		if m := mqtttest.Next(t, told); string(m.Payload()) != "on" {
			t.Fatalf("told %q", m.Payload())
		}
		if p := r.live.Presence("lamp"); !p.Online || !p.LastSeen.Equal(heard) {
			t.Errorf("the lamp was heard at %v: %+v", heard, p)
		}
		mqtttest.Publish(t, gear, "s/lamp/state", 1, false, "on")
		r.wantEnd("waits", commands.Succeeded, "")
		for _, id := range devices {
			if p := r.live.Presence(id); p.Online {
				t.Errorf("%s has come back: %+v", id, p)
			}
		}
		mqtttest.Publish(t, gear, "zigbee2mqtt/bridge/state", 1, true, `{"state":"online"}`)
		eventually(t, "the bulb is back with Zigbee2MQTT", func() bool { return r.live.Presence("bulb").Online })
	})
}

// Silent gear is offline while the broker is away, and no longer.
func TestSilentGearComesBackWithTheBroker(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, silentGear)
	up(t, b)
	gear := broker.Dial(t, "gear")
	mqtttest.Publish(t, gear, "s/lamp/alive", 1, false, "yes")
	mqtttest.Publish(t, gear, "a/gate", 1, false, "online")
	mqtttest.Publish(t, gear, "q/quick/v", 1, false, "1")
	offline := func(id, reason string) {
		t.Helper()
		eventually(t, id+": "+reason, func() bool { p := r.live.Presence(id); return !p.Online && p.Reason == reason })
	}
	offline("quick", "silent for 1s")
	quick := r.live.Presence("quick")
	broker.Stop(t)
	offline("lamp", "broker barn is not reachable")
	offline("gate", "broker barn is not reachable")
	broker.Start(t)
	gear = broker.Dial(t, "gear again", func(o *mqtt.ClientOptions) { o.SetCleanSession(true) })
	told := mqtttest.Subscribe(t, gear, "c/lamp/#", 1)
	eventually(t, "the lamp is back", func() bool { return r.live.Presence("lamp").Online })
	r.send("again", "set", `{"to":"on"}`, 2*time.Minute, commands.UntilDelivered)
	if m := mqtttest.Next(t, told); string(m.Payload()) != "on" {
		t.Fatalf("told %q", m.Payload())
	}
	if p := r.live.Presence("gate"); p.Online {
		t.Errorf("gear that tells of its presence has come back: %+v", p)
	}
	if p := r.live.Presence("quick"); p != quick {
		t.Errorf("gear that was silent for too long: %+v, before %+v", p, quick)
	}
}
