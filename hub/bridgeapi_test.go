package hub_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A site's messages, one piece of gear of each kind that is told by its own
// words.
var siteMessages = []struct {
	topic, payload string
	retained       bool
}{
	{"tele/kitchen/LWT", "Online", true},
	{"tele/kitchen/STATE", `{"Time":"2026-03-01T12:00:00","UptimeSec":93784,"POWER":"ON","Wifi":{"RSSI":78,"Signal":-61}}`, false},
	{"zigbee2mqtt/hall/sensor 1", `{"temperature":21.5,"humidity":44,"battery":97,"linkquality":120}`, false},
	{"zigbee2mqtt/bridge/state", `{"state":"online"}`, true},
	{"farm/sensors/soil-1", `{"moisture":41.2}`, false},
	{"attic/fan/speed", "1200", false},
	{"telegraf/nas/cpu", "cpu,host=nas usage_idle=91.5\n", false},
}

func sample(t *testing.T, h hubtest.Endpoint, r *operatorv1.SampleBrokerRequest, between func()) *operatorv1.SampleBrokerResponse {
	t.Helper()
	stream, err := h.Bridges.SampleBroker(t.Context(), connect.NewRequest(r))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	var last *operatorv1.SampleBrokerResponse
	for stream.Receive() {
		if last == nil && between != nil {
			between()
		}
		last = stream.Msg()
	}
	if err := stream.Err(); err != nil || last == nil || !last.Done {
		t.Fatalf("sample: %v, last %v", err, last)
	}
	return last
}

// sampleUntil samples until it has found what the test wants, each time twice as
// long, from the request's duration on: how much of it is heard in what time is
// the machine's matter. The last one is returned, good or not.
func sampleUntil(t *testing.T, h hubtest.Endpoint, r *operatorv1.SampleBrokerRequest, between func(), good func(*operatorv1.SampleBrokerResponse) bool) *operatorv1.SampleBrokerResponse {
	t.Helper()
	for {
		got := sample(t, h, r, between)
		if good(got) || r.Duration.AsDuration() > time.Minute {
			return got
		}
		t.Logf("a sample of %v is not enough", r.Duration.AsDuration())
		r.Duration = durationpb.New(2 * r.Duration.AsDuration())
	}
}

// What a sample shows is what the hub has with the config that it prints: the
// same devices, with the same fields, online and stored. Before, nothing of it
// was.
func TestBridgeSampleBecomesDevices(t *testing.T) {
	t.Parallel()
	b := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	gear := b.Dial(t, "site")
	send := func(retained bool) {
		for _, m := range siteMessages {
			if m.retained == retained {
				mqtttest.Publish(t, gear, m.topic, 1, m.retained, m.payload)
			}
		}
	}
	send(true)

	cfg := hubtest.Config(t)
	first := hubtest.Start(t, cfg)
	if brokers := must(first.Bridges.ListBrokers(t.Context(), connect.NewRequest(&operatorv1.ListBrokersRequest{})))(t).Msg.Brokers; len(brokers) != 0 {
		t.Fatalf("brokers without a config: %v", brokers)
	}
	got := sampleUntil(t, first.Endpoint, &operatorv1.SampleBrokerRequest{Broker: b.URL, Duration: durationpb.New(3 * time.Second)}, func() { send(false) },
		func(s *operatorv1.SampleBrokerResponse) bool {
			return len(s.Gear) >= 5 && s.Messages >= uint64(len(siteMessages))
		})
	var want []string
	for _, g := range got.Gear {
		want = append(want, g.DeviceId)
	}
	if len(want) < 5 || len(got.Unrecognised) != 0 {
		t.Fatalf("sampled %v\n%s\nnot recognised: %v", want, got.ConfigYaml, got.Unrecognised)
	}
	devices := func(h hubtest.Endpoint) (ids []string) {
		for _, d := range must(h.Devices.ListDevices(t.Context(), connect.NewRequest(&operatorv1.ListDevicesRequest{})))(t).Msg.Devices {
			ids = append(ids, d.Id)
		}
		return ids
	}
	if ids := devices(first.Endpoint); len(ids) != 0 {
		t.Errorf("a sample has made devices: %v", ids)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}

	cfg.MQTTBridge = filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(cfg.MQTTBridge, []byte(got.ConfigYaml), 0o600); err != nil {
		t.Fatal(err)
	}
	h := hubtest.Start(t, cfg)
	hubtest.Eventually(t, "the hub is connected to the broker", func() bool {
		return must(h.Bridges.ListBrokers(t.Context(), connect.NewRequest(&operatorv1.ListBrokersRequest{})))(t).Msg.Brokers[0].Connected
	})
	slices.Sort(want)
	hubtest.Eventually(t, "the devices of the sample are there", func() bool { return slices.Equal(devices(h.Endpoint), want) })
	send(false)
	for _, g := range got.Gear {
		hubtest.Eventually(t, g.DeviceId+" is online, and its fields are stored", func() bool {
			d := must(h.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: g.DeviceId})))(t).Msg.Device
			fields := make(map[string]bool)
			for _, f := range must(h.Telemetry.ListFields(t.Context(), connect.NewRequest(&operatorv1.ListFieldsRequest{DeviceId: g.DeviceId})))(t).Msg.Fields {
				fields[f.Name] = true
			}
			for _, f := range g.Fields {
				if !fields[f.Name] && f.Kind != operatorv1.FieldKind_FIELD_KIND_UNSPECIFIED {
					return false
				}
			}
			return d.Kind == "mqtt" && d.Gear.GetName() == g.Name && d.Gear.GetProfile() == g.Profile && d.Presence.Online
		})
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const plugs = `    profiles:
      - kind: tasmota
        name: plugs
`

