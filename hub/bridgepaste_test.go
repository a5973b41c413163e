package hub_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// runGear simulates gear until the test ends it, or stop, which tells how often
// it had to connect again.
func runGear(t testing.TB, c firmwaresim.GearConfig) (stop func() (reconnects uint64)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var summary firmwaresim.GearSummary
	ended := make(chan error, 1)
	c.Interval = 250 * time.Millisecond
	go func() {
		var err error
		summary, err = firmwaresim.RunGear(ctx, c)
		ended <- err
	}()
	stop = func() uint64 {
		cancel()
		err := <-ended
		ended <- nil
		if err != nil {
			t.Errorf("gear of the kind %s: %v", c.Kind, err)
		}
		return summary.Reconnects
	}
	t.Cleanup(func() { stop() })
	return stop
}

// pasted writes the config of a sample where the hub reads it.
func pasted(t testing.TB, s *operatorv1.SampleBrokerResponse) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(file, []byte(s.ConfigYaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// wantSampled waits until the devices of a sample are there, each online and
// with its fields stored.
func wantSampled(t testing.TB, h hubtest.Endpoint, s *operatorv1.SampleBrokerResponse) {
	t.Helper()
	for _, g := range s.Gear {
		missing := ""
		for deadline := time.Now().Add(hubtest.Patience); ; time.Sleep(50 * time.Millisecond) {
			if missing = lacks(t, h, g); missing == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s of %s: %s", g.DeviceId, g.Profile, missing)
			}
		}
	}
}

// lacks is what a device does not have of what its sample has shown.
func lacks(t testing.TB, h hubtest.Endpoint, g *operatorv1.SampledGear) string {
	answer, err := h.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: g.DeviceId}))
	if err != nil {
		return err.Error()
	}
	d := answer.Msg.Device
	if d.Gear.GetName() != g.Name || d.Gear.GetProfile() != g.Profile || !d.Presence.Online {
		return fmt.Sprintf("it is %v, online %v", d.Gear, d.Presence.Online)
	}
	fields := must(h.Telemetry.ListFields(t.Context(), connect.NewRequest(&operatorv1.ListFieldsRequest{DeviceId: g.DeviceId})))(t).Msg.Fields
	for _, want := range g.Fields {
		if strings.HasPrefix(want.Name, "light_") {
			continue // a setting of the lamp, which the broker keeps and nobody changes: no reading
		}
		if !slices.ContainsFunc(fields, func(f *operatorv1.ListFieldsResponse_Field) bool { return f.Name == want.Name }) {
			return "the field " + want.Name + " is missing"
		}
	}
	return ""
}

// sampledGear is what a sample has found, sorted, and what the first of it
// lacks that has no fields, or a problem; "": none does.
func sampledGear(s *operatorv1.SampleBrokerResponse) (found []string, lacking string) {
	for _, g := range s.Gear {
		found = append(found, g.Kind+" "+g.DeviceId)
		if lacking == "" && (g.Problem != "" || len(g.Fields) == 0 && g.DeviceId != "bridge") {
			lacking = fmt.Sprintf("%s: %d fields, %s", g.DeviceId, len(g.Fields), g.Problem)
		}
	}
	slices.Sort(found)
	return found, lacking
}

