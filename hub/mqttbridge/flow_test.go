package mqttbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/registry"
)

// With a full buffer nothing is acknowledged, what waits is bounded, QoS 0
// beyond it is lost and counted, and QoS 1 comes again when there is room:
// all of it, once, in order.
func TestAFullBuffer(t *testing.T) {
	const most, n = MinPendingBytes, 3000
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{MaxInflight: 5000})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, fmt.Sprintf(`
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    max-pending-bytes: %d
    profiles:
      - kind: raw
        settings: {topic: "s/{gear}/{field}", type: text}
        devices: [{gear: sure}, {gear: perhaps}]
`, most))
	up(t, b)
	eventually(t, "the gear is allowed", func() bool { g, _ := b.seenGear("raw", "perhaps"); return g.DeviceID != "" })
	gear := broker.Dial(t, "gear")
	r.full.Store(true)
	var tokens []mqtt.Token
	for i := range n {
		tokens = append(tokens, gear.Publish("s/sure/n", 1, false, fmt.Sprint(i, " ", strings.Repeat("x", 200))))
		tokens = append(tokens, gear.Publish("s/perhaps/n", 0, false, fmt.Sprint(i, " ", strings.Repeat("x", 200))))
	}
	for _, token := range tokens {
		if err := mqtttest.Wait(t, token); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "QoS 0 is lost", func() bool { return b.Brokers()[0].LostQoS0 > 0 })
	s := b.Brokers()[0]
	if s.PendingBytes > most || s.PendingBytes < most/2 || s.PendingMessages == 0 || s.Rows != 0 {
		t.Errorf("%+v", s)
	}
	r.full.Store(false)
	eventually(t, "everything of QoS 1 is stored", func() bool {
		times := make(map[int64]bool)
		for _, row := range r.all() {
			if row.Device == "sure" {
				times[row.Time] = true
			}
		}
		return len(times) >= n
	})
	eventually(t, "nothing is left", func() bool { s := b.Brokers()[0]; return s.PendingMessages == 0 && s.PendingBytes == 0 && s.Connected })
	s = b.Brokers()[0]
	seen, last, again := make(map[int64]string), -1, 0
	for _, row := range r.all() {
		if row.Device != "sure" {
			continue
		}
		value := row.Fields[0].Value.Str()
		if known, ok := seen[row.Time]; ok {
			if again++; known != value {
				t.Fatalf("%.10q and %.10q have one time", known, value)
			}
			continue
		}
		seen[row.Time] = value
		var i int
		if _, err := fmt.Sscan(value, &i); err != nil || i != last+1 {
			t.Fatalf("%d comes after %d", i, last)
		}
		last = i
	}
	if len(seen) != n {
		t.Errorf("%d readings of %d", len(seen), n)
	}
	if got := uint64(len(r.stored("perhaps"))); got+s.LostQoS0 != n {
		t.Errorf("%d readings of QoS 0 stored and %d counted as lost; %d were sent", got, s.LostQoS0, n)
	}
}

const hostileConfig = `
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    profiles:
      - kind: json
        settings: {topic: "j/{gear}"}
        auto-allow: ["*"]
      - kind: raw
        settings: {topics: ["r/{gear}/{field}", "j/{gear}"]}
        devices: [{gear: other}, {gear: good, id: good-raw}]
`

