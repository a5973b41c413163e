package mqttbridge

import (
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/mqtttest"
)

// Messages that a node has lost are told though it says no more.
func TestSparkplugLossOfASilentNode(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, sparkplugConfig)
	up(t, b)
	node := newSparkplugNode(t, broker.Endpoint)
	node.born("level")
	node.say(1, 1)
	node.seq += 3
	node.say(1, 1)
	eventually(t, "all has come", func() bool { return len(r.values("level")) == 2 })
	if m := mqtttest.Next(t, node.asked); m.Topic() != "spBv1.0/g/NCMD/n" {
		t.Fatal(m.Topic())
	}
	br, now := b.brokers[0], time.Now()
	eventually(t, "the loss is told", func() bool {
		br.mu.Lock()
		now = now.Add(30 * time.Second) // of the bridge's clock
		br.tick(now)
		br.mu.Unlock()
		return b.Brokers()[0].LostQoS0 == 3
	})
	if p := wantProblem(t, b, "messages are lost"); p.Gear != "g/n" || p.Count != 1 || !strings.HasPrefix(p.Detail, "3 messages are missing") {
		t.Errorf("%+v", p)
	}
	if m := mqtttest.Next(t, node.asked); m.Topic() != "spBv1.0/g/NCMD/n" {
		t.Error("the node is not asked again")
	}
}
