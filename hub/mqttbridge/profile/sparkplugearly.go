package profile

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

const (
	// birthTime is how long a birth that was asked for may take before it
	// counts as trouble.
	birthTime = 30 * time.Second
	// birthWait is how long what was said before a birth waits for it: gear
	// that was switched off meanwhile is born when it is switched on.
	birthWait = 7 * 24 * time.Hour
)

// early is a message of gear whose birth is not known: the hub was started
// since, or has missed it. The birth is asked for, and the message waits.
//
// Its aliases are those of the birth before it, which may be the last one that
// the hub knows, or one that it has missed; only a birth binds them, and every
// birth may bind them anew (Sparkplug 3.0.0, 6.4.6), also the one that is
// asked for. So the message goes with a note of what they stood for by the
// last birth that is known, and a value is stored where the next birth says
// the same. Without an earlier birth aliases say nothing, and never will.
func (p *sparkplug) early(n *sparkplugNode, g *sparkplugGear, t sparkplugTopic, payload *sparkplugMessage,
	m Message, report Report, reports []Report) ([]Report, error) {
	note, legible := g.note(payload)
	now := m.Received
	if m.again() {
		note, legible, now = m.Note, true, p.now()
	} else {
		g.heard = true
		if g.lacked.IsZero() {
			g.lacked = now
		}
		if since := now.Sub(g.lacked); since > birthTime {
			fate := "waits for it"
			if !legible {
				fate = "is not stored without it"
			}
			report.Problem = fmt.Sprintf("the birth was asked for and has not come for %v: what the gear says %s", since.Round(time.Second), fate)
		}
	}
	report.Awaited, report.Publish = true, n.rebirth(now)
	reports = append(reports, report)
	if !legible {
		return reports, nil
	}
	return reports, &Early{Gear: t.gear(), Key: t.gear(), Wait: birthWait, Note: note,
		Refusal: t.refuse("no birth", "it was asked for and has not come")}
}

// note says of each metric of a message what it is by the last birth, which
// counts no more: name and type, or nothing. legible: of one at least it is
// known, or the message names it.
func (g *sparkplugGear) note(payload *sparkplugMessage) (note []byte, legible bool) {
	was := new(sparkplugv1.Payload)
	any := false
	for _, m := range payload.GetMetrics() {
		wire := new(sparkplugWire)
		known := g.metrics[m.GetName()]
		if m.Name == nil {
			known = g.find(m)
		}
		if known != nil {
			wire.Name, wire.Datatype, any = &known.name, &known.datatype, true
		}
		was.Metrics = append(was.Metrics, wire)
		legible = legible || any || m.Name != nil
	}
	if !any {
		return nil, legible
	}
	note, err := proto.Marshal(was)
	if err != nil { // its texts are valid: never
		return nil, legible
	}
	return note, legible
}

// noted are the metrics of a note on n metrics.
func noted(note []byte, n int) []*sparkplugWire {
	if was, err := decodeSparkplug(note); err == nil && len(was.GetMetrics()) == n {
		return was.GetMetrics()
	}
	return make([]*sparkplugWire, n)
}

// meant finds a metric of a message from before the birth, of which a note
// says what it was; nil: that is not known, or the birth says otherwise.
func (g *sparkplugGear) meant(m, was *sparkplugWire, wrong *troubles) *sparkplugMetric {
	name := was.GetName()
	if m.Name != nil {
		name = m.GetName()
	}
	known := g.metrics[name]
	var stands *sparkplugMetric
	if m.Alias != nil {
		stands = g.aliases[m.GetAlias()]
	}
	switch {
	case name == "":
		return nil
	case known == nil:
		wrong.add(fmt.Sprintf("metric %s is not in the new birth: values from before it are not stored", quoted(name)))
	case m.Alias != nil && stands != known && (stands != nil || m.Name == nil):
		wrong.add(fmt.Sprintf("alias %d stood for %s before the new birth, and does not now: values from before it are not stored", m.GetAlias(), quoted(name)))
	case was.GetName() == name && was.GetDatatype() != known.datatype:
		wrong.add(fmt.Sprintf("metric %s was %s before the new birth, and is %s: values from before it are not stored", quoted(name),
			dataTypeName(was.GetDatatype()), dataTypeName(known.datatype)))
	default:
		return known
	}
	return nil
}