// Whatever one piece of gear sends is refused with a reason, and disturbs no
// other.
func TestHostileMessages(t *testing.T) {
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		r.device(registry.NewDevice{ID: "wss"})
		b, _ := r.bridge(url, hostileConfig)
		up(t, b)
		gear := e.Dial(t, "gear")
		send := func(topic string, payload any) { t.Helper(); mqtttest.Publish(t, gear, topic, 1, false, payload) }
		want := []string{}
		good := func() {
			t.Helper()
			send("j/good", fmt.Sprintf(`{"n":%d}`, len(want)))
			want = append(want, fmt.Sprintf("json n=%d", len(want)))
			r.wantStored("good", want...)
		}
		good()
		if p := wantProblem(t, b, "topic matches two profiles"); p.Topic != "j/good" || p.Profile != "raw" {
			t.Errorf("%+v", p)
		}
		refused := func() (n uint64) {
			for _, p := range b.Brokers()[0].Problems {
				n += p.Count
			}
			return n - b.problemOf("topic matches two profiles").Count
		}
		for what, payload := range map[string]any{
			"not JSON":             `{"n":`,
			"not UTF-8":            "{\"n\":\"\xff\xfe\"}",
			"deep":                 strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000),
			"no number of a store": `{"n":1e999}`,
		} {
			before := refused()
			send("j/bad", payload)
			eventually(t, what+" is refused", func() bool { return refused() > before })
			good()
		}

		// What the embedded broker does not take ends a connection, of which it tells.
		for what, m := range map[string]struct{ topic, payload string }{
			"10 MB": {"j/bad", strings.Repeat("9", 10<<20)}, "a topic that is not UTF-8": {"j/\xff\xfe", "1"}, "of the broker": {"$SYS/broker/x", "1"},
		} {
			c := e.Dial(t, "hostile "+what, func(o *mqtt.ClientOptions) { o.SetAutoReconnect(false) })
			c.Publish(m.topic, 0, false, m.payload)
			if what == "10 MB" {
				p := wantProblem(t, b, "too large")
				if p.Count != 1 || url != EmbeddedURL && (p.Topic != "j/bad" || p.Profile != "json") ||
					url == EmbeddedURL && (!strings.Contains(p.Detail, "hostile 10 MB") || !strings.Contains(p.Detail, "a message of 104857") || !strings.Contains(p.Detail, "takes 1048576")) {
					t.Errorf("%+v", p)
				}
			} else if url == EmbeddedURL {
				eventually(t, what+" is told", func() bool {
					return slices.ContainsFunc(b.Brokers()[0].Problems, func(p Problem) bool { return strings.Contains(p.Detail, "hostile "+what) })
				})
			}
			good()
		}

		// Names of other devices in the payload, and in the topic.
		send("j/bad", `{"device":"wss","gear":"good","n":1,"Device":"wss"}`)
		send("r/good/n", "77") // the gear of that name, but of another profile
		send("r/wss/n", "77")
		r.wantStored("good-raw", "raw n=77")
		r.wantStored("good", want...)
		if rows := r.stored("wss"); len(rows) > 0 {
			t.Errorf("gear has written as a wss device: %q", rows)
		}

		// More fields than a device may have: those that fit are kept.
		var many strings.Builder
		for i := range 200 {
			fmt.Fprintf(&many, `"f%d":1,`, i)
		}
		fields := strings.TrimSuffix(many.String(), ",")
		send("j/wide", "{"+fields+"}")
		send("j/wide", "{"+strings.ReplaceAll(fields, `"f`, `"g`)+"}")
		eventually(t, "too many fields are refused", func() bool {
			return slices.ContainsFunc(b.Brokers()[0].Problems, func(p Problem) bool {
				return p.Reason == "too many fields" && strings.Contains(p.Detail, "at most 256 fields") && strings.Contains(p.Detail, "omit or only")
			})
		})
		send("j/wide", `{"f1":2}`)
		eventually(t, "what fits is stored", func() bool { rows := r.stored("wide"); return len(rows) == 2 && rows[1] == "json f1=2" })
		good()
		eventually(t, "everything is acknowledged", func() bool { return b.Brokers()[0].PendingMessages == 0 })
	})
}

