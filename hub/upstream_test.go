package hub_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/goccy/go-yaml"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqttbridge"
	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/mqtttest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// listener is what somebody else at the broker knows: what is retained, and
// what came.
type listener struct {
	mu    sync.Mutex
	last  map[string]string
	count map[string]int
}

func listen(t *testing.T, b *mqtttest.Broker, id string) *listener {
	l := &listener{last: make(map[string]string), count: make(map[string]int)}
	c := b.Dial(t, id)
	if err := mqtttest.Wait(t, c.Subscribe("#", 1, func(_ mqtt.Client, m mqtt.Message) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.count[m.Topic()]++
		if l.last[m.Topic()] = string(m.Payload()); len(m.Payload()) == 0 {
			delete(l.last, m.Topic())
		}
	})); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *listener) of(topic string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[topic]
}

func (l *listener) topics(part string) (topics []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, topic := range slices.Sorted(maps.Keys(l.last)) {
		if strings.Contains(topic, part) {
			topics = append(topics, topic)
		}
	}
	return topics
}

func (l *listener) await(t *testing.T, topic, want string) {
	t.Helper()
	hubtest.Eventually(t, fmt.Sprintf("%s is %q", topic, want), func() bool { return l.of(topic) == want })
}

const published = `    profiles:
      - kind: json
        settings: {topic: "{gear}/#"}
        auto-allow: ["*"]
        labels: {site: north}
      - kind: homeassistant
        auto-allow: ["*"]
    publish:
      discovery: homeassistant
      selector: "site=north"
`

