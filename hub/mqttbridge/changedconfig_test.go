package mqttbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// publishNumbers publishes first to first+n-1 at QoS 1, and waits until the
// broker has acknowledged them.
func publishNumbers(t testing.TB, c mqtt.Client, topic string, first, n int) {
	t.Helper()
	var tokens []mqtt.Token
	for i := range n {
		tokens = append(tokens, c.Publish(topic, 1, false, fmt.Sprint(first+i)))
	}
	for _, token := range tokens {
		if err := mqtttest.Wait(t, token); err != nil {
			t.Fatal(err)
		}
	}
}

// numbers are how often each was stored.
func (r *rig) numbers(device string) map[int64]int {
	times := make(map[int64]int)
	for _, row := range r.all() {
		if row.Device == device {
			times[row.Fields[0].Value.Int64()]++
		}
	}
	return times
}

// The config changes while the bridge is away and messages wait: filters are
// widened, narrowed and gone, and what waits for gear that is still there is
// stored, once.
func TestChangedConfigLosesNothingThatWaits(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{MaxInflight: 100}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		const n = 300
		gear := e.Dial(t, "gear")
		sent := 0
		for i, besides := range []string{"", `"{gear}/y/{field}"`, `"b/{gear}/{field}"`, ""} {
			config := counterConfig
			if besides != "" {
				config += "      - {kind: raw, name: other, settings: {topic: " + besides + "}}\n"
			}
			b, stop := r.bridge(url, config)
			up(t, b)
			eventually(t, "all that waited is stored", func() bool { return len(r.numbers("counter")) == sent })
			eventually(t, "all is acknowledged", func() bool { return b.Brokers()[0].PendingMessages == 0 })
			stop()
			t.Logf("config %d: %d messages, subscribed to %s", i, sent, r.subscribed())
			publishNumbers(t, gear, "a/x/n", sent, n)
			sent += n
		}
		at := make(map[int64]int64)
		for _, row := range r.all() {
			number := row.Fields[0].Value.Int64()
			if known, stored := at[number]; stored && known != row.Time {
				t.Fatalf("%d is there twice", number)
			}
			at[number] = row.Time
		}
	})
}

const counterConfig = `
brokers:
  - name: barn
    url: BROKER
    profiles:
      - {kind: raw, name: a, settings: {topic: "a/{gear}/{field}", type: integer}, devices: [{gear: x, id: counter}]}
`

// subscribed is the file that says what the bridge's session is subscribed to.
func (r *rig) subscribed() string {
	text, err := os.ReadFile(filepath.Join(r.dir, "bridge", "barn.subscriptions"))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// An earlier version, or config, has subscribed to less on the embedded broker,
// which drops what waits under a subscription that ends: it ends when all of
// that is stored. What is published meanwhile may be there twice.
func TestOlderSubscriptionOfTheEmbeddedBrokerIsTakenFirst(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, natsd.Config{MQTT: &natsd.MQTTConfig{}})
	e := r.openBroker()
	const n = 300
	const session = "tetherline-test-barn"
	old := mqtttest.Endpoint{URL: e.URL, User: "$bridge"}.Dial(t, session, func(o *mqtt.ClientOptions) { o.SetCleanSession(false) })
	mqtttest.Subscribe(t, old, "+/+/#", 1)
	old.Disconnect(100)
	if err := os.MkdirAll(filepath.Join(r.dir, "bridge"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := subscribed{filepath.Join(r.dir, "bridge", "barn.subscriptions")}
	if err := before.save(subscription{EmbeddedURL, session, []string{"+/+/#"}}); err != nil {
		t.Fatal(err)
	}
	gear := e.Dial(t, "gear")
	publishNumbers(t, gear, "a/x/n", 0, n)

	// The buffer is full: the hub is stopped before it has taken anything.
	r.full.Store(true)
	b, stop := r.bridge(EmbeddedURL, counterConfig)
	up(t, b)
	eventually(t, "they have come", func() bool { return b.Brokers()[0].PendingMessages >= n })
	publishNumbers(t, gear, "a/x/n", n, 10)
	if text := r.subscribed(); !strings.Contains(text, "+/+/#") || len(r.all()) > 0 {
		t.Errorf("subscribed to %s with %d of the messages stored", text, len(r.all()))
	}
	stop()

	b, stop = r.bridge(EmbeddedURL, counterConfig)
	up(t, b)
	publishNumbers(t, gear, "a/x/n", n+10, 10)
	r.full.Store(false)
	eventually(t, "all is stored", func() bool { return len(r.numbers("counter")) == n+20 })
	eventually(t, "the older subscription has ended", func() bool { return !strings.Contains(r.subscribed(), "+/+/#") })
	publishNumbers(t, gear, "a/x/n", n+20, n)
	eventually(t, "all is stored", func() bool { return len(r.numbers("counter")) == 2*n+20 })
	eventually(t, "all is acknowledged", func() bool { return b.Brokers()[0].PendingMessages == 0 })
	stop()
	publishNumbers(t, gear, "a/x/n", 2*n+20, n)
	b, _ = r.bridge(EmbeddedURL, counterConfig)
	up(t, b)
	eventually(t, "all is stored", func() bool { return len(r.numbers("counter")) == 3*n+20 })
}