// Tens of thousands of topics that nobody knows do not grow memory, and what
// is known goes on.
func TestManyTopicsOfNobody(t *testing.T) {
	onEachBroker(t, mqtttest.MosquittoOptions{MaxInflight: 1000}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		topics := 50_000
		if url == EmbeddedURL {
			topics = 25_000 // it is the slower one
		}
		// With QoS 0 a connection that is lost takes messages with it.
		b, _ := r.bridge(url, strings.NewReplacer(`"*"`, "good", "keep-alive: 2s", "keep-alive: 5m").Replace(hostileConfig))
		up(t, b)
		heap := func() int64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		flood := dialRaw(t, e)
		publish := func(from, to int) {
			t.Helper()
			qos := byte(1)
			if url == EmbeddedURL {
				qos = 0 // which does not write to the disk
			}
			var batch []byte
			for i := from; i < to; i++ {
				batch = append(batch, publishPacket(t, fmt.Sprintf("r/nobody-%d/%s", i, strings.Repeat("x", 500)), qos, []byte("1"))...)
				if i%500 == 499 || i == to-1 {
					if _, err := flood.Write(batch); err != nil {
						t.Fatal(err)
					}
					batch = batch[:0]
					eventually(t, "all are heard, or counted as lost", func() bool {
						st := b.Brokers()[0]
						return st.UnknownGear+st.LostQoS0 > uint64(i)
					})
				}
			}
		}
		publish(0, 2*maxStrangers)
		before := heap()
		publish(2*maxStrangers, topics)
		if grown := heap() - before; grown > 8<<20 {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
		if got := len(b.Gear("barn")); got > maxStrangers/2+2 || got < maxStrangers/2 { // one profile of two
			t.Errorf("%d pieces of gear are listed", got)
		}
		if b.Brokers()[0].LostQoS0 == 0 && !slices.ContainsFunc(b.Gear("barn"), func(g SeenGear) bool { return g.Gear.Name == fmt.Sprintf("nobody-%d", topics-1) }) {
			t.Error("the last one that was heard is not listed")
		}
		mqtttest.Publish(t, e.Dial(t, "gear"), "j/good", 1, false, `{"n":1}`)
		r.wantStored("good", "json n=1")
	})
}

// A user and a password from a file that is read again, a certificate of the
// client, and a broker that has forgotten the session.
func TestAccessToABroker(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{ClientCertTLS: true, Users: map[string]string{"hub": "secret", "gear": "gear"},
		ACL: []string{"user gear", "topic readwrite #", "user hub", "topic read r/#"}})
	r := newRig(t)
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(password, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong\n")
	cert, key := broker.ClientCertFiles()
	b, _ := r.bridge(broker.URL, fmt.Sprintf(`
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    user: hub
    password-file: %s
    ca: %s
    cert: %s
    key: %s
    profiles:
      - kind: raw
        settings: {topic: "r/{gear}/{field}"}
        auto-allow: ["*"]
`, password, broker.CAFile(), cert, key))
	eventually(t, "a wrong password is refused", func() bool {
		return strings.Contains(b.Brokers()[0].Error, "refuses user or password")
	})
	write("secret\n")
	up(t, b)
	if s := b.Brokers()[0]; strings.Contains(fmt.Sprintf("%+v", s), "secret") {
		t.Error("the password is shown")
	}
	gear := broker.Dial(t, "gear", mqtttest.As("gear", "gear"))
	mqtttest.Publish(t, gear, "r/a/n", 1, false, "1")
	r.wantStored("a", "raw n=1")
	broker.Kill(t) // without persistence, so that nothing is remembered
	broker.Start(t)
	wantProblem(t, b, "session lost")
	up(t, b)
	gear = broker.Dial(t, "gear", mqtttest.As("gear", "gear"))
	mqtttest.Publish(t, gear, "r/a/n", 1, false, "2")
	r.wantStored("a", "raw n=1", "raw n=2")
}

// A filter that the config does not have any more is ended, though the session
// stays; what was published meanwhile is not lost.
func TestFiltersThatChange(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	config := func(topic string) string {
		return fmt.Sprintf(`
brokers:
  - name: barn
    url: BROKER
    profiles:
      - kind: raw
        settings: {topics: ["%s/{gear}/{field}", "kept/{gear}/{field}"]}
        auto-allow: ["*"]
`, topic)
	}
	gear := broker.Dial(t, "gear")
	b, stop := r.bridge(broker.URL, config("old"))
	up(t, b)
	stop()
	mqtttest.Publish(t, gear, "kept/a/n", 1, false, "1")
	b, stop = r.bridge(broker.URL, config("new"))
	up(t, b)
	r.wantStored("a", "raw n=1")
	mqtttest.Publish(t, gear, "old/a/n", 1, false, "2")
	mqtttest.Publish(t, gear, "new/a/n", 1, false, "3")
	r.wantStored("a", "raw n=1", "raw n=3")
	if n := b.Brokers()[0].Messages; n != 2 {
		t.Errorf("%d messages; want 2: the old filter is still there", n)
	}
	stop()
	broker.Stop(t) // and what it knew is gone
	broker.Start(t)
	b, _ = r.bridge(broker.URL, config("new"))
	wantProblem(t, b, "session lost")
}
