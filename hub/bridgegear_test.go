package hub_test

import (
	"context"
	"crypto/x509"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// gearProfiles takes in the simulated gear of all kinds.
const gearProfiles = `    profiles:
      - kind: raw
        auto-allow: ["*"]
        settings:
          topic: sensors/{gear}/{field}
          availability: {topic: "sensors/{gear}/status", online: online, offline: offline}
          fields: [{field: relay, type: bool}]
          commands:
            - {name: relay, topic: "sensors/{gear}/relay/set", payload: "{arg.state}", answer: {topic: "sensors/{gear}/relay", equals: "{arg.state}"}}
            - {name: trust, topic: "sensors/{gear}/relay/set", payload: "{arg.state}"}
      - kind: json
        auto-allow: ["*"]
        settings:
          topic: devices/{gear}/telemetry
          time: {path: ts, format: unix_ms}
          availability: {topic: "devices/{gear}/status", online: online, offline: offline}
          commands:
            - {name: relay, topic: "devices/{gear}/cmd", payload: {id: "{id}", do: relay, "on": "{arg.on}"}, answer: {topic: "devices/{gear}/reply", fields: {id: "{id}", ok: true}}}
      - {kind: influx, auto-allow: ["*"], settings: {topic: "telegraf/{gear}"}}
      - {kind: tasmota, auto-allow: ["*"]}
      - {kind: zigbee2mqtt, auto-allow: ["*"]}
      - {kind: homie, auto-allow: ["*"]}
      - {kind: homeassistant, auto-allow: ["*"], settings: {state-filters: ["esp/#"]}}
      - {kind: sparkplug, auto-allow: ["*"]}
      - {kind: shelly, auto-allow: ["*"]}
`

// gearCommands are commands and the ends they come to.
var gearCommands = []struct{ device, name, args, end, reason string }{
	{"tasmota-plug", "power", `{"state":"off"}`, "SUCCEEDED", ""},
	{"zigbee-plug", "set", `{"state":"OFF"}`, "SUCCEEDED", ""},
	{"homie-lamp", "set", `{"node":"light","property":"level","value":30}`, "SUCCEEDED", ""},
	{"shellyplug-s-C18B12", "relay", `{"turn":"off"}`, "SUCCEEDED", ""},
	{"shellyplus1pm-a8032abe54dc", "relay", `{"turn":"off"}`, "SUCCEEDED", ""},
	{"shellyplus1pm-a8032abe54dc", "rpc", `{"method":"Switch.Set","params":{"id":7,"on":true}}`, "FAILED", ""},
	{"esp-attic", "set", `{"value":false}`, "SUCCEEDED", ""},
	{"plant-press-motor", "write", `{"metric":"Setpoint","value":900}`, "SUCCEEDED", ""},
	{"plant-press", "rebirth", `{}`, "SUCCEEDED", ""},
	{"raw-sensor", "relay", `{"state":"off"}`, "SUCCEEDED", ""},
	{"raw-sensor", "trust", `{"state":"on"}`, "TIMED_OUT", "gives no answer"},
	{"json-sensor", "relay", `{"on":false}`, "SUCCEEDED", ""},
	{"json-sensor", "relay", `{"on":"perhaps"}`, "", ""}, // refused in one way or another, never carried out
	{"influx-sensor", "relay", `{"on":false}`, "REJECTED", ""},
}

// Gear of every kind is a device with presence and readings, and a command to
// it comes to its right end: by its answer where it gives one, and by the word
// that it gives none where it does not. So on either broker.
func TestBridgeCommandsOfEveryKind(t *testing.T) {
	t.Parallel()
	onBothBrokers(t, func(t *testing.T, s *site) {
		cfg := hubtest.Config(t)
		cfg.LogLevel = "error"
		s.bridge(t, &cfg, gearProfiles)
		h := hubtest.Start(t, cfg)
		connected(t, h.Endpoint)
		stop := s.simulate(t)
		devices := make(map[string]bool)
		for _, c := range gearCommands {
			devices[c.device] = true
		}
		for id := range devices {
			hubtest.Eventually(t, id+" is online and has readings", func() bool {
				answer, err := h.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: id}))
				return err == nil && answer.Msg.Device.Presence.GetOnline() && len(fieldsOf(t, h.Endpoint, id)) > 0
			})
		}
		for _, c := range gearCommands {
			timeout := hubtest.Patience
			if c.end == "" || c.end == "TIMED_OUT" {
				timeout = 5 * time.Second
			}
			answer, err := h.Commands.SendCommand(t.Context(), connect.NewRequest(&operatorv1.SendCommandRequest{
				DeviceId: c.device, Spec: &operatorv1.CommandSpec{Name: c.name, Payload: &operatorv1.CommandSpec_Json{Json: c.args}, Timeout: durationpb.New(timeout)},
			}))
			if err != nil {
				t.Fatalf("%s %s: %v", c.device, c.name, err)
			}
			got := answer.Msg.Command
			hubtest.Eventually(t, c.device+" "+c.name+" has an end", func() bool {
				got = must(h.Commands.GetCommand(t.Context(), connect.NewRequest(&operatorv1.GetCommandRequest{Id: got.Id})))(t).Msg.Command
				return got.State >= operatorv1.CommandState_COMMAND_STATE_SUCCEEDED
			})
			end := strings.TrimPrefix(got.State.String(), "COMMAND_STATE_")
			if c.end != "" && end != c.end || c.end == "" && end == "SUCCEEDED" || !strings.Contains(got.Reason, c.reason) {
				t.Errorf("%s %s %s is %s: %s; want %s, %q", c.device, c.name, c.args, end, got.Reason, c.end, c.reason)
			}
		}
		b := barn(t, h.Endpoint)
		// A connection that breaks, as on a machine with a load of 25, takes
		// messages with it, and the hub says so.
		if reconnects := stop(); reconnects == 0 && len(b.Problems) != 0 || b.UnknownGear != 0 {
			t.Errorf("problems of the bridge: %v; %d unknown gear", b.Problems, b.UnknownGear)
		}
	})
}

// simulate gear of all kinds, until stop, which tells how often it had to
// connect again, or the end of the test.
func (s *site) simulate(t *testing.T) (stop func() (reconnects uint64)) {
	t.Helper()
	e := s.endpoint(t)
	var roots *x509.CertPool
	if e.TLS != nil {
		roots = e.TLS.RootCAs
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var again atomic.Uint64
	for _, kind := range firmwaresim.GearKinds() {
		running.Go(func() {
			summary, err := firmwaresim.RunGear(ctx, firmwaresim.GearConfig{
				Broker: e.URL, User: e.User, Password: e.Password, RootCAs: roots, Kind: kind, Interval: 200 * time.Millisecond, QoS: 1,
			})
			if err != nil || summary.Acknowledged == 0 {
				t.Errorf("gear of the kind %s: %v, %+v", kind, err, summary)
			}
			again.Add(summary.Reconnects)
		})
	}
	stop = func() uint64 {
		cancel()
		running.Wait()
		return again.Load()
	}
	t.Cleanup(func() { stop() })
	return stop
}

// fieldsOf a device that are stored.
func fieldsOf(t *testing.T, h hubtest.Endpoint, id string) []*operatorv1.ListFieldsResponse_Field {
	t.Helper()
	return must(h.Telemetry.ListFields(t.Context(), connect.NewRequest(&operatorv1.ListFieldsRequest{DeviceId: id})))(t).Msg.Fields
}
