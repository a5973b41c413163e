package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

func barn() *operatorv1.Broker {
	now := time.Now()
	return &operatorv1.Broker{
		Name: "barn", Url: "tcp://127.0.0.1:1883", Connected: true, Since: timestamppb.New(now.Add(-3 * time.Hour)),
		Messages: 1234567, Rows: 1234000, Refused: 5, UnknownGear: 560, LostQos0: 2, PendingMessages: 7, PendingBytes: 2048, Published: 9,
		Profiles: []*operatorv1.BridgeProfile{{Name: "plugs", Kind: "tasmota", GearAllowed: 12, GearUnknown: 1, Messages: 1234567}},
		Problems: []*operatorv1.BridgeProblem{
			{Time: timestamppb.New(now.Add(-2 * time.Hour)), Reason: "not JSON", Count: 5, Topic: "tele/x\x1b[2J/STATE", Gear: "x", Profile: "plugs", Detail: "unexpected end"},
		},
	}
}

func TestBridgeList(t *testing.T) {
	p := newPeer(t)
	away := &operatorv1.Broker{Name: "shed", Url: "ssl://shed:8883", Error: "connection refused"}
	always(p, rpc.BridgeServiceListBrokersProcedure, &operatorv1.ListBrokersRequest{}, &operatorv1.ListBrokersResponse{Brokers: []*operatorv1.Broker{barn(), away}})
	lines := strings.Split(p.hubctl("bridge", "ls").want(t, exitOK).out, "\n")
	wantContains(t, lines[1], "barn", "connected", "3 h", "1234567", "1234000", "560", "not JSON x")
	wantContains(t, lines[2], "shed", "NOT CONNECTED", "connection refused")
	one := p.hubctl("bridge", "ls", "barn").want(t, exitOK).out
	wantContains(t, one, "connected for 3 h", "1,234,567, 5 of them refused", "7 messages (2.0 KiB)", "2 messages of QoS 0",
		"Profile plugs", "tasmota, 12 pieces of gear allowed, 1 unknown", "Problem 2 h ago", "not JSON (5 times), profile plugs, gear x, topic tele/x\\x1b[2J/STATE: unexpected end")
	wantContains(t, p.hubctl("bridge", "ls", "cellar").want(t, exitNotFound).stderr, `no broker "cellar"`, "bridge ls")
	wantContains(t, p.hubctl("bridge", "ls", "-o", "csv").want(t, exitOK).out, "shed,ssl://shed:8883,false,,connection refused,")
	wantContains(t, p.hubctl("bridge", "ls", "-o", "json").want(t, exitOK).out, `"unknown_gear":"560"`)

	var b strings.Builder
	if hidden, err := output.WriteTable(&b, 80, new(app).brokerView().table, []broker{barn(), away}); err != nil || hidden > 0 {
		t.Errorf("%d columns hidden, %v", hidden, err)
	}
	wantContains(t, b.String(), "NOT CONNECTED", "1234567")
}

func TestBridgeListOfAHubWithoutABridge(t *testing.T) {
	p := newPeer(t)
	always(p, rpc.BridgeServiceListBrokersProcedure, &operatorv1.ListBrokersRequest{}, &operatorv1.ListBrokersResponse{})
	wantContains(t, p.hubctl("bridge", "ls").want(t, exitOK).stderr, "bridge sample tcp://")
	wantText(t, p.hubctl("bridge", "ls", "-o", "json").want(t, exitOK).out, "[]\n")
}

func TestBridgeGear(t *testing.T) {
	p := newPeer(t)
	answer(p, rpc.BridgeServiceListGearProcedure, func(r *operatorv1.ListGearRequest) (*operatorv1.ListGearResponse, error) {
		if r.Broker != "barn" || !r.UnknownOnly {
			t.Errorf("asked %v", r)
		}
		return &operatorv1.ListGearResponse{Gear: []*operatorv1.SeenGear{
			{Gear: &operatorv1.Gear{Broker: "barn", Profile: "sparkplug", Name: "plant/line-2/press"}, Messages: 3, LastHeard: timestamppb.Now(), Problem: "id taken"},
		}}, nil
	})
	wantContains(t, p.hubctl("bridge", "gear", "barn", "--unknown").want(t, exitOK).out, "plant/line-2/press", "not allowed", "id taken")
}

