package profile

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

func TestSparkplugAliasesAndRebirth(t *testing.T) {
	p := testSparkplug()
	data := message(t, topicNDATA, payloadOf(1, metric("@7", sparkplugv1.DataType_Double, 1.5)))

	// Before the birth nothing is guessed; the birth is asked for, not with
	// every message.
	first := one(t, take(t, p, data))
	wantRebirth(t, first.Publish, "spBv1.0/g/NCMD/n")
	if len(first.Rows) > 0 || !first.Awaited || first.Problem != "" || first.Gear != "g/n" {
		t.Errorf("data before the birth: %+v", first)
	}
	device := message(t, topicDDATA, payloadOf(2, metric("@9", sparkplugv1.DataType_Double, 1.5)))
	if r := one(t, take(t, p, device)); r.Gear != "g/n/d" || len(r.Rows) > 0 || r.Publish != nil || !r.Awaited || r.Problem != "" {
		t.Errorf("a device before the birth of its node: %+v", r)
	}
	data.Received = data.Received.Add(firstRebirth)
	wantRebirth(t, one(t, take(t, p, data)).Publish, "spBv1.0/g/NCMD/n")
	// That the birth does not come is trouble when its time is over.
	for late, want := range map[time.Duration]bool{birthTime: false, birthTime + time.Second: true} {
		m := data
		m.Received = exampleReceived.Add(late)
		if r := one(t, take(t, p, m)); (r.Problem != "") != want || !r.Awaited || len(r.Rows) > 0 {
			t.Errorf("without a birth for %v: %+v", late, r)
		}
	}

	one(t, take(t, p, message(t, topicNBIRTH, birthOf(1, aliased(metric("level", sparkplugv1.DataType_Double, 1.0), 7)))))
	ns := int64(exampleTime) * 1e6
	wantRow(t, one(t, take(t, p, data)), ns, "level=double:1.5")

	// An alias that the birth did not tell of.
	data = message(t, topicNDATA, payloadOf(2, metric("@7", sparkplugv1.DataType_Double, 2.5), metric("@8", sparkplugv1.DataType_Double, 3.5)))
	data.Received = data.Received.Add(time.Hour)
	r := one(t, take(t, p, data))
	wantRow(t, r, ns, "level=double:2.5")
	wantRebirth(t, r.Publish, "spBv1.0/g/NCMD/n")
	if !strings.Contains(r.Problem, "alias 8 is unknown") {
		t.Errorf("problem %q", r.Problem)
	}

	// The new birth gives the alias to another metric.
	one(t, take(t, p, message(t, topicNBIRTH, birthOf(1, aliased(metric("flow", sparkplugv1.DataType_Double, 1.0), 7)))))
	wantRow(t, one(t, take(t, p, message(t, topicNDATA, payloadOf(1, metric("@7", sparkplugv1.DataType_Double, 9.5))))), ns, "flow=double:9.5")
}

func TestSparkplugSequence(t *testing.T) {
	p := testSparkplug()
	level := func(v float64) *sparkplugWire { return metric("level", sparkplugv1.DataType_Double, v) }
	one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, level(0)))))
	for i := uint64(1); i < 600; i++ { // over 255 to 0, each message twice
		for range 2 {
			r := one(t, take(t, p, message(t, topicNDATA, payloadOf(i%256, level(float64(i))))))
			if r.Problem != "" || r.Publish != nil || len(r.Rows) != 1 {
				t.Fatalf("seq %d: %+v", i%256, r)
			}
		}
	}
	r := one(t, take(t, p, message(t, topicNDATA, payloadOf(599%256+2, level(1)))))
	if r.Publish == nil || len(r.Rows) != 1 || !strings.Contains(r.Problem, "seq gap") || r.Lost != 0 {
		t.Errorf("after a gap: %+v", r)
	}
	if r = one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, level(0))))); r.Lost != 1 {
		t.Errorf("%d messages are lost where one is missing", r.Lost)
	}

	// A node that counts wrongly for ever is not asked with every birth.
	asked := 0
	for i := range uint64(1000) {
		m := message(t, topicNDATA, payloadOf(i*7%256, level(1)))
		m.Received = m.Received.Add(time.Duration(i) * time.Second)
		r := one(t, take(t, p, m))
		if r.Publish != nil {
			asked++
			birth := message(t, topicNBIRTH, birthOf(0, level(0)))
			birth.Received = m.Received
			take(t, p, birth)
		}
	}
	if asked < 5 || asked > 30 {
		t.Errorf("asked %d times in 1000 s", asked)
	}

	// After a reconnect what is in sequence is taken, and a birth is asked for;
	// behind a gap everything waits for that.
	p = testSparkplug()
	one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, level(0)))))
	if p.Connected() != nil {
		t.Error("all nodes are asked at once")
	}
	r = one(t, take(t, p, message(t, topicNDATA, payloadOf(1, level(1)))))
	if len(r.Rows) != 1 || r.Publish == nil {
		t.Errorf("after a reconnect: %+v", r)
	}
	p.Connected()
	later := message(t, topicNDATA, payloadOf(5, level(5)))
	wantEarly(t, p, later)
	take(t, p, message(t, topicNBIRTH, birthOf(0, level(6))))
	later.Early = true
	if r = one(t, take(t, p, later)); len(r.Rows) != 1 || fieldsOf(r.Rows[0]) != "level=double:5" {
		t.Errorf("from behind a gap: %+v", r)
	}
}

