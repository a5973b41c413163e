package profile

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// Memories implements Remembering: names, types and aliases of the last birth
// of each node and device, under the name of the gear.
func (p *sparkplug) Memories() []Memory { return p.memories.take() }

// told: gear was born.
func (p *sparkplug) told(gear string, g *sparkplugGear) {
	p.descriptions.note(gear)
	p.memories.note(gear, g.memoir())
}

// memoir is the birth without values, and without what is not stored. nil:
// there is nothing else in it.
func (g *sparkplugGear) memoir() []byte {
	birth := new(sparkplugv1.Payload)
	for _, m := range slices.SortedFunc(maps.Values(g.metrics), func(a, b *sparkplugMetric) int { return a.index - b.index }) {
		if m.field == "" {
			continue
		}
		wire := &sparkplugWire{Name: &m.name, Datatype: &m.datatype}
		if m.hasAlias {
			wire.Alias = &m.alias
		}
		birth.Metrics = append(birth.Metrics, wire)
	}
	text, err := proto.Marshal(birth)
	if err != nil || len(text) == 0 { // its texts are valid: no error
		return nil
	}
	return text
}

// Recall implements Remembering. What is recalled tells what aliases stood
// for, and not what they stand for now.
func (p *sparkplug) Recall(key string, text []byte) {
	t, _, _, err := p.find(key)
	if err != nil || checkGear(key) != nil {
		return
	}
	birth, err := decodeSparkplug(text)
	if err != nil {
		return
	}
	n, err := p.node(t)
	if err != nil {
		return
	}
	g := &n.self
	if t.device != "" {
		if g, err = p.device(n, t); err != nil {
			return
		}
	}
	if p.learn(g, birth, new(Report), new(troubles)) == nil {
		g.born, g.heard = false, false
	}
}

// device finds a device of a node, or begins to remember it. The Refusal says
// that there are too many.
func (p *sparkplug) device(n *sparkplugNode, t sparkplugTopic) (*sparkplugGear, error) {
	d := n.devices[t.device]
	if d == nil {
		if p.gear >= MaxGear {
			return nil, t.refuse("too much gear", "over %d nodes and devices", MaxGear)
		}
		d = &sparkplugGear{}
		n.devices[strings.Clone(t.device)] = d
		p.gear++
	}
	return d, nil
}

// forgetMemories of the devices of a node.
func (p *sparkplug) forgetMemories(n *sparkplugNode) {
	t := n.topic
	for t.device = range n.devices {
		p.memories.note(t.gear(), nil)
	}
}