// Gear is unknown, and nothing of it stored, until an operator allows it; a
// sample of the broker by its name leaves the hub's own session alone.
func TestBridgeGearIsUnknownUntilAllowed(t *testing.T) {
	t.Parallel()
	b := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	cfg := hubtest.Config(t)
	bridgeTo(t, &cfg, b.URL, plugs)
	h := hubtest.Start(t, cfg)
	connected(t, h.Endpoint)
	gear := b.Dial(t, "site")
	sensor := func() { mqtttest.Publish(t, gear, "tele/kitchen/SENSOR", 1, false, `{"ENERGY":{"Power":160}}`) }
	sensor()
	list := func(unknown bool) []*operatorv1.SeenGear {
		return must(h.Bridges.ListGear(t.Context(), connect.NewRequest(&operatorv1.ListGearRequest{Broker: "barn", UnknownOnly: unknown})))(t).Msg.Gear
	}
	hubtest.Eventually(t, "the gear is heard", func() bool { return len(list(true)) == 1 })
	if g := list(true)[0]; g.Gear.Name != "kitchen" || g.Gear.Profile != "plugs" || g.Kind != "tasmota" || g.DeviceId != "" || g.Messages != 1 || g.LastHeard == nil {
		t.Errorf("unknown gear: %v", g)
	}
	if n := barn(t, h.Endpoint); n.UnknownGear != 1 || n.Rows != 0 {
		t.Errorf("broker: %v", n)
	}
	d := must(h.Bridges.AllowGear(t.Context(), connect.NewRequest(&operatorv1.AllowGearRequest{
		Gear: &operatorv1.Gear{Broker: "barn", Profile: "plugs", Name: "kitchen"}, Labels: map[string]string{"room": "kitchen"},
	})))(t).Msg.Device
	if d.Id != "kitchen" || d.Kind != "mqtt" || d.Labels["room"] != "kitchen" {
		t.Errorf("device: %v", d)
	}
	_, err := h.Bridges.AllowGear(t.Context(), connect.NewRequest(&operatorv1.AllowGearRequest{
		Gear: &operatorv1.Gear{Broker: "barn", Profile: "plugs", Name: "kitchen"}, DeviceId: "twice",
	}))
	if connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("gear that is allowed: %v", err)
	}
	hubtest.Eventually(t, "the gear is a device", func() bool { g := list(false); return len(g) == 1 && g[0].DeviceId == "kitchen" })
	since := 0
	sampled := sampleUntil(t, h.Endpoint, &operatorv1.SampleBrokerRequest{Broker: "barn", Duration: durationpb.New(2 * time.Second)},
		func() { sensor(); since++ }, func(s *operatorv1.SampleBrokerResponse) bool { return len(s.Gear) == 1 })
	if len(sampled.Gear) != 1 || sampled.Gear[0].DeviceId != "kitchen" || sampled.Gear[0].Profile != "plugs" || !strings.Contains(sampled.ConfigYaml, "name: barn") {
		t.Errorf("sampled %v\n%s", sampled.Gear, sampled.ConfigYaml)
	}
	hubtest.Eventually(t, "what it sends now is stored", func() bool { return h.CountOf(t, "kitchen", "tasmota") == uint64(since) })
	if n := barn(t, h.Endpoint); !n.Connected || slices.ContainsFunc(n.Problems, func(p *operatorv1.BridgeProblem) bool { return strings.Contains(p.Reason, "session") }) {
		t.Errorf("the sample has disturbed the hub's session: %v", n)
	}
}

// The hub's own broker can be sampled as any other.
func TestBridgeSamplesTheEmbeddedBroker(t *testing.T) {
	t.Parallel()
	h, broker := startMQTTHub(t, mqttUsersFile(t, "plug-1"), func(c *hub.Config) {})
	gear := broker.Dial(t, "plug-1", mqtttest.As("plug-1", "plug-1"))
	got := sampleUntil(t, h.Endpoint, &operatorv1.SampleBrokerRequest{Broker: "embedded", Duration: durationpb.New(3 * time.Second)}, func() {
		mqtttest.Publish(t, gear, "gear/plug-1/power", 1, false, "12.5")
	}, func(s *operatorv1.SampleBrokerResponse) bool { return len(s.Gear) > 0 })
	if len(got.Gear) != 1 || got.Gear[0].Name != "plug-1" || got.Gear[0].Fields[0].Name != "power" || !strings.Contains(got.ConfigYaml, "url: embedded") {
		t.Errorf("sampled %v, %v\n%s", got.Gear, got.Unrecognised, got.ConfigYaml)
	}
}
