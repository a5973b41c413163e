package hub_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// bridgeTo writes a config of the bridge with one broker, "barn", and what
// follows of it, and has the hub use it.
func bridgeTo(t testing.TB, cfg *hub.Config, url, rest string) {
	t.Helper()
	text := fmt.Sprintf("brokers:\n  - name: barn\n    url: %s\n    keep-alive: 2s\n%s", url, rest)
	cfg.MQTTBridge = filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(cfg.MQTTBridge, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// countersOf is a profile that stores what gear of those names sends on
// "c/<gear>/n" as the whole number n of the device of the gear's name.
func countersOf(names ...string) string {
	var b strings.Builder
	b.WriteString("    profiles:\n      - kind: raw\n        name: counters\n        settings: {topic: \"c/{gear}/{field}\", type: integer}\n        devices:\n")
	for _, name := range names {
		fmt.Fprintf(&b, "          - {gear: %s}\n", name)
	}
	return b.String()
}

// barn is the only broker.
func barn(t testing.TB, h hubtest.Endpoint) *operatorv1.Broker {
	t.Helper()
	answer, err := h.Bridges.ListBrokers(t.Context(), connect.NewRequest(&operatorv1.ListBrokersRequest{}))
	if err != nil {
		t.Fatalf("list brokers: %v", err)
	}
	if len(answer.Msg.Brokers) != 1 {
		t.Fatalf("%d brokers", len(answer.Msg.Brokers))
	}
	return answer.Msg.Brokers[0]
}

// connected waits until the hub is connected to the broker.
func connected(t testing.TB, h hubtest.Endpoint) {
	t.Helper()
	hubtest.Eventually(t, "the hub is connected to the broker", func() bool { return barn(t, h).Connected })
}

// countingHub is a hub as a process of its own that stores what counters say,
// connected to the broker.
func (s *site) countingHub(t *testing.T) (*influxtest.Server, *hubtest.Process) {
	t.Helper()
	db := influxtest.Start(t)
	cfg := influxConfig(t, db)
	cfg.LogLevel, cfg.Listen = "error", hubtest.FreeAddr(t)
	s.bridge(t, &cfg, countersOf(countingGear...))
	h := hubtest.StartProcess(t, cfg)
	connected(t, h.Endpoint)
	return db, h
}

// counters is gear that counts: every message is one more than the one
// before.
type counters struct {
	same   bool // they all say the same, always
	again  bool // what the hub has acknowledged may be stored twice
	t      testing.TB
	client mqtt.Client
	out    mqtttest.Outbox
	names  []string
	sent   map[string]int
}

func newCounters(t testing.TB, e mqtttest.Endpoint, names ...string) *counters {
	t.Helper()
	c := &counters{t: t, names: names, sent: make(map[string]int)}
	c.client = e.Dial(t, "gear", mqtttest.Resends(&c.out))
	return c
}

// total is how many were published.
func (c *counters) total() (n int) {
	for _, sent := range c.sent {
		n += sent
	}
	return n
}

// publish n messages with QoS 1, in turn from all gear, and wait until the
// broker has acknowledged them all.
func (c *counters) publish(n int) {
	c.t.Helper()
	c.send(n)
	c.out.Wait(c.t)
}

// send is publish without waiting: what is not acknowledged when a connection
// breaks is sent again on the next.
func (c *counters) send(n int) {
	c.t.Helper()
	for i := range n {
		name := c.names[i%len(c.names)]
		hubtest.Eventually(c.t, "the message is taken", func() bool {
			// An error so early says that the client is between two connections.
			return c.client.Publish(counterTopic(name), 1, false, c.says(name)).Error() == nil
		})
		c.sent[name]++
	}
}

// says is what gear publishes next.
func (c *counters) says(name string) string {
	if c.same {
		return "7"
	}
	return fmt.Sprint(c.sent[name])
}

func counterTopic(name string) string { return "c/" + name + "/n" }

// wantStored waits until everything that was published is stored, and fails
// where something is missing or there twice.
func (c *counters) wantStored(db *influxtest.Server) {
	c.t.Helper()
	var missing, twice int
	deadline := time.Now().Add(hubtest.Patience)
	for {
		missing, twice = c.compare(stored(db, "raw"))
		if missing == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(250 * time.Millisecond) // between polls with a deadline: each reads everything
	}
	if missing != 0 || twice != 0 && !c.again {
		c.t.Fatalf("%d readings are missing, %d are there twice or were never sent", missing, twice)
	}
}

// compare counts what is missing of what was sent, and what is too much. What
// the gear has sent again may be there again.
func (c *counters) compare(devices map[string]map[int64]int64) (missing, twice int) {
	for name, sent := range c.sent {
		seen := make(map[int64]int, sent)
		for _, value := range devices[name] {
			if seen[value]++; value < 0 || value >= int64(sent) || seen[value] > 1 && !c.out.Repeated(counterTopic(name), fmt.Sprint(value)) {
				twice++
			}
		}
		for value := range sent {
			if seen[int64(value)] == 0 {
				missing++
			}
		}
	}
	return missing, twice
}
