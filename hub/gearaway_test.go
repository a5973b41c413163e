package hub_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

const awayBridge = `
brokers:
  - name: barn
    url: %s
    profiles:
      - {kind: homie, auto-allow: ["*"]}
      - {kind: tasmota, auto-allow: ["*"]}
      - {kind: homeassistant, auto-allow: ["*"], settings: {state-filters: ["esp/#"]}}
`

// What gear publishes at QoS 1 while the hub is away is stored when it is
// back, also where it takes retained messages to read it: the broker sends
// those last.
func TestReadingsOfGearWhileTheHubIsAway(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	gear := broker.Dial(t, "gear")
	for topic, payload := range map[string]string{
		"homie/lamp/$homie": "4.0.0", "homie/lamp/sensor/level/$datatype": "integer", "homie/lamp/$state": "ready",
		"homeassistant/sensor/board/level/config": `{"stat_t":"esp/board","unit_of_meas":"%","val_tpl":"{{ value_json.level }}"}`,
	} {
		mqtttest.Publish(t, gear, topic, 1, true, payload)
	}
	const n = 300
	say := func(from, to int) {
		var last []mqtt.Token
		for i := from; i < to; i++ {
			last = append(last,
				gear.Publish("homie/lamp/sensor/level", 1, true, fmt.Sprint(i)),
				gear.Publish("tele/plug/SENSOR", 1, false, fmt.Sprintf(`{"ANALOG":{"A0":%d}}`, i)),
				gear.Publish("esp/board", 1, false, fmt.Sprintf(`{"level":%d}`, i)))
		}
		for _, token := range last {
			if err := mqtttest.Wait(t, token); err != nil {
				t.Fatal(err)
			}
		}
	}
	cfg := hubtest.Config(t)
	cfg.MQTTBridge = filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(cfg.MQTTBridge, fmt.Appendf(nil, awayBridge, broker.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	first := hubtest.Start(t, cfg)
	hubtest.Eventually(t, "the bridge is connected", func() bool {
		answer, err := first.Bridges.ListBrokers(t.Context(), connect.NewRequest(&operatorv1.ListBrokersRequest{}))
		return err == nil && answer.Msg.Brokers[0].Connected
	})
	say(0, 1)
	devices := map[string]string{"lamp": "homie", "plug": "tasmota", "board": "homeassistant"}
	for id, kind := range devices {
		hubtest.Eventually(t, id+" is there", func() bool { return first.CountOf(t, id, kind) == 1 })
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	say(1, n)
	second := hubtest.Start(t, cfg)
	for id, kind := range devices {
		hubtest.Eventually(t, fmt.Sprintf("%d rows of %s", n, id), func() bool { return second.CountOf(t, id, kind) >= n })
		if rows := second.CountOf(t, id, kind); rows != n {
			t.Errorf("%s: %d rows, want %d", id, rows, n)
		}
	}
}

// A lamp that speaks only when it is switched can be switched by a hub that
// was started anew, and has not been heard since.
func TestSilentGearObeysARestartedHub(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	relay := broker.Dial(t, "relay")
	told := mqtttest.Subscribe(t, relay, "c/relay/set", 1)
	cfg := hubtest.Config(t)
	cfg.MQTTBridge = filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(cfg.MQTTBridge, fmt.Appendf(nil, "brokers:\n  - name: barn\n    url: %s\n%s", broker.URL, switchable), 0o600); err != nil {
		t.Fatal(err)
	}
	first := hubtest.Start(t, cfg)
	connected(t, first.Endpoint)
	mqtttest.Publish(t, relay, "s/relay/state", 1, false, "off")
	hubtest.Eventually(t, "the relay is online", func() bool {
		answer, err := first.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: "relay"}))
		return err == nil && answer.Msg.Device.Presence.GetOnline()
	})
	seen := getDevice(t, first.Endpoint, "relay").Presence.LastSeen.AsTime()
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := hubtest.Start(t, cfg)
	if _, err := second.Commands.SendCommand(t.Context(), connect.NewRequest(&operatorv1.SendCommandRequest{
		DeviceId: "relay", Key: "on",
		Spec: &operatorv1.CommandSpec{Name: "set", Payload: &operatorv1.CommandSpec_Json{Json: `{"to":"on"}`}, Timeout: durationpb.New(2 * time.Minute)},
	})); err != nil {
		t.Fatal(err)
	}
	if m := mqtttest.Next(t, told); string(m.Payload()) != "on" {
		t.Errorf("told %q", m.Payload())
	}
	if p := getDevice(t, second.Endpoint, "relay").Presence; !p.GetOnline() || !p.LastSeen.AsTime().Equal(seen) {
		t.Errorf("seen at %v: %v", seen, p)
	}
}
