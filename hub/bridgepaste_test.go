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

// runGear simulates gear until the test or stop ends it.
func runGear(t testing.TB, c firmwaresim.GearConfig) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	c.Interval = 250 * time.Millisecond
	go func() {
		_, err := firmwaresim.RunGear(ctx, c)
		ended <- err
	}()
	stop = func() {
		cancel()
		err := <-ended
		ended <- nil
		if err != nil {
			t.Errorf("gear of the kind %s: %v", c.Kind, err)
		}
	}
	t.Cleanup(stop)
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

// Gear of every kind behind one Mosquitto, all running for a while already: a
// sample, its config given to a fresh hub as it is, and every device is there,
// online, with its fields stored and its commands obeyed.
func TestSampleOfAllKindsIsPasted(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	running := mqtttest.Subscribe(t, broker.Dial(t, "listener"), "spBv1.0/plant/DDATA/#", 0)
	for _, kind := range firmwaresim.GearKinds() {
		runGear(t, firmwaresim.GearConfig{Broker: broker.URL, Kind: kind, QoS: 1})
	}
	mqtttest.Next(t, running) // the births are over
	first := hubtest.Start(t, hubtest.Config(t))
	quiet := sample(t, first.Endpoint, &operatorv1.SampleBrokerRequest{Broker: broker.URL, Duration: durationpb.New(2 * time.Second), NoRebirth: true, Filters: []string{"spBv1.0/#"}}, nil)
	if len(quiet.Asked) > 0 || len(quiet.Gear) == 0 || !strings.Contains(quiet.Gear[0].Problem, "not asked for") {
		t.Errorf("a sample that asks nobody has asked %v and found %v", quiet.Asked, quiet.Gear)
	}
	got := sample(t, first.Endpoint, &operatorv1.SampleBrokerRequest{Broker: broker.URL, Duration: durationpb.New(5 * time.Second)}, nil)
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Asked, []string{"plant/press"}) || len(got.Unrecognised) > 0 {
		t.Errorf("asked %v; not recognised: %v", got.Asked, got.Unrecognised)
	}
	var found []string
	for _, g := range got.Gear {
		found = append(found, g.Kind+" "+g.DeviceId)
		if g.Problem != "" || len(g.Fields) == 0 && g.DeviceId != "bridge" {
			t.Errorf("%s: %d fields, %s", g.DeviceId, len(g.Fields), g.Problem)
		}
	}
	slices.Sort(found)
	want := []string{"homeassistant esp-attic", "homie homie-lamp", "influx influx-sensor", "json json-sensor", "raw raw-sensor",
		"shelly shellyplug-s-C18B12", "shelly shellyplus1pm-a8032abe54dc", "sparkplug plant-press", "sparkplug plant-press-motor",
		"tasmota tasmota-plug", "zigbee2mqtt bridge", "zigbee2mqtt zigbee-plug"}
	if !slices.Equal(found, want) {
		t.Errorf("found %q\nwant  %q", found, want)
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
	for _, p := range b.Problems {
		t.Errorf("a problem: %v", p)
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
		stops := []func(){}
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
	got := sample(t, first.Endpoint, request, nil)
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
	again := sample(t, h.Endpoint, request, nil)
	if !strings.Contains(again.ConfigYaml, "name: own") || len(again.Gear) != 3 {
		t.Errorf("known gear is sampled as %v\n%s", again.Gear, again.ConfigYaml)
	}
	for i, g := range again.Gear {
		if g.DeviceId != got.Gear[i].DeviceId || g.Profile != got.Gear[i].Profile {
			t.Errorf("%v was %v", g, got.Gear[i])
		}
	}
}
