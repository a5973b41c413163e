package mqttbridge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/registry"
)

// site is what the broker of a small site sends, of gear of several kinds.
var site = []struct {
	topic, payload string
	retained       bool
}{
	{"tele/kitchen/LWT", "Online", true},
	{"tele/kitchen/STATE", `{"Time":"2026-03-01T12:00:00","Uptime":"1T02:03:04","UptimeSec":93784,"POWER":"ON","Wifi":{"RSSI":78,"Signal":-61}}`, false},
	{"tele/kitchen/SENSOR", `{"Time":"2026-03-01T12:00:00","ENERGY":{"Total":3.185,"Power":160,"Voltage":231,"Current":0.706}}`, false},
	{"stat/kitchen/RESULT", `{"POWER":"ON"}`, false},
	{"homie/boiler/$homie", "3.0.1", true},
	{"homie/boiler/$name", "Boiler", true},
	{"homie/boiler/$state", "ready", true},
	{"homie/boiler/$nodes", "heater", true},
	{"homie/boiler/heater/$name", "Heater", true},
	{"homie/boiler/heater/$properties", "temperature,on", true},
	{"homie/boiler/heater/temperature/$name", "Temperature", true},
	{"homie/boiler/heater/temperature/$datatype", "float", true},
	{"homie/boiler/heater/temperature/$unit", "°C", true},
	{"homie/boiler/heater/on/$name", "On", true},
	{"homie/boiler/heater/on/$datatype", "boolean", true},
	{"homie/boiler/heater/on/$settable", "true", true},
	{"homie/boiler/heater/temperature", "61.5", true},
	{"homie/boiler/heater/on", "true", true},
	{"farm/sensors/soil-1", `{"moisture":41.2,"battery":{"volts":3.9}}`, false},
	{"farm/sensors/soil-2", `{"moisture":38.0,"battery":{"volts":4.0}}`, false},
	{"attic/fan/speed", "1200", false},
	{"attic/fan/mode", "auto", false},
	{"telegraf/nas/cpu", "cpu,cpu=total,host=nas usage_idle=91.5 1772366400000000000\n", false},
	{"homeassistant/sensor/heatpump/flow/config", `{"name":"Flow","unique_id":"hp-flow","state_topic":"hp/state","value_template":"{{ value_json.flow }}","unit_of_measurement":"°C","availability_topic":"hp/online","device":{"identifiers":["hp"]}}`, true},
	{"hp/online", "online", true},
	{"hp/state", `{"flow":35.5,"return":30}`, false},
	{"odd/blob", "\x00\x01\x02\xff", false},
	{"$SYS/broker/uptime", "12 seconds", true},
}

func recorded(t *testing.T, messages ...profile.Message) seen {
	t.Helper()
	r := newRecording([]string{"#", "$SYS/#"}, nil)
	for i := range messages {
		r.put(&brokerMessage{messages[i]})
	}
	return r.take()
}

// brokerMessage is a message as the client hands it out.
type brokerMessage struct{ m profile.Message }

func (b *brokerMessage) Duplicate() bool   { return false }
func (b *brokerMessage) Qos() byte         { return 0 }
func (b *brokerMessage) Retained() bool    { return b.m.Retained }
func (b *brokerMessage) Topic() string     { return b.m.Topic }
func (b *brokerMessage) MessageID() uint16 { return 0 }
func (b *brokerMessage) Payload() []byte   { return b.m.Payload }
func (b *brokerMessage) Ack()              {}

func siteMessages() (all []profile.Message) {
	for _, m := range site {
		all = append(all, profile.Message{Topic: m.topic, Payload: []byte(m.payload), Retained: m.retained})
	}
	return all
}

func noDevice(string) (*registry.Device, bool) { return nil, false }

func loadText(t *testing.T, text string) Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return cfg
}