// Names of gear with slashes, and such that begin with a minus, arrive as
// they are.
func TestBridgeAllow(t *testing.T) {
	p := newPeer(t)
	var asked []*operatorv1.AllowGearRequest
	answer(p, rpc.BridgeServiceAllowGearProcedure, func(r *operatorv1.AllowGearRequest) (*operatorv1.AllowGearResponse, error) {
		asked = append(asked, r)
		if r.Gear.Name == "taken" {
			return nil, connect.NewError(connect.CodeAlreadyExists, errors.New("device taken exists"))
		}
		return &operatorv1.AllowGearResponse{Device: &operatorv1.Device{Id: "d-" + r.Gear.Name[:1], Gear: r.Gear}}, nil
	})
	answer(p, rpc.BridgeServiceListGearProcedure, func(*operatorv1.ListGearRequest) (*operatorv1.ListGearResponse, error) {
		return &operatorv1.ListGearResponse{Gear: []*operatorv1.SeenGear{
			{Gear: &operatorv1.Gear{Broker: "barn", Profile: "plugs", Name: "a"}},
			{Gear: &operatorv1.Gear{Broker: "barn", Profile: "lamps", Name: "b"}},
		}}, nil
	})
	names := func() string {
		var all []string
		for _, r := range asked {
			all = append(all, r.Gear.Broker+"|"+r.Gear.Profile+"|"+r.Gear.Name)
		}
		asked = nil
		return strings.Join(all, " ")
	}
	got := p.hubctl("bridge", "allow", "barn", "sparkplug", "--label", "site=north", "--id", "press", "--note", "n", "--", "-plant/line 2/press").want(t, exitOK)
	wantText(t, got.out, "-plant/line 2/press is now device d--\n")
	if r := asked[0]; r.DeviceId != "press" || r.Labels["site"] != "north" || r.Note != "n" {
		t.Errorf("asked %v", r)
	}
	wantText(t, names(), "barn|sparkplug|-plant/line 2/press")

	got = p.hubctl("bridge", "allow", "barn", "plugs", "x", "taken", "y").want(t, exitPartial)
	wantContains(t, got.stderr, "taken: device taken exists", "1 of 3")
	wantText(t, got.out, "x is now device d-x\ny is now device d-y\n")
	names()
	p.hubctl("bridge", "allow", "barn", "plugs", "taken").want(t, exitError)
	wantContains(t, p.hubctl("bridge", "allow", "barn", "plugs", "x", "-o", "json").want(t, exitOK).out, `"id":"d-x"`)
	names()

	wantContains(t, p.hubctl("bridge", "allow", "barn", "--all-unknown").want(t, exitUsage).stderr, "2 devices", "--yes")
	wantText(t, names(), "")
	p.hubctl("bridge", "allow", "barn", "--all-unknown", "--yes").want(t, exitOK)
	wantText(t, names(), "barn|plugs|a barn|lamps|b")
	p.hubctl("bridge", "allow", "barn", "lamps", "--all-unknown", "--yes").want(t, exitOK)
	wantText(t, names(), "barn|lamps|b")
	for _, line := range []string{"barn", "barn plugs", "barn plugs a b --id x", "barn --all-unknown --id x", "barn plugs a --all-unknown", "--all-unknown"} {
		p.hubctl(append([]string{"bridge", "allow"}, strings.Fields(line)...)...).want(t, exitUsage)
	}
}

const sampledConfig = "brokers:\n  - name: barn\n"

