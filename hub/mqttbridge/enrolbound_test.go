package mqttbridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/registry"
)

// flood publishes one message of each of n pieces of gear.
func flood(t testing.TB, client mqtt.Client, topic string, n int) {
	t.Helper()
	tokens := make([]mqtt.Token, n)
	for i := range tokens {
		tokens[i] = client.Publish(fmt.Sprintf(topic, i), 1, false, "1")
	}
	for _, token := range tokens {
		if err := mqtttest.Wait(t, token); err != nil {
			t.Fatal(err)
		}
	}
}

// Auto-allow enrols as many devices as the config lets it, and says where it
// has stopped; what an operator allows is not bounded.
func TestAutoAllowIsBounded(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, stop := r.bridge(broker.URL, `
brokers:
  - name: barn
    url: BROKER
    profiles:
      - kind: raw
        settings: {topic: "r/{gear}/{field}"}
        auto-allow: ["*"]
        max-devices: 20
        devices: [{gear: listed}]
`)
	up(t, b)
	gear := broker.Dial(t, "gear")
	flood(t, gear, "r/g-%d/n", 50)
	status := func() BrokerStatus { return b.Brokers()[0] }
	eventually(t, "all are heard and settled", func() bool { s := status(); return s.Messages == 50 && s.PendingMessages == 0 })
	if p := status().Profiles[0]; p.GearAllowed != 20 || p.GearUnknown != 31 || status().UnknownGear != 31 {
		t.Errorf("%+v, %d messages of unknown gear", p, status().UnknownGear)
	}
	p := wantProblem(t, b, "too much gear")
	for _, want := range []string{"enrolled its 20 devices", "max-devices", "by hand"} {
		if !strings.Contains(p.Detail, want) {
			t.Errorf("%q is missing in %q", want, p.Detail)
		}
	}
	if g, ok := b.seenGear("raw", "g-49"); !ok || g.DeviceID != "" || g.Problem != p.Detail {
		t.Errorf("gear that is too much: %+v", g)
	}
	if _, err := b.Allow(t.Context(), registry.Gear{Broker: "barn", Profile: "raw", Name: "g-49"}, "", nil, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "allowed by hand", func() bool { g, _ := b.seenGear("raw", "g-49"); return g.DeviceID == "g-49" })
	mqtttest.Publish(t, gear, "r/g-49/n", 1, false, "2")
	r.wantStored("g-49", "raw n=2")
	stop()
	r.wantStored("g-0", "raw n=1")
}

// One profile's flood leaves the unknown gear of others in the list, and
// memory bounded.
func TestUnknownGearIsBoundedByProfile(t *testing.T) {
	var cfg Config
	cfg.Brokers = []BrokerConfig{{Profiles: make([]ProfileConfig, 2)}}
	if got := strangerShare(&cfg); got != maxStrangers/2 {
		t.Errorf("share of one of two: %d", got)
	}
	cfg.Brokers = append(cfg.Brokers, BrokerConfig{Profiles: make([]ProfileConfig, 1000)})
	if got := strangerShare(&cfg); got != leastStrangers {
		t.Errorf("share of one of a thousand: %d", got)
	}
	var quiet, loud strangers
	quiet.init(3)
	loud.init(3)
	now := time.Now()
	quiet.note("sensor", now)
	for i := range 100 {
		loud.note(fmt.Sprint(i), now)
		loud.note("0", now)
	}
	if quiet.find("sensor") == nil || len(loud.known) != 3 || loud.order.Len() != 3 || loud.find("0") == nil || loud.find("99") == nil {
		t.Errorf("%v, %v", quiet.known, loud.known)
	}
	loud.forget(loud.find("99"))
	if len(loud.known) != 2 || loud.order.Len() != 2 {
		t.Errorf("%v", loud.known)
	}
}

// While auto-allow enrols as much as it may, readings of gear that is a device
// become durable: behind the same broker they wait for their turn, behind
// another one they do not wait for the enrolment.
func TestEnrolmentHoldsUpNoOtherBroker(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{MaxInflight: 1000})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, `
brokers:
  - name: barn
    url: BROKER
    profiles:
      - {kind: raw, settings: {topic: "k/{gear}/{field}"}, devices: [{gear: known}]}
      - {kind: raw, name: flood, settings: {topic: "r/{gear}/{field}"}, auto-allow: ["*"], max-devices: 300}
  - name: shed
    url: BROKER
    profiles:
      - {kind: raw, settings: {topic: "s/{gear}/{field}"}, devices: [{gear: other}]}
`)
	up(t, b)
	eventually(t, "the listed gear is a device", func() bool { _, ok := r.registry.Get("known"); _, too := r.registry.Get("other"); return ok && too })
	gear := broker.Dial(t, "gear")
	flood(t, gear, "r/g-%d/n", 1000)
	enrolling := func() bool { _, done := r.registry.Get("g-299"); return !done }
	mqtttest.Publish(t, gear, "k/known/n", 1, false, "1")
	during := 0
	for n := 1; enrolling(); n++ {
		mqtttest.Publish(t, gear, "s/other/n", 1, false, fmt.Sprint(n))
		eventually(t, "a reading behind the other broker", func() bool { return len(r.stored("other")) >= n })
		if enrolling() {
			during++
		}
	}
	if during == 0 {
		t.Error("behind the other broker nothing was stored before the enrolment was over")
	}
	r.wantStored("known", "raw n=1")
	eventually(t, "everything is settled", func() bool { s := b.Brokers()[0]; return s.Messages == 1001 && s.PendingMessages == 0 })
	if s := b.Brokers()[0]; s.Profiles[1].GearAllowed != 300 || s.UnknownGear != 700 {
		t.Errorf("%+v", s)
	}
}