func gearWords(all []SampledGear) (words []string) {
	for _, g := range all {
		var fields []string
		for _, f := range g.Fields {
			fields = append(fields, fmt.Sprintf("%s.%s:%v:%s", f.Measurement, f.Name, f.Kind, f.Unit))
		}
		words = append(words, fmt.Sprintf("%s %s %s %s [%s] %v %s", g.Kind, g.Profile, g.Name, g.DeviceID, strings.Join(fields, " "), g.Commands, g.Status))
	}
	return words
}

// A config that a sample proposes is one that the hub takes, and brings the
// devices and fields that were shown, each from the profile that was named.
func TestSampledConfigBringsWhatWasShown(t *testing.T) {
	all := recorded(t, siteMessages()...)
	st := newStudy(&BrokerConfig{Name: "mqtt", URL: "tcp://127.0.0.1:1883"}, noDevice)
	shown := st.progress(all)
	text := st.config(&SampleRequest{Duration: DefaultSample}, all)
	t.Logf("\n%s", text)
	cfg := loadText(t, text)

	again := newStudy(&cfg.Brokers[0], noDevice).progress(all)
	if want, got := gearWords(shown.Gear), gearWords(again.Gear); !slices.Equal(want, got) {
		t.Errorf("the config brings\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	ids := make(map[string]string)
	for _, p := range cfg.Brokers[0].Profiles {
		for _, d := range p.Devices {
			ids[d.ID] = p.Kind
		}
	}
	want := map[string]string{"kitchen": "tasmota", "boiler": "homie", "soil-1": "json", "soil-2": "json", "fan": "raw", "nas": "influx", "heatpump": "homeassistant"}
	for id, kind := range want {
		if _, known := profile.KindOf(kind); known && ids[id] != kind {
			t.Errorf("device %s is of kind %q, want %q", id, ids[id], kind)
		}
	}
	if len(ids) != len(want) || len(shown.Gear) != len(want) {
		t.Errorf("devices %v", ids)
	}
	rest := st.unrecognised(all)
	if len(rest) != 1 || rest[0].Topic != "odd/blob" || !printable(rest[0].Payload) || rest[0].Reason == "" {
		t.Errorf("not recognised: %+v", rest)
	}
}

// Each kind alone, by its own documentation's gear, is recognised as itself.
func TestSampledFields(t *testing.T) {
	all := recorded(t, siteMessages()...)
	shown := newStudy(&BrokerConfig{Name: "mqtt", URL: "tcp://127.0.0.1:1883"}, noDevice).progress(all)
	text := strings.Join(gearWords(shown.Gear), "\n")
	for _, want := range []string{"moisture:KIND_DOUBLE", "battery_volts:KIND_DOUBLE", "speed:KIND_DOUBLE", "usage_idle:KIND_DOUBLE", "Cel", "online"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
}

// A broker of the config keeps its profiles and devices; what they do not
// take is proposed beside them.
func TestSampleOfAConfiguredBroker(t *testing.T) {
	cfg := loadText(t, `
brokers:
  - name: barn
    url: tcp://127.0.0.1:1883
    client-id: keep-me
    max-pending-bytes: 1048576
    profiles:
      - kind: tasmota
        name: plugs
        silence: 5m
        id-prefix: barn-
        auto-allow: ["plug-*"]
        labels: {site: "north # 1"}
        devices:
          - gear: kitchen
            id: the-kettle
            labels: {room: kitchen}
    publish: {prefix: hub, discovery: homeassistant, selector: "site=north"}
`)
	all := recorded(t, siteMessages()...)
	taken := func(id string) (*registry.Device, bool) {
		return &registry.Device{ID: id, Kind: registry.KindDevice}, id == "fan"
	}
	st := newStudy(&cfg.Brokers[0], taken)
	shown := st.progress(all)
	text := st.config(&SampleRequest{Duration: DefaultSample}, all)
	got := loadText(t, text).Brokers[0]
	plugs := got.Profiles[0]
	if got.Name != "barn" || got.ClientID != "keep-me" || got.MaxPendingBytes != 1<<20 || *got.Publish != *cfg.Brokers[0].Publish ||
		plugs.Name != "plugs" || *plugs.Silence != 5*time.Minute || plugs.IDPrefix != "barn-" || plugs.AutoAllow[0] != "plug-*" ||
		plugs.Labels["site"] != "north # 1" || len(plugs.Devices) != 1 || plugs.Devices[0].ID != "the-kettle" || plugs.Devices[0].Labels["room"] != "kitchen" {
		t.Errorf("the config has lost something:\n%s", text)
	}
	words := strings.Join(gearWords(shown.Gear), "\n")
	for _, want := range []string{"plugs kitchen the-kettle", "fan fan-2"} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is missing in\n%s", want, words)
		}
	}
	if !strings.Contains(text, "id: fan-2") {
		t.Errorf("an id that is taken has no other in\n%s", text)
	}
}

// What gear sends cannot break out of its line of the config.
func TestSampledConfigHoldsHostileNames(t *testing.T) {
	nasty := []string{`a: b`, `"quoted" 'x'`, `# no comment`, `- item`, `on`, `true`, `123`, `{x}`, `[x]`, `back\slash`, `ümläut`, `&anchor`, `*alias`, `%tag`, `!type`, "`tick`", `a|b`, `>`, `~`, `null`, `1e3`, `0x10`, `2026-03-01`}
	var messages []profile.Message
	for _, name := range nasty {
		messages = append(messages, profile.Message{Topic: "x/" + name + "/temp", Payload: []byte("21.5")})
	}
	messages = append(messages, profile.Message{Topic: "x/line\nbreak/temp", Payload: []byte("1")})
	all := recorded(t, messages...)
	st := newStudy(&BrokerConfig{Name: "mqtt", URL: "tcp://127.0.0.1:1883", User: "a # b: \"c\""}, noDevice)
	shown := st.progress(all)
	text := st.config(&SampleRequest{Duration: DefaultSample}, all)
	file := filepath.Join(t.TempDir(), "bridge.yaml")
	for path, content := range map[string]string{file: text, filepath.Join(filepath.Dir(file), "mqtt.password"): "secret\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := LoadConfig(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if cfg.Brokers[0].User != "a # b: \"c\"" {
		t.Errorf("user %q", cfg.Brokers[0].User)
	}
	var names []string
	for _, p := range cfg.Brokers[0].Profiles {
		for _, d := range p.Devices {
			names = append(names, d.Gear)
		}
	}
	for _, name := range nasty {
		if !slices.Contains(names, name) && slices.ContainsFunc(shown.Gear, func(g SampledGear) bool { return g.Name == name }) {
			t.Errorf("gear %q is shown and not in the config:\n%s", name, text)
		}
	}
	if len(names) != len(shown.Gear) || len(names) < len(nasty)-3 {
		t.Errorf("%d devices of %d shown, %d sent:\n%s", len(names), len(shown.Gear), len(nasty), text)
	}
}

func TestSampleIsBounded(t *testing.T) {
	r := newRecording([]string{"#"}, nil)
	for i := range 50_000 {
		r.put(&brokerMessage{profile.Message{Topic: fmt.Sprintf("t/%d/v", i%30_000), Payload: []byte("1")}})
	}
	big := make([]byte, 200<<10)
	for i := range 200 {
		r.put(&brokerMessage{profile.Message{Topic: fmt.Sprintf("t/%d/v", i), Payload: big}})
	}
	got := r.take()
	if got.messages != 50_200 || len(got.topics) != maxSampleTopics || r.bytes > maxSampleBytes+sampleReserve || got.left == 0 {
		t.Errorf("%d messages, %d topics, %d bytes, %d left", got.messages, len(got.topics), r.bytes, got.left)
	}
	st := newStudy(&BrokerConfig{Name: "mqtt"}, noDevice)
	if p := st.progress(got); len(p.Gear) > maxSampleGear || len(p.Gear) == 0 {
		t.Errorf("%d pieces of gear", len(p.Gear))
	}
}

func TestSampleRefusals(t *testing.T) {
	s := NewSampler(Config{Brokers: []BrokerConfig{{Name: "barn", URL: "tcp://127.0.0.1:1"}}}, nil, nil)
	for name, c := range map[string]struct {
		r    SampleRequest
		want error
	}{
		"short":    {SampleRequest{Broker: "barn", Duration: time.Millisecond}, ErrBadSample},
		"long":     {SampleRequest{Broker: "barn", Duration: time.Hour}, ErrBadSample},
		"filter":   {SampleRequest{Broker: "barn", Filters: []string{"a/#/b"}}, ErrBadSample},
		"scheme":   {SampleRequest{Broker: "http://h:1"}, ErrBadSample},
		"no port":  {SampleRequest{Broker: "tcp://h"}, ErrBadSample},
		"user":     {SampleRequest{Broker: "tcp://u:p@h:1"}, ErrBadSample},
		"unknown":  {SampleRequest{Broker: "shed"}, ErrUnknownGear},
		"embedded": {SampleRequest{Broker: EmbeddedURL}, ErrBadSample},
		"password": {SampleRequest{Broker: "barn", User: "u"}, ErrBadSample},
		"away":     {SampleRequest{Broker: "barn"}, ErrUnreachable},
	} {
		err := s.Sample(t.Context(), c.r, func(SampleProgress) error { return nil })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), ":p@") {
			t.Errorf("%s: the error holds a password: %v", name, err)
		}
	}
	if err := (SampleOnly{NewSampler(Config{}, nil, nil)}).Sample(t.Context(), SampleRequest{Broker: "barn"}, nil); !errors.Is(err, ErrNoBridge) {
		t.Errorf("without a bridge: %v", err)
	}
}

