package profile

import (
	"errors"
	"strings"
	"testing"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// restarted is the profile of a hub that has been started anew.
func restarted(p *sparkplug) *sparkplug {
	anew := testSparkplug()
	for _, m := range p.Memories() {
		if m.Text != nil {
			anew.Recall(m.Key, m.Text)
		}
	}
	return anew
}

// again is a message that was early, as the bridge offers it.
func again(m Message, early *Early) Message {
	m.Early, m.Held, m.Note = true, true, early.Note
	return m
}

// What comes before the birth that was asked for is stored when it has come,
// where that birth and the one before it say the same, and never otherwise.
func TestSparkplugDataOfAnUnknownBirth(t *testing.T) {
	level := func(alias uint64) *sparkplugWire {
		return aliased(metric("level", sparkplugv1.DataType_Double, 1.0), alias)
	}
	flow := func(alias uint64) *sparkplugWire {
		return aliased(metric("flow", sparkplugv1.DataType_Double, 1.0), alias)
	}
	by := func(name string) *sparkplugWire { return metric(name, sparkplugv1.DataType_Double, 7.5) }
	untyped := func(name string) *sparkplugWire {
		m := by(name)
		m.Datatype = nil
		return m
	}
	for name, c := range map[string]struct {
		before, after []*sparkplugWire
		says          []*sparkplugWire
		want, problem string
	}{
		"the same":            {[]*sparkplugWire{level(1), flow(2)}, []*sparkplugWire{level(1), flow(2)}, []*sparkplugWire{by("@1")}, "level=double:7.5", ""},
		"another order":       {[]*sparkplugWire{level(1), flow(2)}, []*sparkplugWire{flow(2), level(1)}, []*sparkplugWire{by("@1"), by("@2")}, "level=double:7.5 flow=double:7.5", ""},
		"exchanged":           {[]*sparkplugWire{level(1), flow(2)}, []*sparkplugWire{level(2), flow(1)}, []*sparkplugWire{by("@1"), by("@2")}, "", "alias 1 stood for"},
		"one moved":           {[]*sparkplugWire{level(1), flow(2)}, []*sparkplugWire{level(1), flow(3)}, []*sparkplugWire{by("@1"), by("@2")}, "level=double:7.5", "alias 2 stood for"},
		"one gone":            {[]*sparkplugWire{level(1), flow(2)}, []*sparkplugWire{level(1)}, []*sparkplugWire{by("@2"), by("@1")}, "level=double:7.5", "not in the new birth"},
		"one new":             {[]*sparkplugWire{level(1)}, []*sparkplugWire{level(1), flow(2)}, []*sparkplugWire{by("@2"), by("@1")}, "level=double:7.5", ""},
		"another type":        {[]*sparkplugWire{aliased(metric("n", sparkplugv1.DataType_UInt8, uint32(1)), 1)}, []*sparkplugWire{aliased(metric("n", sparkplugv1.DataType_Int8, uint32(1)), 1)}, []*sparkplugWire{untyped("@1")}, "", "was UInt8"},
		"stands for two":      {[]*sparkplugWire{level(1)}, []*sparkplugWire{level(1), flow(1)}, []*sparkplugWire{by("@1")}, "", "alias 1 stood for"},
		"once stood for two":  {[]*sparkplugWire{level(1), flow(1), metric("x", sparkplugv1.DataType_Double, 1.0)}, []*sparkplugWire{level(1)}, []*sparkplugWire{by("@1"), by("x")}, "", "not in the new birth"},
		"by name":             {nil, []*sparkplugWire{level(1)}, []*sparkplugWire{by("level")}, "level=double:7.5", ""},
		"by name, no type":    {nil, []*sparkplugWire{level(1)}, []*sparkplugWire{untyped("level")}, "level=double:7.5", ""},
		"by name, other type": {nil, []*sparkplugWire{level(1)}, []*sparkplugWire{metric("level", sparkplugv1.DataType_Float, float32(1))}, "", "Float where"},
		"name and alias":      {nil, []*sparkplugWire{level(2), flow(1)}, []*sparkplugWire{aliased(by("level"), 1)}, "", "alias 1 stood for"},
	} {
		t.Run(name, func(t *testing.T) {
			for topics, device := range map[[3]string]bool{{topicNBIRTH, topicNDATA, "g/n"}: false, {topicDBIRTH, topicDDATA, "g/n/d"}: true} {
				p := testSparkplug()
				birth := func(metrics []*sparkplugWire) {
					if !device {
						take(t, p, message(t, topicNBIRTH, birthOf(0, metrics...)))
						return
					}
					take(t, p, message(t, topicNBIRTH, birthOf(0)))
					take(t, p, message(t, topicDBIRTH, payloadOf(1, metrics...)))
				}
				if c.before != nil {
					birth(c.before)
					p = restarted(p)
				}
				data := message(t, topics[1], payloadOf(9, c.says...))
				early := wantEarly(t, p, data)
				if early.Gear != topics[2] || early.Wait != birthWait {
					t.Errorf("%+v", early)
				}
				// The hub is killed again, when it knows the new birth or not.
				for _, killed := range []bool{false, true} {
					held := again(data, early)
					if killed {
						birth(c.after)
						p = restarted(p)
						held.Early = false
						wantEarly(t, p, held)
						held.Early = true
					}
					p.Described()
					birth(c.after)
					if keys := p.Described(); !strings.Contains(strings.Join(keys, " ")+" ", early.Key+" ") {
						t.Errorf("%q is described; want %q", keys, early.Key)
					}
					r := one(t, take(t, p, held))
					var got string
					for _, row := range r.Rows {
						got += fieldsOf(row)
					}
					if got != c.want || (r.Problem == "") != (c.problem == "") || !strings.Contains(r.Problem, c.problem) || r.Publish != nil || r.Awaited {
						t.Errorf("%s, killed %v: %q, problem %q", topics[1], killed, got, r.Problem)
					}
				}
			}
		})
	}
}

// Aliases of gear that was never born say nothing: they are not kept.
func TestSparkplugAliasesWithoutAnyBirth(t *testing.T) {
	p := testSparkplug()
	for _, topic := range []string{topicNDATA, topicDDATA} {
		r, err := p.Decode(message(t, topic, payloadOf(9, metric("@1", sparkplugv1.DataType_Double, 1.5))), nil)
		if err != nil || len(r) != 1 || len(r[0].Rows) > 0 || r[0].Problem != "" {
			t.Errorf("%s: %+v, %v", topic, r, err)
		}
	}
}

// The birth of a device that comes while that of its node is not known binds
// its aliases from then on, and its values wait.
func TestSparkplugDeviceBirthBeforeThatOfItsNode(t *testing.T) {
	p := testSparkplug()
	on := func(alias uint64, v bool) *sparkplugWire {
		return aliased(metric("on", sparkplugv1.DataType_Boolean, v), alias)
	}
	take(t, p, message(t, topicNBIRTH, birthOf(0)))
	take(t, p, message(t, topicDBIRTH, payloadOf(1, on(1, false))))
	p = restarted(p)
	first := message(t, topicDBIRTH, payloadOf(5, on(2, true)))
	birth := wantEarly(t, p, first)
	data := message(t, topicDDATA, payloadOf(6, metric("@2", sparkplugv1.DataType_Boolean, false)))
	early := wantEarly(t, p, data)
	take(t, p, message(t, topicNBIRTH, birthOf(0)))
	take(t, p, message(t, topicDBIRTH, payloadOf(1, on(2, false))))
	for m, want := range map[*Message]string{{Topic: first.Topic, Payload: first.Payload, Received: first.Received, Early: true, Held: true, Note: birth.Note}: "on=bool:true",
		{Topic: data.Topic, Payload: data.Payload, Received: data.Received, Early: true, Held: true, Note: early.Note}: "on=bool:false"} {
		wantRow(t, one(t, take(t, p, *m)), int64(exampleTime)*1e6, want)
	}
}

// What is recalled is no gear that is online, and takes no command.
func TestSparkplugRecalledGear(t *testing.T) {
	p := testSparkplug()
	take(t, p, message(t, topicNBIRTH, birthOf(4, metric("a", sparkplugv1.DataType_Boolean, true))))
	take(t, p, message(t, topicDBIRTH, payloadOf(1, metric("on", sparkplugv1.DataType_Boolean, true))))
	p = restarted(p)
	for _, key := range []string{"", "g", "g/n/d/e", "g//d", "\xff/n"} {
		p.Recall(key, []byte("x"))
	}
	p.Recall("g/n/e", []byte("no birth"))
	if p.gear != 2 || p.memory == 0 {
		t.Errorf("%d pieces of gear, %d bytes", p.gear, p.memory)
	}
	_, err := p.Command("g/n/d", Command{Name: "write", Args: map[string]any{"metric": "on", "value": true}})
	if ReasonOf(err) != "no birth yet" {
		t.Error(err)
	}
	if r := one(t, take(t, p, message(t, topicNDEATH, deathOf(4)))); r.Gear != "g/n" {
		t.Errorf("%+v", r)
	}
	if p.gear != 0 || p.memory != 0 {
		t.Errorf("%d pieces of gear, %d bytes", p.gear, p.memory)
	}
	for _, m := range p.Memories() {
		if m.Text != nil {
			t.Errorf("%s is remembered of dead gear", m.Key)
		}
	}
	// A death says what was never born.
	if _, err := p.Decode(message(t, topicNDATA, payloadOf(1, metric("@1", sparkplugv1.DataType_Boolean, true))), nil); errors.As(err, new(*Early)) {
		t.Error("aliases of dead gear wait")
	}
}
