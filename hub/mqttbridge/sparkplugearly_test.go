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
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/hub/mqtttest"
	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// sparkplugNode is a node "g/n" that answers requests for its birth when it is
// told to.
type sparkplugNode struct {
	t      *testing.T
	client mqtt.Client
	asked  <-chan mqtt.Message
	seq    uint64
	sent   int
}

func newSparkplugNode(t *testing.T, e mqtttest.Endpoint) *sparkplugNode {
	t.Helper()
	n := &sparkplugNode{t: t, client: e.Dial(t, "gear")}
	n.asked = mqtttest.Subscribe(t, n.client, "spBv1.0/g/NCMD/n", 1)
	return n
}

func (n *sparkplugNode) publish(verb string, qos byte, metrics ...*sparkplugv1.Payload_Metric) {
	n.t.Helper()
	mqtttest.Publish(n.t, n.client, "spBv1.0/g/"+verb+"/n", qos, false, sparkplugPayload(n.t, n.seq, metrics...))
	n.seq = (n.seq + 1) % 256
}

// born with those names, under aliases that count from 1 on.
func (n *sparkplugNode) born(names ...string) {
	n.t.Helper()
	all := []*sparkplugv1.Payload_Metric{{Name: proto.String("bdSeq"), Datatype: proto.Uint32(uint32(sparkplugv1.DataType_Int64)),
		Value: &sparkplugv1.Payload_Metric_LongValue{LongValue: 3}}}
	for i, name := range names {
		m := levelMetric(name, -1)
		m.Alias = proto.Uint64(uint64(i + 1))
		all = append(all, m)
	}
	n.seq = 0
	n.publish("NBIRTH", 1, all...)
}

// say the next number of each of so many aliases.
func (n *sparkplugNode) say(messages, aliases int) {
	n.t.Helper()
	for range messages {
		var all []*sparkplugv1.Payload_Metric
		for i := range aliases {
			m := levelMetric("", float64(n.sent))
			m.Alias, m.Datatype = proto.Uint64(uint64(i+1)), nil
			all = append(all, m)
		}
		n.publish("NDATA", 1, all...)
		n.sent++
	}
}

// values of a field are those that were stored, without those of births,
// sorted, each as often as it is there under another time.
func (r *rig) values(field string) (all []float64) {
	at := make(map[string]bool)
	for _, row := range r.all() {
		for _, f := range row.Fields {
			key := fmt.Sprint(row.Time, f.Value.Float64())
			if f.Name == field && f.Value.Float64() >= 0 && !at[key] {
				at[key] = true
				all = append(all, f.Value.Float64())
			}
		}
	}
	slices.Sort(all)
	return all
}

// holds is how many messages wait.
func (b *broker) holds() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.early.known)
}

// What a node has said while the hub was away, or since, before it has answered
// the request for its birth, is stored when it has, over another kill of the
// hub, and once; and where the birth says that an alias stands for something
// else by now, what came before is stored as neither.
func TestSparkplugReadingsBeforeTheBirth(t *testing.T) {
	t.Parallel()
	const kept, live = 40, 5
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, stop := r.bridge(url, sparkplugConfig)
		up(t, b)
		node := newSparkplugNode(t, e)
		node.born("level", "flow")
		node.say(1, 2)
		eventually(t, "the node is known", func() bool { return len(r.values("flow")) == 1 })
		stop()
		node.say(kept, 2)
		b, stop = r.bridge(url, sparkplugConfig)
		mqtttest.Next(t, node.asked)
		node.say(live, 2)
		eventually(t, "all waits and is acknowledged", func() bool {
			s := b.Brokers()[0]
			return s.Connected && s.PendingMessages == 0 && b.brokers[0].holds() == kept+live
		})
		// As a kill leaves the folder.
		killed := filepath.Join(r.dir, "killed")
		if err := os.CopyFS(killed, os.DirFS(filepath.Join(r.dir, "bridge"))); err != nil {
			t.Fatal(err)
		}
		stop()
		if n := len(r.values("level")); n != 1 {
			t.Fatalf("%d values are stored before the birth", n)
		}
		b, stop = r.bridgeWith(url, sparkplugConfig, func(d *Deps) { d.Dir = killed })
		mqtttest.Next(t, node.asked) // though the node says nothing
		node.born("level", "pressure")
		eventually(t, "all that can be told is stored", func() bool { return len(r.values("level")) >= 1+kept+live })
		p := wantProblem(t, b, "part of a message is not usable")
		if !strings.Contains(p.Detail, `"flow" is not in the new birth`) {
			t.Errorf("%+v", p)
		}
		eventually(t, "nothing waits", func() bool { return b.brokers[0].holds() == 0 })
		stop()
		level := r.values("level")
		for i, v := range level {
			if v != float64(i) {
				t.Fatalf("%v are stored of level", level)
			}
		}
		if flow, pressure := r.values("flow"), r.values("pressure"); len(level) != 1+kept+live || len(flow) != 1 || len(pressure) != 0 {
			t.Errorf("%d of level, %v of flow, %v of pressure", len(level), flow, pressure)
		}
	})
}

