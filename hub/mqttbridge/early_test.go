package mqttbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/registry"
)

// earlyConfig takes in gear that describes itself.
const earlyConfig = `
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    profiles:
      - kind: homie
        auto-allow: ["h*"]
      - kind: homeassistant
        settings: {state-filters: ["esp/#"]}
        auto-allow: ["esp-*"]
`

// selfDescribing is gear with readings of two kinds that the broker keeps.
type selfDescribing struct {
	t      *testing.T
	client mqtt.Client
	sent   int
}

func newSelfDescribing(t *testing.T, broker *mqtttest.Broker) *selfDescribing {
	t.Helper()
	g := &selfDescribing{t: t, client: broker.Dial(t, "gear")}
	for topic, payload := range map[string]string{
		"homie/h/$homie": "4.0.0", "homie/h/n/p/$datatype": "integer", "homie/h/$state": "ready",
		"homeassistant/sensor/esp-a/v/config": `{"stat_t":"esp/a","val_tpl":"{{ value_json.v }}","stat_cla":"measurement"}`,
		"homeassistant/sensor/esp-a/w/config": `{"stat_t":"esp/a","val_tpl":"{{ value_json.w }}","stat_cla":"measurement"}`,
	} {
		mqtttest.Publish(t, g.client, topic, 1, true, payload)
	}
	return g
}

// send n readings of each kind, and wait until the broker has them.
func (g *selfDescribing) send(n int) {
	g.t.Helper()
	var tokens []mqtt.Token
	for range n {
		tokens = append(tokens, g.client.Publish("homie/h/n/p", 1, false, fmt.Sprint(g.sent)),
			g.client.Publish("esp/a", 1, false, fmt.Sprintf(`{"v":%d,"w":%d}`, g.sent, g.sent)))
		g.sent++
	}
	for _, token := range tokens {
		if err := mqtttest.Wait(g.t, token); err != nil {
			g.t.Fatal(err)
		}
	}
}

// wantAll waits until each reading is there, and wants none under two times.
func (g *selfDescribing) wantAll(r *rig) {
	g.t.Helper()
	var at map[string]map[int64]bool
	eventually(g.t, "all readings are stored", func() bool {
		at = make(map[string]map[int64]bool)
		for _, row := range r.all() {
			for _, f := range row.Fields {
				key := fmt.Sprintf("%s %s=%s", row.Device, f.Name, valueText(f.Value))
				if at[key] == nil {
					at[key] = make(map[int64]bool)
				}
				at[key][row.Time] = true
			}
		}
		return len(at) >= 3*g.sent
	})
	times := make(map[string]map[int64]string)
	for key, all := range at {
		device, what, _ := strings.Cut(key, " ")
		field, _, _ := strings.Cut(what, "=")
		if len(all) != 1 {
			g.t.Errorf("%s is there %d times", key, len(all))
		}
		if times[device+field] == nil {
			times[device+field] = make(map[int64]string)
		}
		for when := range all {
			if other, taken := times[device+field][when]; taken {
				g.t.Errorf("%s and %s have one time", key, other)
			}
			times[device+field][when] = key
		}
	}
	if len(at) != 3*g.sent {
		g.t.Errorf("%d readings of %d", len(at), 3*g.sent)
	}
}

// What the broker has kept comes before what describes it, which is retained:
// not one reading is lost, however many there are.
func TestWhatTheBrokerKeptOfSelfDescribingGear(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	gear := newSelfDescribing(t, broker)
	b, stop := r.bridge(broker.URL, earlyConfig)
	up(t, b)
	gear.send(1)
	gear.wantAll(r)
	for _, n := range []int{1, 6, 12, 48} {
		stop()
		gear.send(n)
		b, stop = r.bridge(broker.URL, earlyConfig)
		gear.wantAll(r)
		for _, p := range b.Brokers()[0].Problems {
			t.Errorf("%+v", p)
		}
	}
}