func sampling(t *testing.T, p *peer, check func(*operatorv1.SampleBrokerRequest)) {
	streams(p, rpc.BridgeServiceSampleBrokerProcedure, func(_ context.Context, r *operatorv1.SampleBrokerRequest, send func(*operatorv1.SampleBrokerResponse)) error {
		if check != nil {
			check(r)
		}
		send(&operatorv1.SampleBrokerResponse{Messages: 1})
		send(&operatorv1.SampleBrokerResponse{Messages: 42, Done: true, ConfigYaml: sampledConfig, Asked: []string{"plant/press", "plant/x\x1b[31m"},
			Gear: []*operatorv1.SampledGear{{Kind: "tasmota", Profile: "tasmota", Name: "kitchen", DeviceId: "kitchen", Status: "online", Commands: []string{"POWER"},
				Fields: []*operatorv1.FieldDescription{
					{Name: "power", Unit: "W", Kind: operatorv1.FieldKind_FIELD_KIND_DOUBLE},
					{Name: "relay", Kind: operatorv1.FieldKind_FIELD_KIND_BOOL, Measurement: "state"},
				}}},
			Unrecognised: []*operatorv1.SampledTopic{{Topic: "odd/topic", Messages: 2, Payload: "\x1b[31m", Reason: "not JSON"}}})
		return nil
	})
}

