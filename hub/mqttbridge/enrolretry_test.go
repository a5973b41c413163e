package mqttbridge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/hub/mqtttest"
)

// registryRoom makes the registry's stream take nothing more, as where the
// disk is full, or lets it again.
func (r *rig) registryRoom(full bool) {
	r.t.Helper()
	js := r.node.JetStream()
	s, err := js.Stream(r.t.Context(), "KV_devices")
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	if cfg.MaxBytes = -1; full {
		cfg.MaxBytes = 1
	}
	if _, err := js.UpdateStream(r.t.Context(), cfg); err != nil {
		r.t.Fatal(err)
	}
}

// While the registry cannot be written, the messages of gear that is to be a
// device are not acknowledged, whether the config lists it or allows it by its
// name: none is lost, also over a restart, and nothing is taken for unknown.
func TestGearWaitsForTheRegistry(t *testing.T) {
	t.Parallel()
	const n = 60
	onEachBroker(t, mqtttest.MosquittoOptions{MaxInflight: 200}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		t.Parallel()
		const config = `
brokers:
  - name: barn
    url: BROKER
    profiles:
      - {kind: raw, settings: {topic: "r/{gear}/{field}"}, auto-allow: ["*"], devices: [{gear: listed}]}
`
		r.registryRoom(true)
		b, stop := r.bridge(url, config)
		up(t, b)
		gear := e.Dial(t, "gear")
		for range 2 {
			flood(t, gear, "r/g-%d/n", n)
			mqtttest.Publish(t, gear, "r/listed/n", 1, false, "1")
		}
		waits := func() {
			t.Helper()
			eventually(t, "all is tried, one again, and waits", func() bool {
				return b.Brokers()[0].Messages == 2*n+2 && b.problemOf("gear cannot be allowed").Count > n+1
			})
			if s := b.Brokers()[0]; s.UnknownGear != 0 || s.Rows != 0 || s.PendingMessages < 2*n+2 {
				t.Fatalf("%+v", s)
			}
		}
		waits()
		if p := b.problemOf("gear cannot be allowed"); !strings.Contains(p.Detail, "trying again") {
			t.Errorf("%+v", p)
		}
		stop()
		b, _ = r.bridge(url, config)
		up(t, b)
		waits()
		r.registryRoom(false)
		for i := range n {
			r.wantStored(fmt.Sprintf("g-%d", i), "raw n=1", "raw n=1")
		}
		r.wantStored("listed", "raw n=1", "raw n=1")
		eventually(t, "everything is settled", func() bool { return b.Brokers()[0].PendingMessages == 0 })
		if s := b.Brokers()[0]; s.UnknownGear != 0 || s.Profiles[0].GearUnknown != 0 {
			t.Errorf("%+v", s)
		}
	})
}