// stationClient is a device that tells of its fields.
func stationClient(h hubtest.Endpoint, t *testing.T, id, site string) client.Config {
	answer, err := h.Devices.CreateDevice(t.Context(), connect.NewRequest(&operatorv1.CreateDeviceRequest{
		Device: &operatorv1.NewDevice{Id: id, Labels: map[string]string{"site": site}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	credential, err := device.ParseCredential(answer.Msg.Credential)
	if err != nil {
		t.Fatal(err)
	}
	cfg := h.Client(credential)
	cfg.Describe = &devicev1.Describe{Firmware: "station 1.2", Fields: []*devicev1.FieldDescription{
		{Name: "temperature", Unit: "Cel", Kind: devicev1.Kind_KIND_DOUBLE},
		{Name: "door", Kind: devicev1.Kind_KIND_BOOL},
		{Name: "mode", Kind: devicev1.Kind_KIND_STRING},
	}}
	return cfg
}

// Others at the broker see the readings and the presence of devices of the
// selector, and Home Assistant finds their fields; what was so and is not any
// more is cleared, also when the hub was away meanwhile.
func TestUpstream(t *testing.T) {
	t.Parallel()
	b := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{Persistent: true})
	cfg := hubtest.Config(t)
	cfg.Listen = hubtest.FreeAddr(t)
	bridgeTo(t, &cfg, b.URL, published)
	h := hubtest.Start(t, cfg)
	others := listen(t, b, "others")
	others.await(t, "tetherline/availability", "online")

	station, stop := hubtest.Run(t, stationClient(h.Endpoint, t, "north-1", "north"))
	elsewhere, _ := hubtest.Run(t, stationClient(h.Endpoint, t, "south-1", "south"))
	others.await(t, "tetherline/north-1/availability", "online")
	config := "homeassistant/sensor/tetherline-north-1/telemetry-temperature/config"
	hubtest.Eventually(t, "discovery tells of the fields", func() bool { return len(others.topics("homeassistant/")) == 3 })

	at := time.Now().Add(-time.Second).Truncate(time.Millisecond)
	publishRow(t, station, at, client.Double("temperature", 21.5), client.Bool("door", true), client.String("mode", "eco"))
	publishRow(t, elsewhere, at, client.Double("temperature", 1.0))
	hubtest.Eventually(t, "the reading is published", func() bool { return others.of("tetherline/north-1/telemetry") != "" })
	var reading map[string]any
	if err := json.Unmarshal([]byte(others.of("tetherline/north-1/telemetry")), &reading); err != nil {
		t.Fatal(err)
	}
	if reading["temperature"] != 21.5 || reading["door"] != true || reading["mode"] != "eco" || reading["time"] != at.UTC().Format(time.RFC3339Nano) {
		t.Errorf("reading %v", reading)
	}
	wantDiscovered(t, others, "north-1")
	hubtest.Eventually(t, "the row of the other device is stored", func() bool { return h.Count(t, "south-1") == 1 })
	// Gear that matches the selector is not told of: it would go in circles.
	mqtttest.Publish(t, b.Dial(t, "gear"), "weather/now", 1, false, `{"wind":3}`)
	hubtest.Eventually(t, "the reading of the gear is stored", func() bool { return h.CountOf(t, "weather", "json") == 1 })
	for _, id := range []string{"south-1", "tetherline/weather", "tetherline-weather"} {
		if topics := others.topics(id); len(topics) != 0 {
			t.Errorf("%s is published: %v", id, topics)
		}
	}

	if err := stop(); err != nil {
		t.Logf("device: %v", err)
	}
	others.await(t, "tetherline/north-1/availability", "offline")

	// It leaves the selector, and comes back.
	label := func(site string) {
		must(h.Devices.LabelDevice(t.Context(), connect.NewRequest(&operatorv1.LabelDeviceRequest{Id: "north-1", Set: map[string]string{"site": site}})))(t)
	}
	label("attic")
	hubtest.Eventually(t, "nothing of it is left", func() bool { return len(listen(t, b, "later-1").topics("north-1")) == 0 && others.of(config) == "" })
	label("north")
	hubtest.Eventually(t, "it is back", func() bool {
		return others.of(config) != "" && others.of("tetherline/north-1/availability") == "offline"
	})

	// The hub goes, its device is deleted elsewhere, the hub comes back.
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	others.await(t, "tetherline/availability", "offline")
	h = hubtest.Start(t, cfg)
	others.await(t, "tetherline/availability", "online")
	must(h.Devices.DeleteDevice(t.Context(), connect.NewRequest(&operatorv1.DeleteDeviceRequest{Id: "north-1"})))(t)
	hubtest.Eventually(t, "a deleted device is cleared", func() bool {
		return len(others.topics("tetherline-north-1")) == 0 && others.of("tetherline/north-1/availability") == ""
	})

	if gear := must(h.Bridges.ListGear(t.Context(), connect.NewRequest(&operatorv1.ListGearRequest{})))(t).Msg.Gear; len(gear) != 1 || gear[0].DeviceId != "weather" {
		t.Errorf("what the hub publishes came back in as gear: %v", gear)
	}
}

// What a broker has of devices that were deleted while it was out of reach is
// cleared when it is back.
func TestUpstreamTidiesAfterAnAbsence(t *testing.T) {
	t.Parallel()
	b := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	cfg := hubtest.Config(t)
	bridgeTo(t, &cfg, b.URL, "    publish: {prefix: site/hub, discovery: ha, retain: true}\n")
	other := b.Dial(t, "other")
	for topic, payload := range map[string]string{
		"site/hub/ghost/availability":                           "online",
		"site/hub/ghost/telemetry":                              `{"time":"2026-03-01T12:00:00Z","x":1}`,
		"ha/sensor/site_hub-ghost/telemetry-temperature/config": `{"unique_id":"site/hub/ghost/telemetry/temperature"}`,
		"site/hub/mine/note":                                    "somebody else's",
		"ha/sensor/site_hub-foreign/t-x/config":                 `{"unique_id":"of another"}`,
	} {
		mqtttest.Publish(t, other, topic, 1, true, payload)
	}
	h := hubtest.Start(t, cfg)
	others := listen(t, b, "others")
	hubtest.Eventually(t, "what is stale is cleared", func() bool { return len(others.topics("ghost")) == 0 && others.of("site/hub/availability") == "online" })
	if topics := listen(t, b, "later").topics(""); slices.ContainsFunc(topics, func(topic string) bool { return strings.Contains(topic, "ghost") }) {
		t.Errorf("still retained: %v", topics)
	}
	if others.of("site/hub/mine/note") == "" || others.of("ha/sensor/site_hub-foreign/t-x/config") == "" {
		t.Error("what others have retained was cleared")
	}

	station, _ := hubtest.Run(t, stationClient(h.Endpoint, t, "north-1", "north"))
	others.await(t, "site/hub/north-1/availability", "online")
	publishRow(t, station, time.Now(), client.Double("temperature", 3.0))
	hubtest.Eventually(t, "the reading is retained", func() bool { return others.of("site/hub/north-1/telemetry") != "" })
	if late := listen(t, b, "even-later"); true {
		hubtest.Eventually(t, "who comes later sees the last reading", func() bool { return strings.Contains(late.of("site/hub/north-1/telemetry"), `"temperature":3`) })
	}
	// The broker dies and forgets everything; all is told again.
	b.Kill(t)
	publishRow(t, station, time.Now(), client.Double("temperature", 4.0))
	hubtest.Eventually(t, "the loss is counted", func() bool {
		for _, p := range barn(t, h.Endpoint).Problems {
			if p.Reason == "readings not published" {
				return true
			}
		}
		return false
	})
	b.Start(t)
	anew := listen(t, b, "anew")
	anew.await(t, "site/hub/north-1/availability", "online")
	anew.await(t, "site/hub/availability", "online")
	if h.Count(t, "north-1") == 0 {
		t.Error("readings are not in the store")
	}
}

// A broker that takes nothing in holds up nothing: readings are acknowledged
// and stored as ever, what it misses is counted, and it gets those that come
// when it is well again.
func TestUpstreamIsNotHeldUpByASlowBroker(t *testing.T) {
	t.Parallel()
	b := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	way := newLink(t, b.Addr)
	cfg := hubtest.Config(t)
	cfg.DeviceBytes, cfg.DeviceFrames = 1e9, 1e6
	bridgeTo(t, &cfg, "tcp://"+way.addr(), "    publish: {}\n")
	h := hubtest.Start(t, cfg)
	others := listen(t, b, "others")
	others.await(t, "tetherline/availability", "online")
	station, _ := hubtest.Run(t, stationClient(h.Endpoint, t, "north-1", "north"))
	others.await(t, "tetherline/north-1/availability", "online")

	way.add("trickle", "bandwidth", "upstream", `{"rate":1}`) // KB/s
	const rows = 4000
	long := strings.Repeat("x", 3000)
	for i := range rows {
		publishRow(t, station, time.Time{}, client.Int("n", int64(i)), client.String("mode", long))
	}
	hubtest.Eventually(t, "everything is stored", func() bool { return h.Count(t, "north-1") == rows })
	hubtest.Eventually(t, "what is lost to the broker is counted", func() bool {
		return slices.ContainsFunc(barn(t, h.Endpoint).Problems, func(p *operatorv1.BridgeProblem) bool { return p.Reason == "readings not published" })
	})
	// Slow as it is, the hub may be back on it by now: offline is to be seen
	// where it cannot be.
	way.down()
	others.await(t, "tetherline/availability", "offline") // its last will
	if err := way.proxy.Toxics.RemoveToxic(t.Context(), "trickle"); err != nil {
		t.Fatal(err)
	}
	way.up()
	hubtest.Eventually(t, "new readings are published", func() bool {
		publishRow(t, station, time.Time{}, client.Bool("door", true))
		return strings.Contains(others.of("tetherline/north-1/telemetry"), `"door":true`)
	})
}

// The config of the operators' page is one that the hub takes.
func TestUpstreamRecipe(t *testing.T) {
	page, err := os.ReadFile("../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(page), "### See your devices in Home Assistant\n")
	_, part, _ = strings.Cut(part, "```yaml\n")
	text, _, ok := strings.Cut(part, "```")
	if !ok {
		t.Fatal("the page has no such recipe")
	}
	file := filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := mqttbridge.LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if p := cfg.Brokers[0].Publish; p == nil || p.Discovery != "homeassistant" || p.Selector != "site=north" {
		t.Errorf("publish %+v", p)
	}
}

func publishRow(t *testing.T, c *client.Client, at time.Time, fields ...client.Field) {
	t.Helper()
	if err := c.Publish(t.Context(), client.Row{Time: at, Fields: fields}); err != nil {
		t.Fatal(err)
	}
}

// wantDiscovered reads the discovery messages as a program for them would,
// with the profile of Home Assistant's gear: fields, units, kinds and values
// are those of the device.
func wantDiscovered(t *testing.T, others *listener, id string) {
	t.Helper()
	kind, ok := profile.KindOf("homeassistant")
	if !ok {
		t.Fatal("there is no kind homeassistant")
	}
	p, err := kind.New(func(into any) error { return yaml.Unmarshal([]byte(`state-filters: ["tetherline/#"]`), into) })
	if err != nil {
		t.Fatal(err)
	}
	fields, values := make(map[string]string), make(map[string]any)
	status := profile.Unchanged
	topics := append(others.topics("homeassistant/"), "tetherline/availability", "tetherline/"+id+"/availability", "tetherline/"+id+"/telemetry")
	at := time.Now()
	for _, topic := range topics {
		at = at.Add(time.Hour) // so that descriptions are told each time
		m := profile.Message{Topic: topic, Payload: []byte(others.of(topic)), Received: at}
		reports, err := p.Decode(m, nil)
		if err != nil {
			t.Errorf("%s: %v\n%s", topic, err, m.Payload)
		}
		for _, r := range reports {
			if r.Problem != "" || r.Gear != "tetherline-"+id {
				t.Errorf("%s: gear %q: %s", topic, r.Gear, r.Problem)
			}
			for _, f := range r.Describe.GetFields() {
				fields[f.Name] = f.Unit + " " + f.Kind.String()
			}
			for _, row := range r.Rows {
				for _, f := range row.Fields {
					values[f.Name] = f.Value
				}
			}
			if r.Status != profile.Unchanged {
				status = r.Status
			}
		}
	}
	want := map[string]any{"telemetry_temperature": telemetry.DoubleValue(21.5), "telemetry_door": telemetry.BoolValue(true), "telemetry_mode": telemetry.StringValue("eco")}
	if !maps.Equal(values, want) || status != profile.Online {
		t.Errorf("read back: %v, status %v; fields %v", values, status, fields)
	}
	wantFields := map[string]string{"telemetry_temperature": "Cel KIND_DOUBLE", "telemetry_door": " KIND_BOOL", "telemetry_mode": " KIND_STRING"}
	if !maps.Equal(fields, wantFields) {
		t.Errorf("fields %v", fields)
	}
}
