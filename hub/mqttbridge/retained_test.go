package mqttbridge

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// retain has the embedded broker retain n messages of QoS 1 with a payload of
// that size, and waits until it finds them.
func retain(t testing.TB, e mqtttest.Endpoint, n, size int) mqtt.Client {
	t.Helper()
	gear := e.Dial(t, "gear")
	var tokens []mqtt.Token
	for i := range n {
		if i >= 50 {
			if err := mqtttest.Wait(t, tokens[i-50]); err != nil {
				t.Fatal(err)
			}
		}
		tokens = append(tokens, gear.Publish(fmt.Sprintf("kept/g%d/n", i), 1, true, "1"+strings.Repeat(" ", size-1)))
	}
	for _, token := range tokens {
		if err := mqtttest.Wait(t, token); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the broker finds what it retains", func() bool {
		c := e.Dial(t, "finder")
		defer c.Disconnect(100)
		select {
		case <-mqtttest.Subscribe(t, c, fmt.Sprintf("kept/g%d/n", n-1), 0):
			return true
		case <-time.After(time.Second):
			return false
		}
	})
	return gear
}

// More messages of QoS 1 are retained than the embedded broker sends ahead:
// what gear publishes meanwhile is not left to its redelivery.
func TestRetainedMessagesHoldUpNoOthers(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, natsd.Config{MQTT: &natsd.MQTTConfig{}})
	e := r.openBroker()
	const n = 1500
	gear := retain(t, e, n, 1)
	config := counterConfig + `      - {kind: raw, name: kept, settings: {topic: "kept/{gear}/{field}"}}
`
	var log journal
	b, stop := r.bridgeWith(EmbeddedURL, config, func(d *Deps) { d.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	up(t, b)
	sent := 0
	for start := time.Now(); time.Since(start) < 2*retainedPause; {
		publishNumbers(t, gear, "a/x/n", sent, 20)
		sent += 20
	}
	eventually(t, "all is stored", func() bool { return len(r.numbers("counter")) == sent })
	if !strings.Contains(log.String(), "held up behind retained messages") {
		t.Error("the session was not begun again")
	}
	eventually(t, "all is acknowledged", func() bool { return b.Brokers()[0].PendingMessages == 0 })
	stop()
	publishNumbers(t, gear, "a/x/n", sent, 1000)
	sent += 1000
	b, _ = r.bridge(EmbeddedURL, config)
	up(t, b)
	eventually(t, "what has waited is stored", func() bool { return len(r.numbers("counter")) == sent })
}

// What is retained does not fit into the room for messages: it is taken as
// there is room, and the session is not begun for ever.
func TestRetainedMessagesWithoutRoom(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, natsd.Config{MQTT: &natsd.MQTTConfig{}})
	e := r.openBroker()
	const n = 60
	gear := retain(t, e, n, 64<<10-1)
	b, _ := r.bridge(EmbeddedURL, strings.Replace(counterConfig, "    profiles:", fmt.Sprintf("    max-pending-bytes: %d\n    profiles:", MinPendingBytes), 1)+
		`      - {kind: raw, name: kept, settings: {topic: "kept/{gear}/{field}", type: text}}
`)
	up(t, b)
	eventually(t, "all have come", func() bool { return b.Brokers()[0].Messages >= n })
	publishNumbers(t, gear, "a/x/n", 0, 100)
	eventually(t, "what comes besides is stored", func() bool { return len(r.numbers("counter")) == 100 })
	if p := b.problemOf("no room"); p.Count > 0 {
		t.Errorf("%+v", p)
	}
}