// On a real broker: what is retained and what comes is heard once, whatever
// filters; a session of the bridge's name is left alone; who gives up is gone.
func TestSampleOnABroker(t *testing.T) {
	b := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{Users: map[string]string{"hub": "pass", "gear": "pass"}})
	gear := b.Dial(t, "gear", mqtttest.As("gear", "pass"))
	for _, m := range site {
		if m.retained && !strings.HasPrefix(m.topic, "$") {
			mqtttest.Publish(t, gear, m.topic, 1, true, m.payload)
		}
	}
	s := NewSampler(Config{}, nil, nil)
	r := SampleRequest{Broker: b.URL, User: "hub", Password: "pass", Duration: 3 * time.Second, Filters: []string{"#", "tele/#"}}
	var last SampleProgress
	for ; last.Messages < uint64(len(site)-1) && r.Duration < time.Minute; r.Duration *= 2 { // a busy machine may take longer
		sent := false
		err := s.Sample(t.Context(), r, func(p SampleProgress) error {
			if !sent {
				sent = true
				for _, m := range site {
					if !m.retained {
						mqtttest.Publish(t, gear, m.topic, 1, false, m.payload)
					}
				}
			}
			last = p
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !last.Done || last.Messages != uint64(len(site)-1) || len(last.Gear) != 7 || !strings.Contains(last.Config, "password-file: mqtt.password") || len(last.Unrecognised) != 1 {
		t.Errorf("%d messages, done %v\n%s\n%s\n%v", last.Messages, last.Done, strings.Join(gearWords(last.Gear), "\n"), last.Config, last.Unrecognised)
	}
	if strings.Contains(last.Config, "pass\n") {
		t.Error("the config holds the password")
	}
	r.Password = "wrong"
	if err := s.Sample(t.Context(), r, nil); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "user or password") {
		t.Errorf("wrong password: %v", err)
	}
	r.Password = "pass"
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Sample(ctx, r, func(SampleProgress) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	gone := errors.New("gone")
	if err := s.Sample(t.Context(), r, func(SampleProgress) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("caller gone: %v", err)
	}
	err := s.Sample(t.Context(), r, func(SampleProgress) error { b.Kill(t); return nil })
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("broker gone: %v", err)
	}
	if len(s.slots) != 0 {
		t.Errorf("%d slots are still taken", len(s.slots))
	}
}