// The hub ends when it has acknowledged readings that wait for what describes
// them: they are there after the next start, though the broker repeats none,
// and once.
func TestEarlyMessagesOutliveTheHub(t *testing.T) {
	t.Parallel()
	const n = 300
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, stop := r.bridge(broker.URL, earlyConfig)
	up(t, b)
	gear := &selfDescribing{t: t, client: broker.Dial(t, "gear")}
	gear.send(n)
	settled := func() {
		t.Helper()
		eventually(t, "all is acknowledged", func() bool {
			s := b.Brokers()[0]
			return s.Connected && s.PendingMessages == 0 && s.Messages >= 2*n
		})
	}
	settled()
	// As a kill leaves the folder, at any moment.
	killed := filepath.Join(r.dir, "killed")
	if err := os.CopyFS(killed, os.DirFS(filepath.Join(r.dir, "bridge"))); err != nil {
		t.Fatal(err)
	}
	stop()
	for range 2 { // the second time some of it is stored
		folder := func(d *Deps) { d.Dir = killed }
		b, stop = r.bridgeWith(broker.URL, earlyConfig, folder)
		up(t, b)
		newSelfDescribing(t, broker).client.Disconnect(0)
		gear.wantAll(r)
		stop()
	}
	for _, p := range b.Brokers()[0].Problems {
		t.Errorf("%+v", p)
	}
}

// What nothing describes is lost in words, when its time is over and not
// before; the journal is empty then.
func TestEarlyMessagesThatNothingDescribes(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	gear := broker.Dial(t, "gear")
	b, _ := r.bridge(broker.URL, earlyConfig)
	up(t, b)
	for i := range 7 {
		mqtttest.Publish(t, gear, "homie/h/n/p", 1, false, fmt.Sprint(i))
		mqtttest.Publish(t, gear, "homie/stranger/n/p", 1, false, fmt.Sprint(i))
		mqtttest.Publish(t, gear, "esp/nobody", 1, false, fmt.Sprint(i))
	}
	br := b.brokers[0]
	eventually(t, "all is acknowledged", func() bool { s := b.Brokers()[0]; return s.Messages == 21 && s.PendingMessages == 0 })
	look := func(at time.Time) {
		br.mu.Lock()
		defer br.mu.Unlock()
		br.lookAtEarly(at)
	}
	look(time.Now())
	if p := b.problemOf("never described"); p.Count > 0 {
		t.Fatalf("%+v", p)
	}
	br.mu.Lock()
	if n := len(br.early.known); n != 14 {
		t.Errorf("%d messages wait; want those of gear that may be allowed, and of gear that is not known", n)
	}
	br.early.draining, br.early.until = false, time.Now().Add(-time.Second)
	br.mu.Unlock()
	look(time.Now())
	if p := b.problemOf("never described"); p.Count != 7 || p.Profile != "homie" || p.Gear != "h" || !strings.Contains(p.Detail, "7 messages") {
		t.Errorf("%+v", p)
	}
	if p := b.problemOf("of no gear"); p.Count != 1 || !strings.Contains(p.Detail, "7 messages") {
		t.Errorf("%+v", p)
	}
	br.mu.Lock()
	defer br.mu.Unlock()
	if e := &br.early; len(e.known) != 0 || len(e.hashes) != 0 || e.bytes != 0 || len(e.waiting) != 0 || e.journal.live != 0 || e.journal.size != 0 {
		t.Errorf("%+v is left, in %+v", e.waiting, e.journal)
	}
}

// A broker that sends what it has kept is not timed, one that sends little
// is.
func TestHowLongEarlyMessagesWait(t *testing.T) {
	r := newRig(t)
	b, _ := r.bridge("tcp://127.0.0.1:1", earlyConfig)
	br := b.brokers[0]
	br.mu.Lock()
	defer br.mu.Unlock()
	now := time.Now()
	br.connected, br.since = true, now
	br.early.begin(now, 0)
	for range 100 {
		now = now.Add(2 * time.Second)
		br.counts.messages += 1000
		br.lookAtEarly(now)
	}
	if !br.early.draining {
		t.Error("a drain is over that goes on")
	}
	now = now.Add(2 * time.Second)
	br.counts.messages += 10
	br.lookAtEarly(now)
	if br.early.draining || br.early.until != now.Add(earlyFor) {
		t.Errorf("the drain is over: %+v, until %v", br.early.draining, br.early.until)
	}
	br.early.begin(now, br.counts.messages)
	br.counts.messages += 1e9
	br.lookAtEarly(br.since.Add(maxDrain + time.Hour))
	if br.early.draining {
		t.Error("a drain may last for ever")
	}
}

func TestEarlyMessagesAreBounded(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, earlyConfig)
	up(t, b)
	br := b.brokers[0]
	br.mu.Lock()
	br.early.bytes = maxEarlyBytes - 2*earlyOverhead
	br.mu.Unlock()
	gear := broker.Dial(t, "gear")
	for i := range 5 {
		mqtttest.Publish(t, gear, "homie/h/n/p", 1, false, fmt.Sprint(i))
	}
	p := wantProblem(t, b, "no room for early messages")
	eventually(t, "all is acknowledged", func() bool { s := b.Brokers()[0]; return s.PendingMessages == 0 && s.Messages == 5 })
	if p = b.problemOf(p.Reason); p.Count != 4 || p.Gear != "h" {
		t.Errorf("%+v", p)
	}
}

func TestEarlyJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.early")
	open := func(want ...string) *earlyJournal {
		t.Helper()
		j, found, err := openEarlyJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range found {
			text := fmt.Sprintf("%d %d %s %s %s", r.id, r.at, r.profile, r.topic, r.payload)
			if r.note != nil {
				text += fmt.Sprintf(" (%s)", r.note)
			}
			got = append(got, text)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q; want %q", got, want)
		}
		return j
	}
	none := func(func(*earlyRecord) bool) {}
	j := open()
	var all []*earlyRecord
	for i := range 4 {
		r := &earlyRecord{at: int64(100 + i), profile: "p", topic: "t/u", payload: []byte(fmt.Sprint("v", i))}
		j.add(r)
		all = append(all, r)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(j.sync())
	j.done(all[1])
	check(j.flush(none))
	check(j.close())
	// A record that is not whole, and one that is wrong.
	text, err := os.ReadFile(path)
	check(err)
	check(os.WriteFile(path, text[:len(text)-3], 0o600))
	check(open("1 100 p t/u v0", "2 101 p t/u v1", "3 102 p t/u v2", "4 103 p t/u v3").close())
	check(os.WriteFile(path, append(slices.Clone(text), 1, 2, 3), 0o600))
	check(open("1 100 p t/u v0", "3 102 p t/u v2", "4 103 p t/u v3").close())
	bad := slices.Clone(text)
	bad[2*all[0].size()+20] ^= 1
	check(os.WriteFile(path, bad, 0o600))
	j = open("1 100 p t/u v0", "2 101 p t/u v1")
	// It goes on behind what is good.
	r := &earlyRecord{at: 7, profile: "q", topic: "w", note: []byte("note")}
	j.add(r)
	check(j.sync())
	check(j.rewrite(slices.Values([]*earlyRecord{all[0], r})))
	check(j.close())
	j = open("1 100 p t/u v0", "3 7 q w  (note)")
	for _, r := range []*earlyRecord{all[0], r} {
		j.done(r)
	}
	check(j.flush(none))
	if j.live != 0 || j.size != 0 {
		t.Errorf("%+v", j)
	}
	check(j.close())
	check(open().close())
	// What fails is tried again.
	j = open()
	j.add(all[0])
	check(j.file.Close())
	if j.sync() == nil || !j.unsynced || len(j.unwritten) == 0 {
		t.Errorf("%+v", j)
	}
}

// A repetition of what waits is not kept again, and a reading that comes with
// what describes an earlier one has another time.
func TestEarlyMessagesAreKeptOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b, _ := r.bridge("tcp://127.0.0.1:1", earlyConfig)
	if _, err := b.Allow(t.Context(), registry.Gear{Broker: "barn", Profile: "homie", Name: "h"}, "", nil, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gear is known", func() bool { g, _ := b.seenGear("homie", "h"); return g.DeviceID != "" })
	br := b.brokers[0]
	br.mu.Lock()
	defer br.mu.Unlock()
	s := &link{begun: make(chan struct{}), resumed: true}
	close(s.begun)
	now := time.Now()
	decode := func(topic, payload string, id uint16, dup, retained bool) *arrival {
		a := &arrival{session: s, topic: topic, payload: []byte(payload), id: id, dup: dup, retained: retained, received: now}
		br.decode(a)
		return a
	}
	decode("homie/h/n/p", "1", 5, false, false)
	first := decode("homie/h/n/p", "1", 6, false, false)
	again := decode("homie/h/n/p", "1", 6, true, false)
	if n := br.early.journal.next - 1; n != 2 || again.first != first.first || first.first == 0 {
		t.Errorf("%d messages are kept; the repetition came at %d, the message at %d", n, again.first, first.first)
	}
	decode("homie/h/n/p/$datatype", "integer", 0, false, true)
	live := decode("homie/h/n/p", "2", 7, false, false)
	if len(live.entries) != 1 || live.first <= first.first {
		t.Errorf("%d rows, at %d, after one of %d that waits", len(live.entries), live.first, first.first)
	}
	br.queue, br.encoded = nil, 0 // of no session
}