// Gear of every kind behind one Mosquitto, all running for a while already: a
// sample, its config given to a fresh hub as it is, and every device is there,
// online, with its fields stored and its commands obeyed.
func TestSampleOfAllKindsIsPasted(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	running := mqtttest.Subscribe(t, broker.Dial(t, "listener"), "spBv1.0/plant/DDATA/#", 0)
	var stops []func() uint64
	for _, kind := range firmwaresim.GearKinds() {
		stops = append(stops, runGear(t, firmwaresim.GearConfig{Broker: broker.URL, Kind: kind, QoS: 1}))
	}
	mqtttest.Next(t, running) // the births are over
	first := hubtest.Start(t, hubtest.Config(t))
	quiet := sampleUntil(t, first.Endpoint, &operatorv1.SampleBrokerRequest{Broker: broker.URL, Duration: durationpb.New(2 * time.Second), NoRebirth: true, Filters: []string{"spBv1.0/#"}}, nil,
		func(s *operatorv1.SampleBrokerResponse) bool { return len(s.Gear) > 0 })
	if len(quiet.Asked) > 0 || len(quiet.Gear) == 0 || !strings.Contains(quiet.Gear[0].Problem, "not asked for") {
		t.Errorf("a sample that asks nobody has asked %v and found %v", quiet.Asked, quiet.Gear)
	}
	want := []string{"homeassistant esp-attic", "homie homie-lamp", "influx influx-sensor", "json json-sensor", "raw raw-sensor",
		"shelly shellyplug-s-C18B12", "shelly shellyplus1pm-a8032abe54dc", "sparkplug plant-press", "sparkplug plant-press-motor",
		"tasmota tasmota-plug", "zigbee2mqtt bridge", "zigbee2mqtt zigbee-plug"}
	got := sampleUntil(t, first.Endpoint, &operatorv1.SampleBrokerRequest{Broker: broker.URL, Duration: durationpb.New(5 * time.Second)}, nil,
		func(s *operatorv1.SampleBrokerResponse) bool {
			found, lacking := sampledGear(s)
			return slices.Equal(found, want) && lacking == "" && len(s.Asked) > 0
		})
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Asked, []string{"plant/press"}) || len(got.Unrecognised) > 0 {
		t.Errorf("asked %v; not recognised: %v", got.Asked, got.Unrecognised)
	}
	if found, lacking := sampledGear(got); !slices.Equal(found, want) || lacking != "" {
		t.Errorf("found %q\nwant  %q\n%s", found, want, lacking)
	}
	if t.Failed() {
		t.Fatalf("the config:\n%s", got.ConfigYaml)
	}

	cfg := hubtest.Config(t)
	cfg.MQTTBridge = pasted(t, got)
	h := hubtest.Start(t, cfg)
	wantSampled(t, h.Endpoint, got)
	obeys := func(device, name, args string) {
		t.Helper()
		send(t, h.Endpoint, device, device+"-"+name, &operatorv1.CommandSpec{Name: name, Payload: &operatorv1.CommandSpec_Json{Json: args}})
		await(t, h.Endpoint, device+"-"+name, "SUCCEEDED")
	}
	obeys("esp-attic", "set", `{"entity":"relay","value":false}`)
	obeys("tasmota-plug", "power", `{"state":"off"}`)
	obeys("plant-press-motor", "write", `{"metric":"Setpoint","value":900}`)
	b := must(h.Bridges.ListBrokers(t.Context(), connect.NewRequest(&operatorv1.ListBrokersRequest{})))(t).Msg.Brokers[0]
	// A connection that breaks, as on a machine that is very busy, takes
	// messages with it, and the hub says so.
	var reconnects uint64
	for _, stop := range stops {
		reconnects += stop()
	}
	if reconnects == 0 {
		for _, p := range b.Problems {
			t.Errorf("a problem: %v", p)
		}
	}
	if t.Failed() {
		t.Logf("the config:\n%s", got.ConfigYaml)
	}
}

// The same behind the hub's own broker; and there the hub knows its devices
// again under whatever name its config has the broker.
func TestSampleOfTheOwnBrokerIsPasted(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.MQTTListen = hubtest.FreeAddr(t)
	first := hubtest.Start(t, cfg)
	gear := func(h *hubtest.Hub) (stop func()) {
		stops := []func() uint64{}
		for _, kind := range []string{"sparkplug", "raw"} {
			stops = append(stops, runGear(t, firmwaresim.GearConfig{Broker: "ssl://" + cfg.MQTTListen, RootCAs: h.Roots, Kind: kind, QoS: 1}))
		}
		return func() {
			for _, s := range stops {
				s()
			}
		}
	}
	listener := mqttEndpoint(first).Dial(t, "listener")
	running := mqtttest.Subscribe(t, listener, "spBv1.0/plant/DDATA/#", 0)
	stop := gear(first)
	mqtttest.Next(t, running)
	listener.Disconnect(100)
	request := &operatorv1.SampleBrokerRequest{Broker: "embedded", Duration: durationpb.New(3 * time.Second)}
	complete := func(s *operatorv1.SampleBrokerResponse) bool {
		found, lacking := sampledGear(s)
		return len(found) == 3 && lacking == "" && len(s.Asked) > 0
	}
	got := sampleUntil(t, first.Endpoint, request, nil, complete)
	if len(got.Gear) != 3 || !slices.Equal(got.Asked, []string{"plant/press"}) {
		t.Fatalf("sampled %v, asked %v\n%s", got.Gear, got.Asked, got.ConfigYaml)
	}
	stop()
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}

	got.ConfigYaml = strings.Replace(got.ConfigYaml, "- name: embedded", "- name: own", 1)
	cfg.MQTTBridge = pasted(t, got)
	h := hubtest.Start(t, cfg)
	gear(h)
	wantSampled(t, h.Endpoint, got)
	again := sampleUntil(t, h.Endpoint, request, nil, func(s *operatorv1.SampleBrokerResponse) bool { return len(s.Gear) == 3 })
	if !strings.Contains(again.ConfigYaml, "name: own") || len(again.Gear) != 3 {
		t.Errorf("known gear is sampled as %v\n%s", again.Gear, again.ConfigYaml)
	}
	for i, g := range again.Gear {
		if g.DeviceId != got.Gear[i].DeviceId || g.Profile != got.Gear[i].Profile {
			t.Errorf("%v was %v", g, got.Gear[i])
		}
	}
}
