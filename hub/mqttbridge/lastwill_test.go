package mqttbridge

import (
	"strings"
	"testing"

	"github.com/tetherline/tetherline/hub/mqtttest"
)

// Gear that died while the hub was away is offline for its last will, and no
// longer because the hub stopped.
func TestLastWillWhileTheHubWasAway(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	config := strings.Replace(turning, "keep-alive: 2s", "keep-alive: 60s", 1)
	b, stop := r.bridge(broker.URL, config)
	up(t, b)
	g := newTurner(t, r, broker.Endpoint, "lamp", "cmnd/tf/POWER", "tele/tf/LWT", "Online")
	stop()
	if p := r.live.Presence("lamp"); p.Online || p.Reason != hubStopped {
		t.Fatalf("%+v", p)
	}
	mqtttest.Publish(t, g, "tele/tf/LWT", 1, true, "Offline")
	r.bridge(broker.URL, config)
	eventually(t, "the lamp has died", func() bool { return r.live.Presence("lamp").Reason == "last will" })
	if p := r.live.Presence("lamp"); p.Online {
		t.Errorf("%+v", p)
	}
	// What is told later of gear that has died changes nothing.
	r.live.Explain("lamp", hubStopped, "another")
	if p := r.live.Presence("lamp"); p.Reason != "last will" {
		t.Errorf("%+v", p)
	}
}
