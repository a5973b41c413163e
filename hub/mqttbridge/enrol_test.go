package mqttbridge

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/registry"
)

// twoKinds has two profiles with gear of the same names.
const twoKinds = `
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    profiles:
      - kind: raw
        name: left
        settings: {topic: "left/{gear}/{field}"}
        id-prefix: l-
        auto-allow: ["auto-*"]
        labels: {site: barn}
        devices:
          - {gear: listed, id: listed-1, labels: {room: kitchen}}
      - kind: raw
        name: right
        settings: {topic: "right/{gear}/{field}", type: text}
        auto-allow: ["wss-*"]
`

func TestGearBecomesDevices(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	r.device(registry.NewDevice{ID: "wss-1"})
	b, _ := r.bridgeWith(broker.URL, twoKinds, func(d *Deps) {
		d.Labels = func(d *registry.Device) string { return ",site=" + d.Labels["site"] }
	})
	up(t, b)
	gear := broker.Dial(t, "gear")
	send := func(topic, payload string) { mqtttest.Publish(t, gear, topic, 1, false, payload) }

	// Allowed by pattern: from the very first message on.
	send("left/auto-1/temp", "1")
	send("left/auto-1/temp", "2")
	r.wantStored("l-auto-1", "raw temp=1", "raw temp=2")
	if d, _ := r.registry.Get("l-auto-1"); d.Kind != registry.KindMQTT || *d.Gear != (registry.Gear{Broker: "barn", Profile: "left", Name: "auto-1"}) ||
		d.Labels["site"] != "barn" {
		t.Errorf("%+v", d)
	}
	if rows := r.all(); rows[0].Labels != ",site=barn" {
		t.Errorf("labels %q", rows[0].Labels)
	}
	// Listed in the config.
	send("left/listed/temp", "3")
	r.wantStored("listed-1", "raw temp=3")
	if d, _ := r.registry.Get("listed-1"); d.Labels["room"] != "kitchen" || d.Labels["site"] != "barn" {
		t.Errorf("labels of a listed device: %v", d.Labels)
	}
	// Unknown until an operator allows it; nothing of before is stored.
	send("left/third", "no field")
	send("left/unknown gear/temp", "4")
	send("right/listed/temp", "not of that profile")
	eventually(t, "unknown gear is seen", func() bool {
		g, ok := b.seenGear("left", "unknown gear")
		return ok && g.DeviceID == "" && g.Messages == 1
	})
	if _, err := b.Allow(t.Context(), registry.Gear{Broker: "barn", Profile: "left", Name: "unknown gear"}, "", nil, "by hand"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "allowed gear is a device", func() bool {
		g, _ := b.seenGear("left", "unknown gear")
		return g.DeviceID == "l-unknown-gear" && g.Messages == 1
	})
	send("left/unknown gear/temp", "5")
	r.wantStored("l-unknown-gear", "raw temp=5")
	r.wantStored("listed-1", "raw temp=3")

	// An id that a wss device has is not taken over.
	send("right/wss-1/temp", "forged")
	p := wantProblem(t, b, "gear cannot be allowed")
	if p.Gear != "wss-1" || !strings.Contains(p.Detail, "wss-1") {
		t.Errorf("%+v", p)
	}
	send("right/wss-1/temp", "forged")
	eventually(t, "it stays unknown", func() bool { g, _ := b.seenGear("right", "wss-1"); return g.Messages >= 2 && g.Problem != "" })
	if rows := r.stored("wss-1"); len(rows) != 0 {
		t.Fatalf("gear has written as a wss device: %q", rows)
	}

	// Disabled: nothing is stored; enabled: it is again.
	disable := func(to bool) {
		if _, err := r.registry.Update(t.Context(), "listed-1", func(d *registry.Device) error { d.Disabled = to; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "online", func() bool { return r.live.Presence("listed-1").Online })
	disable(true)
	eventually(t, "offline", func() bool { return !r.live.Presence("listed-1").Online })
	send("left/listed/temp", "6")
	wantProblem(t, b, "device is disabled")
	disable(false)
	send("left/listed/temp", "7")
	r.wantStored("listed-1", "raw temp=3", "raw temp=7")

	// Deleted: unknown again; what allowed itself comes back by itself.
	if err := r.registry.Delete(t.Context(), "listed-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "forgotten", func() bool { _, ok := b.seenGear("left", "listed"); return !ok })
	send("left/listed/temp", "8")
	eventually(t, "unknown", func() bool { g, ok := b.seenGear("left", "listed"); return ok && g.DeviceID == "" })
	r.wantStored("listed-1", "raw temp=3", "raw temp=7")
}

// Two pieces of gear whose names make one device id do not become one device:
// the second is named with the first, and nothing of it is stored.
func TestGearOfOneID(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, strings.Replace(hostileConfig, "devices: [{gear: other}", "auto-allow: [\"*\"]\n        devices: [{gear: other}", 1))
	up(t, b)
	gear := broker.Dial(t, "gear")
	mqtttest.Publish(t, gear, "r/süd/n", 1, false, "1")
	r.wantStored("s-d", "raw n=1")
	mqtttest.Publish(t, gear, "r/säd/n", 1, false, "2")
	p := wantProblem(t, b, "gear cannot be allowed")
	if p.Gear != "säd" || !strings.Contains(p.Detail, "s-d is taken by gear süd of profile raw") {
		t.Errorf("%+v", p)
	}
	mqtttest.Publish(t, gear, "r/süd/n", 1, false, "3")
	r.wantStored("s-d", "raw n=1", "raw n=3")
	_, err := b.Allow(t.Context(), registry.Gear{Broker: "barn", Profile: "raw", Name: "säd"}, "", nil, "")
	if !errors.Is(err, registry.ErrExists) || !strings.Contains(err.Error(), "süd") {
		t.Errorf("%v", err)
	}
	c := Config{Brokers: []BrokerConfig{{Name: "barn", URL: "tcp://h:1", Profiles: []ProfileConfig{{Kind: "tasmota", Devices: []DeviceConfig{{Gear: "süd"}, {Gear: "säd"}}}}}}}
	if err := c.check(); err == nil || !strings.Contains(err.Error(), "gear süd and gear säd have the id s-d both") {
		t.Errorf("%v", err)
	}
}

func TestAllowRefuses(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	r.device(registry.NewDevice{ID: "taken"})
	b, _ := r.bridge(broker.URL, twoKinds)
	up(t, b)
	eventually(t, "the listed device is made", func() bool { g, _ := b.seenGear("left", "listed"); return g.DeviceID == "listed-1" })
	for _, c := range []struct {
		gear registry.Gear
		id   string
		want error
	}{
		{registry.Gear{Broker: "stable", Profile: "left", Name: "x"}, "", ErrUnknownGear},
		{registry.Gear{Broker: "barn", Profile: "middle", Name: "x"}, "", ErrUnknownGear},
		{registry.Gear{Broker: "barn", Profile: "left", Name: ""}, "", registry.ErrInvalid},
		{registry.Gear{Broker: "barn", Profile: "left", Name: "a\nb"}, "", registry.ErrInvalid},
		{registry.Gear{Broker: "barn", Profile: "left", Name: strings.Repeat("x", 129)}, "", registry.ErrInvalid},
		{registry.Gear{Broker: "barn", Profile: "left", Name: "x"}, "no id", registry.ErrInvalid},
		{registry.Gear{Broker: "barn", Profile: "left", Name: "x"}, "taken", registry.ErrExists},
		{registry.Gear{Broker: "barn", Profile: "left", Name: "listed"}, "", registry.ErrExists},
	} {
		if _, err := b.Allow(t.Context(), c.gear, c.id, nil, ""); !errors.Is(err, c.want) {
			t.Errorf("%v as %q: %v; want %v", c.gear, c.id, err, c.want)
		}
	}
}

func TestPresenceOfGear(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, stop := r.bridge(broker.URL, `
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    profiles:
      - kind: raw
        settings:
          topic: "s/{gear}/{field}"
          availability: {topic: "s/{gear}"}
        silence: 0s
        auto-allow: ["*"]
      - kind: raw
        name: quick
        settings: {topic: "q/{gear}/{field}"}
        silence: 1s
        auto-allow: ["*"]
`)
	up(t, b)
	presence := func(id string, online bool, reason string) {
		t.Helper()
		eventually(t, reason, func() bool {
			p := r.live.Presence(id)
			return p.Online == online && p.Reason == reason
		})
	}
	gear := broker.Dial(t, "gear")
	mqtttest.Publish(t, gear, "q/quick/v", 1, false, "1")
	presence("quick", true, "")
	presence("quick", false, "silent for 1s")
	first := r.live.Presence("quick")
	mqtttest.Publish(t, gear, "q/quick/v", 1, false, "1")
	presence("quick", true, "")
	if again := r.live.Presence("quick"); again.Epoch <= first.Epoch || again.RemoteAddr != "mqtt:barn" {
		t.Errorf("%+v after %+v", again, first)
	}
	mqtttest.Publish(t, gear, "s/plug", 1, true, "online")
	presence("plug", true, "")
	mqtttest.Publish(t, gear, "s/plug", 1, true, "offline")
	presence("plug", false, `it said "offline" on its availability topic`)
	mqtttest.Publish(t, gear, "s/plug/v", 1, false, "2")
	presence("plug", true, "")
	broker.Stop(t)
	presence("plug", false, "broker barn is not reachable")
	broker.Start(t)
	up(t, b)
	gear = broker.Dial(t, "gear")
	mqtttest.Publish(t, gear, "s/plug/v", 1, false, "3")
	presence("plug", true, "")
	stop()
	presence("plug", false, "hub stopped")
	r.wantStored("plug", "raw v=2", "raw v=3")
}

// A retained message is old: its readings are not stored again at each
// connection.
func TestRetainedReadingsAreNotStored(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	gear := broker.Dial(t, "gear")
	mqtttest.Publish(t, gear, "left/auto-1/temp", 1, true, "1")
	b, stop := r.bridge(broker.URL, twoKinds)
	eventually(t, "heard", func() bool { g, _ := b.seenGear("left", "auto-1"); return g.DeviceID != "" && g.Messages == 1 })
	if r.live.Presence("l-auto-1").Online {
		t.Error("a retained reading is taken for a sign of life")
	}
	mqtttest.Publish(t, gear, "left/auto-1/temp", 1, true, "2") // retained by the broker, but new
	r.wantStored("l-auto-1", "raw temp=2")
	stop()
	b, _ = r.bridge(broker.URL, twoKinds)
	eventually(t, "heard", func() bool { g, _ := b.seenGear("left", "auto-1"); return g.Messages == 1 })
	mqtttest.Publish(t, gear, "left/auto-1/temp", 1, false, "3")
	r.wantStored("l-auto-1", "raw temp=2", "raw temp=3")
}

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		glob, name string
		want       bool
	}{
		{"*", "", true}, {"*", "a/b", true}, {"a*c", "abc", true}, {"a*c", "ac", true}, {"a*c", "ab", false}, {"a?c", "abc", true},
		{"a?c", "aäc", true}, {"?", "", false}, {"**b", "aab", true}, {"plug-*", "plug-1", true}, {"plug-*", "xplug-1", false},
		{"*a*b*", "xxaxxbxx", true}, {"*a*b*", "xxbxxaxx", false}, {"", "", true}, {"[a]", "a", false},
	} {
		if got := globMatches(c.glob, c.name); got != c.want {
			t.Errorf("%q on %q: %v", c.glob, c.name, got)
		}
	}
}

func TestEverythingIsSubscribedTo(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{[]string{"a/+", "b/#"}, []string{"#"}},
		{[]string{"a"}, []string{"#"}},
		{[]string{"a", "b/c", "$SYS/#", "$SYS/x"}, []string{"$SYS/#", "#"}},
		{[]string{"$SYS/x"}, []string{"$SYS/x"}},
		{nil, nil},
	} {
		if got := everything(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q; want %q", c.in, got, c.want)
		}
	}
}

func TestCover(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{[]string{"a/+", "b/#"}, []string{"a/+", "b/#"}},
		{[]string{"a/#", "a/b", "a"}, []string{"a/#"}},
		{[]string{"a/+", "+/b"}, []string{"+/+"}},
		{[]string{"a/+/c", "a/b/+", "x"}, []string{"a/+/+", "x"}},
		{[]string{"a/b", "c/d", "+/+"}, []string{"+/+"}},
		{[]string{"a/b/c", "a/+/#"}, []string{"a/+/#"}},
		{[]string{"$SYS/#", "#"}, []string{"$SYS/#", "#"}},
		{[]string{"a", "a"}, []string{"a"}},
		{nil, nil},
	} {
		if got := cover(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q; want %q", c.in, got, c.want)
		}
	}
}
