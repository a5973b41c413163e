package profile

import (
	"time"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// The metrics that Sparkplug itself has a use for.
const (
	bdSeqMetric   = "bdSeq"
	rebirthMetric = "Node Control/Rebirth"
)

// A node is asked for a birth at most this often: from the first to the last
// pause, doubled while there is reason to ask, so that gear which counts
// wrongly is not kept busy with births.
const (
	firstRebirth = 10 * time.Second
	lastRebirth  = time.Minute
)

// sparkplugNode is an edge node, from its first message until its death.
type sparkplugNode struct {
	topic sparkplugTopic // of its NDATA

	born     bool
	session  bool // bdSeq is that of the last birth; else there was none
	bdSeq    uint64
	hasBdSeq bool
	count    sparkplugCount
	// doubted: the hub was away, or a message is missing; a birth is asked
	// for when the node is heard.
	doubted bool
	// away: the hub was, since the birth.
	away    bool
	self    sparkplugGear
	devices map[string]*sparkplugGear // by device id

	asked time.Time // for a birth, last; zero: not yet
	pause time.Duration
}

// sparkplugGear is what the last birth of a node or a device told.
type sparkplugGear struct {
	// born: what is said now goes by that birth. Else another one may have
	// been missed: see sparkplugNote.
	born    bool
	heard   bool                        // since the hub has started
	lacked  time.Time                   // the birth: when it was heard first without it; zero: not yet
	metrics map[string]*sparkplugMetric // by name
	fields  map[string]*sparkplugMetric // by field name
	aliases map[uint64]*sparkplugMetric // without those that stand for two
	memory  int

	described time.Time // when its description was told last
}

// sparkplugMetric is one metric of a birth.
type sparkplugMetric struct {
	name     string
	index    int    // in the birth
	field    string // "": it is not stored
	datatype uint32
	unit     string
	alias    uint64
	hasAlias bool
}

// size in memory, roughly, with its places in the maps.
func (m *sparkplugMetric) size() int { return 240 + len(m.name) + len(m.field) + len(m.unit) }

// find a metric of a data message. An alias goes before a name.
func (g *sparkplugGear) find(m *sparkplugWire) *sparkplugMetric {
	if m.Alias != nil {
		return g.aliases[m.GetAlias()]
	}
	if m.Name != nil {
		return g.metrics[m.GetName()]
	}
	return nil
}

// node finds a node, or begins to remember it. The Refusal says that there
// are too many.
func (p *sparkplug) node(t sparkplugTopic) (*sparkplugNode, error) {
	name := t.nodeGear()
	if n := p.nodes[name]; n != nil {
		return n, nil
	}
	if p.gear >= MaxGear {
		return nil, t.refuse("too much gear", "over %d nodes and devices", MaxGear)
	}
	t.device, t.verb = "", ndata
	n := &sparkplugNode{topic: t, devices: map[string]*sparkplugGear{}}
	p.nodes[name] = n
	p.gear++
	return n, nil
}

// forget a node and its devices: it died.
func (p *sparkplug) forget(n *sparkplugNode) {
	p.memory -= n.self.memory
	for _, d := range n.devices {
		p.memory -= d.memory
	}
	p.gear -= 1 + len(n.devices)
	p.memories.note(n.topic.gear(), nil)
	p.forgetMemories(n)
	delete(p.nodes, n.topic.gear())
}

// forgetDevices: the node was born anew, and tells of its devices again.
func (p *sparkplug) forgetDevices(n *sparkplugNode) {
	for _, d := range n.devices {
		p.memory -= d.memory
	}
	p.gear -= len(n.devices)
	p.forgetMemories(n)
	clear(n.devices)
}

// sequence checks seq and notes it. A message that comes twice (QoS 1) is no
// gap. Behind a gap since the hub was away all that was known of the node is
// doubtful: it may have been born anew, at QoS 0 (Sparkplug 3.0.0, 6.4.19 and
// 5.5).
func (n *sparkplugNode) sequence(payload *sparkplugMessage, m Message, wrong *troubles) (lost uint64) {
	if m.again() {
		return 0
	}
	seq := payload.GetSeq()
	switch {
	case payload.Seq == nil:
		wrong.add("the message has no seq")
		n.doubted = true
	case seq > 255:
		wrong.add("seq over 255")
		n.doubted = true
	case n.count.take(uint8(seq), payload.GetTimestamp(), m.Repeated, m.Received):
		wrong.add("seq gap: messages are missing, a birth is asked for")
		n.doubted = true
		if n.away {
			n.lapse()
		}
	}
	return n.count.lost(m.Received, false)
}

// lapse: what the births told counts no more.
func (n *sparkplugNode) lapse() {
	n.born, n.away = false, false
	n.self.born, n.self.lacked = false, time.Time{}
	for _, d := range n.devices {
		d.born, d.lacked = false, time.Time{}
	}
}

// rebirth is the request for a birth, if it is time for one.
func (n *sparkplugNode) rebirth(now time.Time) []Publish {
	since := now.Sub(n.asked)
	switch {
	case !n.born && since >= firstRebirth, n.asked.IsZero() || since < 0 || since > 2*n.pause:
		n.pause = firstRebirth
	case since < n.pause:
		return nil
	default:
		n.pause = min(2*n.pause, lastRebirth)
	}
	n.asked = now
	request := rebirthRequest(n.topic, now)
	request.Unsent = func() {
		if n.asked.Equal(now) {
			n.asked = time.Time{}
		}
	}
	return []Publish{request}
}

// rebirthRequest is the NCMD that every node obeys. It goes by its name,
// never by an alias.
func rebirthRequest(t sparkplugTopic, now time.Time) Publish {
	ms := uint64(now.UnixMilli())
	payload, err := proto.Marshal(&sparkplugv1.Payload{
		Timestamp: &ms,
		Metrics: []*sparkplugWire{{
			Name:      proto.String(rebirthMetric),
			Timestamp: &ms,
			Datatype:  proto.Uint32(uint32(sparkplugv1.DataType_Boolean)),
			Value:     &sparkplugv1.Payload_Metric_BooleanValue{BooleanValue: true},
		}},
	})
	if err != nil { // of a message without required fields and with valid text: never
		return Publish{Topic: t.to(ncmd)}
	}
	return Publish{Topic: t.to(ncmd), Payload: payload}
}

// sparkplugTime is the time of a value: a metric's own, else the payload's;
// 0, the time of arrival, where there is none. The clock of gear that stands
// in 1970 or runs ahead is not believed; for a value of the past that leaves
// no time.
func sparkplugTime(ms uint64, received time.Time, historical bool) (ns int64, clock, ok bool) {
	if ms == 0 {
		return 0, true, !historical
	}
	t := time.UnixMilli(int64(min(ms, 1<<52)))
	if t.Before(received.Add(time.Minute-telemetry.MaxPast)) || t.After(received.Add(telemetry.MaxFuture-time.Minute)) {
		return 0, false, !historical
	}
	return t.UnixNano(), true, true
}
