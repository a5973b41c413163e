package mqttbridge

import (
	"errors"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/registry"
)

// Gear of a broker or profile that was renamed is told as that, and stays the
// same device by one word of an operator; gear of another broker of the config
// does not take its device over.
func TestRenamedBrokerAndProfile(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	gear := broker.Dial(t, "gear")
	const config = `
brokers:
  - name: BARN
    url: BROKER
    client-id: same
    profiles:
      - {kind: raw, name: PLUGS, settings: {topic: "s/{gear}/{field}"}, AUTO}
`
	named := func(barn, plugs, auto string) string {
		return strings.NewReplacer("BARN", barn, "PLUGS", plugs, "AUTO", auto).Replace(config)
	}
	const auto = `auto-allow: ["*"]`
	b, stop := r.bridge(broker.URL, named("mqtt", "raw", auto))
	up(t, b)
	mqtttest.Publish(t, gear, "s/plug/n", 1, false, "1")
	r.wantStored("plug", "raw n=1")
	want := []string{"raw n=1"}
	for _, c := range []struct{ broker, profile, auto, value, before string }{
		{"barn", "raw", auto, "2", `broker "mqtt", profile "raw"`},
		{"barn", "plugs", "labels: {}", "3", `broker "barn", profile "raw"`},
	} {
		stop()
		b, stop = r.bridge(broker.URL, named(c.broker, c.profile, c.auto))
		up(t, b)
		mqtttest.Publish(t, gear, "s/plug/n", 1, false, "0")
		p := wantProblem(t, b, renamedGear)
		for _, word := range []string{c.before, "no longer has", "hubctl bridge allow " + c.broker + " " + c.profile + " 'plug' --id plug"} {
			if !strings.Contains(p.Detail, word) {
				t.Errorf("%q is missing in %q", word, p.Detail)
			}
		}
		if n := b.Brokers()[0].RenamedGear; n != 1 {
			t.Errorf("%d pieces of renamed gear", n)
		}
		d, err := b.Allow(t.Context(), registry.Gear{Broker: c.broker, Profile: c.profile, Name: "plug"}, "", nil, "")
		if err != nil || d.ID != "plug" || d.Gear.Broker != c.broker || d.Gear.Profile != c.profile {
			t.Fatalf("%+v, %v", d, err)
		}
		eventually(t, "it is the device", func() bool { g, _ := b.seenGear(c.profile, "plug"); return g.DeviceID == "plug" })
		mqtttest.Publish(t, gear, "s/plug/n", 1, false, c.value)
		want = append(want, "raw n="+c.value)
		r.wantStored("plug", want...)
		if n := b.Brokers()[0].RenamedGear; n != 0 {
			t.Errorf("%d pieces of renamed gear are left", n)
		}
	}
	stop()
	// The device is that of a broker of the config: another one has no way to it.
	b, _ = r.bridge(broker.URL, named("barn", "plugs", auto)+strings.Replace(strings.TrimPrefix(named("other", "raw", auto), "\nbrokers:\n"), "same", "other", 1))
	up(t, b)
	if _, err := b.Allow(t.Context(), registry.Gear{Broker: "other", Profile: "raw", Name: "plug"}, "plug", nil, ""); !errors.Is(err, registry.ErrExists) {
		t.Errorf("another broker's gear: %v", err)
	}
	if d, _ := r.registry.Get("plug"); d.Gear.Broker != "barn" {
		t.Errorf("%+v", d.Gear)
	}
}