func TestBridgeSample(t *testing.T) {
	p := newPeer(t)
	sampling(t, p, func(r *operatorv1.SampleBrokerRequest) {
		if r.Broker != "tcp://192.0.2.7:1883" || r.User != "hub" || r.Password != "s ecret" || r.Duration.AsDuration() != 5*time.Second || len(r.Filters) != 2 || !r.NoRebirth {
			t.Errorf("asked %v", r)
		}
	})
	password := write(t, filepath.Join(t.TempDir(), "p"), "s ecret\n")
	line := []string{"bridge", "sample", "tcp://192.0.2.7:1883", "--for", "5s", "--filter", "a/#", "--filter", "b/+", "--user", "hub", "--password-file", password, "--no-rebirth"}
	got := p.hubctl(line...).want(t, exitOK)
	wantContains(t, got.out, "42 messages", "kitchen", "online", "POWER", "power: double in W", "relay: bool of state", "odd/topic", "not JSON", `\x1b[31m`, sampledConfig)
	wantContains(t, got.stderr, "listening to tcp://192.0.2.7:1883 for 5 s", "asked Sparkplug nodes for their births", "--no-rebirth", `plant/press, plant/x\x1b[31m`)

	wantText(t, p.hubctl(append(line, "-o", "csv")...).want(t, exitOK).out,
		"kind,profile,gear,device_id,status,measurement,field,type,unit,commands,problem\n"+
			"tasmota,tasmota,kitchen,kitchen,online,,power,double,W,POWER,\n"+
			"tasmota,tasmota,kitchen,kitchen,online,state,relay,bool,,POWER,\n")
	wantContains(t, p.hubctl(append(line, "-o", "json")...).want(t, exitOK).out, `"config_yaml": "brokers:\n`, `"done": true`)
	wantText(t, p.hubctl(append(line, "--out", "-")...).want(t, exitOK).out, sampledConfig)

	file := filepath.Join(t.TempDir(), "bridge.yaml")
	got = p.hubctl(append(line, "--out", file)...).want(t, exitOK)
	wantContains(t, got.stderr, "--mqtt-bridge "+file)
	if strings.Contains(got.out, "brokers:") {
		t.Errorf("the config is printed, too:\n%s", got.out)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != sampledConfig {
		t.Errorf("file: %q, %v", text, err)
	}
	wantContains(t, p.hubctl(append(line, "--out", file)...).want(t, exitUsage).stderr, "exists")
}

func TestBridgeSampleRefusesBadWords(t *testing.T) {
	p := newPeer(t)
	sampling(t, p, nil)
	for line, want := range map[string]string{
		"tcp://u:p@h:1883":                     "--password-file",
		"barn --user x":                        "go with an address",
		"tcp://h:1883 --password-file /x":      "needs --user",
		"tcp://h:1883 --for never":             "is no duration",
		"tcp://h:1883 --for 0s":                "from 1s to 10m",
		"tcp://h:1883 --for 999ms":             "from 1s to 10m",
		"tcp://h:1883 --for 10m1s":             "from 1s to 10m",
		"tcp://h:1883 --for 7d":                "from 1s to 10m",
		"tcp://h:1883 --for=-5s":               "--for",
		"tcp://h:1883 --for 30":                "is no duration",
		"tcp://h:1883 --for=":                  "is no duration",
		"tcp://h:1883 --out /no/such/folder/x": "no such file",
	} {
		got := p.hubctl(append([]string{"bridge", "sample"}, strings.Fields(line)...)...)
		if got.code == exitOK {
			t.Errorf("%s was taken", line)
		}
		wantContains(t, got.stderr, want)
	}
	if len(p.called()) > 0 {
		t.Errorf("the hub was asked: %v", p.called())
	}
}

// A sample that the hub breaks off is no result.
func TestBridgeSampleBrokenOff(t *testing.T) {
	p := newPeer(t)
	streams(p, rpc.BridgeServiceSampleBrokerProcedure, func(_ context.Context, _ *operatorv1.SampleBrokerRequest, send func(*operatorv1.SampleBrokerResponse)) error {
		send(&operatorv1.SampleBrokerResponse{Messages: 1})
		return nil
	})
	wantContains(t, p.hubctl("bridge", "sample", "barn").want(t, exitError).stderr, "before it was over")
}

func TestBridgeCompletion(t *testing.T) {
	p := newPeer(t)
	always(p, rpc.BridgeServiceListBrokersProcedure, &operatorv1.ListBrokersRequest{}, &operatorv1.ListBrokersResponse{Brokers: []*operatorv1.Broker{barn(), {Name: "shed"}}})
	always(p, rpc.BridgeServiceListGearProcedure, &operatorv1.ListGearRequest{}, &operatorv1.ListGearResponse{Gear: []*operatorv1.SeenGear{
		{Gear: &operatorv1.Gear{Profile: "plugs", Name: "plant/press"}}, {Gear: &operatorv1.Gear{Profile: "plugs", Name: "$(rm -rf)"}}, {Gear: &operatorv1.Gear{Profile: "lamps", Name: "lamp"}},
	}})
	wantText(t, p.hubctl("__complete", "bridge", "ls", "b").want(t, exitOK).out, "barn\tconnected\n:4\n")
	wantText(t, p.hubctl("__complete", "bridge", "allow", "barn", "").want(t, exitOK).out, "plugs\ttasmota\n:4\n")
	wantText(t, p.hubctl("__complete", "bridge", "allow", "barn", "plugs", "").want(t, exitOK).out, "plant/press\n:4\n")
}

func TestDeviceOfGear(t *testing.T) {
	p := newPeer(t)
	gear := &operatorv1.Device{Id: "kitchen", Kind: "mqtt", Enabled: true, Generation: 1, Gear: &operatorv1.Gear{Broker: "barn", Profile: "plugs", Name: "kitchen plug"}}
	plain := &operatorv1.Device{Id: "pump-1", Kind: "device", Enabled: true, Generation: 1}
	list := []*operatorv1.Device{plain}
	answer(p, rpc.DeviceServiceListDevicesProcedure, func(*operatorv1.ListDevicesRequest) (*operatorv1.ListDevicesResponse, error) {
		return &operatorv1.ListDevicesResponse{Devices: list, Total: uint32(len(list))}, nil
	})
	always(p, rpc.DeviceServiceGetDeviceProcedure, &operatorv1.GetDeviceRequest{}, &operatorv1.GetDeviceResponse{Device: gear})
	if out := p.hubctl("device", "ls").want(t, exitOK).out; strings.Contains(out, "KIND") {
		t.Errorf("a kind is shown where all are of one:\n%s", out)
	}
	list = append(list, gear)
	wantContains(t, p.hubctl("device", "ls").want(t, exitOK).out, "KIND", "mqtt")
	out := p.hubctl("device", "show", "kitchen").want(t, exitOK).out
	wantContains(t, out, "kitchen plug, of profile plugs behind broker barn")
	if strings.Contains(out, "Credential") {
		t.Errorf("gear has no credential:\n%s", out)
	}
}