func TestSparkplugDeaths(t *testing.T) {
	p := testSparkplug()
	take(t, p, message(t, topicNBIRTH, birthOf(4)))
	take(t, p, message(t, topicDBIRTH, payloadOf(1, metric("on", sparkplugv1.DataType_Boolean, true))))
	refused(t, p, message(t, topicNDEATH, deathOf(3)), "old death")
	refused(t, p, message(t, topicNDEATH, &sparkplugMessage{}), "death without bdSeq")

	// A rebirth in the same session says nothing of presence of its devices.
	reports := take(t, p, message(t, topicNBIRTH, birthOf(4)))
	if r := one(t, reports); r.Status != Online {
		t.Errorf("rebirth: %+v", r)
	}
	// Without its birth a device's data are refused.
	r := one(t, take(t, p, message(t, topicDDATA, payloadOf(1, metric("on", sparkplugv1.DataType_Boolean, true)))))
	if len(r.Rows) > 0 || r.Publish == nil {
		t.Errorf("a device's data before its birth: %+v", r)
	}

	// The death takes the devices along.
	reports = take(t, p, message(t, topicNDEATH, deathOf(4)))
	if len(reports) != 2 || reports[0].Gear != "g/n/d" || reports[0].Status != Offline || reports[1].Gear != "g/n" || reports[1].Status != Offline {
		t.Errorf("death: %+v", reports)
	}

	// A new session without a death seen: the devices are offline until born.
	take(t, p, message(t, topicNBIRTH, birthOf(5)))
	take(t, p, message(t, topicDBIRTH, payloadOf(1, metric("on", sparkplugv1.DataType_Boolean, true))))
	reports = take(t, p, message(t, topicNBIRTH, birthOf(6)))
	if len(reports) != 2 || reports[0].Gear != "g/n/d" || reports[0].Status != Offline || reports[1].Status != Online {
		t.Errorf("new session: %+v", reports)
	}
	// The will of the old connection comes late.
	refused(t, p, message(t, topicNDEATH, deathOf(5)), "old death")

	// Dead gear takes no room.
	take(t, p, message(t, topicDBIRTH, payloadOf(1, metric("on", sparkplugv1.DataType_Boolean, true))))
	take(t, p, message(t, topicNDEATH, deathOf(6)))
	if p.gear != 0 || p.memory != 0 || len(p.nodes) != 0 {
		t.Errorf("%d pieces of gear and %d bytes are remembered", p.gear, p.memory)
	}
}

// A transient value is not kept, and a description comes again, because the
// gear may have been allowed since.
func TestSparkplugTransientValuesAndDescriptions(t *testing.T) {
	p := testSparkplug()
	a, b := metric("a", sparkplugv1.DataType_Boolean, true), metric("b", sparkplugv1.DataType_Boolean, true)
	b.IsTransient = proto.Bool(true)
	wantRow(t, one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, a, b)))), int64(exampleTime)*1e6, "a=bool:true")
	for i, want := range []bool{false, false, true, false} {
		m := message(t, topicNDATA, payloadOf(uint64(i+1), metric("a", sparkplugv1.DataType_Boolean, false)))
		m.Received = m.Received.Add(time.Duration(i) * describeAgain / 2)
		if r := one(t, take(t, p, m)); (r.Describe != nil) != want {
			t.Errorf("message %d: described %v, want %v", i, r.Describe != nil, want)
		}
	}
}

// What a device says after its death, or before its birth, in a session that
// is known does not bring it online: only a birth does.
func TestSparkplugDataAfterDeath(t *testing.T) {
	p := testSparkplug()
	level := metric("level", sparkplugv1.DataType_Double, 1.0)
	data := func(seq uint64) Report { return one(t, take(t, p, message(t, topicDDATA, payloadOf(seq, level)))) }
	if r := data(9); r.NotAlive || !r.Awaited {
		t.Errorf("data of a node that is not known: %+v", r)
	}
	take(t, p, message(t, topicNBIRTH, birthOf(0, level)))
	if r := data(1); !r.NotAlive || !r.Awaited {
		t.Errorf("data before the birth: %+v", r)
	}
	take(t, p, message(t, topicDBIRTH, payloadOf(2, level)))
	if r := data(3); r.NotAlive || len(r.Rows) != 1 {
		t.Errorf("data after the birth: %+v", r)
	}
	if r := one(t, take(t, p, message(t, "spBv1.0/g/DDEATH/n/d", payloadOf(4)))); r.Status != Offline {
		t.Errorf("death: %+v", r)
	}
	r := data(5)
	if !r.NotAlive || r.Status != Unchanged || len(r.Rows) > 0 {
		t.Errorf("data after the death: %+v", r)
	}
	if r := one(t, take(t, p, message(t, topicDBIRTH, payloadOf(6, level)))); r.Status != Online || r.NotAlive {
		t.Errorf("birth: %+v", r)
	}
}