// A node whose birth has been asked for is no trouble, and what it said is
// stored without a word when it answers.
func TestSparkplugRestartWithoutTrouble(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		node := newSparkplugNode(t, e)
		for round := range 3 { // the first time nothing is known of it
			b, stop := r.bridge(url, sparkplugConfig)
			up(t, b)
			node.say(3, 2)
			mqtttest.Next(t, node.asked)
			node.born("level", "flow")
			node.say(3, 2)
			last := float64(node.sent - 1)
			eventually(t, "the last is stored", func() bool { return slices.Contains(r.values("level"), last) })
			want := 6*round + 3
			eventually(t, "all since the first birth is stored", func() bool { return len(r.values("flow")) == want })
			if problems := b.Brokers()[0].Problems; len(problems) > 0 {
				t.Errorf("round %d: %+v", round, problems)
			}
			stop()
		}
	})
}

// What waits for a birth waits for days, takes half the room and no more, and
// is lost in words.
func TestHowLongSparkplugMessagesWait(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, sparkplugConfig)
	up(t, b)
	node := newSparkplugNode(t, broker.Endpoint)
	br := b.brokers[0]
	named := func() { node.publish("NDATA", 1, levelMetric("level", 1)) }
	for range 7 {
		named()
	}
	eventually(t, "all waits and is acknowledged", func() bool { return br.holds() == 7 && b.Brokers()[0].PendingMessages == 0 })
	look := func(after time.Duration) int {
		br.mu.Lock()
		defer br.mu.Unlock()
		br.early.draining, br.early.until = false, time.Now().Add(-time.Second)
		br.lookAtEarly(time.Now().Add(after))
		return len(br.early.known)
	}
	if n := look(6 * 24 * time.Hour); n != 7 {
		t.Errorf("%d messages wait", n)
	}
	br.mu.Lock()
	br.early.bytes += maxPatientBytes
	br.mu.Unlock()
	named()
	if p := wantProblem(t, b, "no room for early messages"); p.Count != 1 || p.Gear != "g/n" {
		t.Errorf("%+v", p)
	}
	if n := look(8 * 24 * time.Hour); n != 0 {
		t.Errorf("%d messages wait", n)
	}
	if p := b.problemOf("never described"); p.Count != 7 || p.Gear != "g/n" || !strings.Contains(p.Detail, "168h") {
		t.Errorf("%+v", p)
	}
}

// Messages that a node misses in its own count are counted as lost, those of
// the hub's own dropping once.
func TestSparkplugLostMessages(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, _ := r.bridge(url, sparkplugConfig)
		up(t, b)
		node := newSparkplugNode(t, e)
		node.born("level")
		node.say(3, 1)
		node.seq += 5
		node.say(2, 1)
		mqtttest.Next(t, node.asked)
		node.born("level")
		eventually(t, "the loss is counted", func() bool { return b.Brokers()[0].LostQoS0 == 5 })
		in := &b.brokers[0].inbox
		for dropped, want := range map[uint64]uint64{4: 5, 9: 9} {
			in.mu.Lock()
			in.lost, in.lostCounted = dropped, dropped
			in.mu.Unlock()
			if got := b.Brokers()[0].LostQoS0; got != want {
				t.Errorf("%d are lost where %d were dropped here; want %d", got, dropped, want)
			}
		}
	})
}

// Memories are there after a restart, the last of each key, whole or not at
// all, and those of profiles that are gone are not.
func TestMemoriesOfProfiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.births")
	open := func(want ...string) remembered {
		t.Helper()
		r, err := openRemembered(path)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for at, record := range r.byKey {
			got = append(got, fmt.Sprintf("%s %s %s", at.profile, at.key, record.payload))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%q; want %q", got, want)
		}
		return r
	}
	sync := func(r remembered) {
		t.Helper()
		if err := r.journal.sync(); err != nil {
			t.Fatal(err)
		}
		if err := r.journal.close(); err != nil {
			t.Fatal(err)
		}
	}
	r := open()
	r.put(rememberedKey{"p", "a"}, []byte("1"))
	r.put(rememberedKey{"p", "b"}, []byte("1"))
	r.put(rememberedKey{"q", "a"}, []byte("1"))
	sync(r)
	r = open("p a 1", "p b 1", "q a 1")
	size := r.journal.size
	r.put(rememberedKey{"p", "a"}, []byte("1")) // as before
	if r.journal.unsynced {
		t.Error("what is known is written again")
	}
	r.put(rememberedKey{"p", "b"}, nil)
	r.put(rememberedKey{"p", "c"}, nil)
	r.put(rememberedKey{"p", "a"}, []byte("2"))
	sync(r)
	r = open("p a 2", "q a 1")
	if r.journal.size <= size || r.journal.live >= r.journal.size {
		t.Errorf("%+v", r.journal)
	}
	if err := r.journal.rewrite(func(yield func(*earlyRecord) bool) {
		for _, record := range r.byKey {
			if !yield(record) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	sync(r)
	open("p a 2", "q a 1").journal.close()
}
