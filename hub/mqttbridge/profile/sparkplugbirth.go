package profile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// maxMetricNameBytes of a metric; one with a longer name is left out.
const maxMetricNameBytes = 512

func (p *sparkplug) nodeBirth(t sparkplugTopic, payload *sparkplugMessage, m Message, reports []Report) ([]Report, error) {
	n, err := p.node(t)
	if err != nil {
		return reports, err
	}
	report := Report{Gear: t.gear(), Status: Online}
	var wrong troubles
	if err := p.learn(&n.self, payload, &report, &wrong); err != nil {
		return reports, at(err, t.gear())
	}
	bdSeq, has := bdSeqOf(payload)
	if !has {
		wrong.add("the birth has no bdSeq: its death will be believed whenever it comes")
	}
	if n.session && (has != n.hasBdSeq || bdSeq != n.bdSeq) {
		// Another session: its devices are gone until they are born in it.
		reports = n.devicesOffline(reports, "the node was started anew")
		p.forgetDevices(n)
	}
	for _, d := range n.devices {
		d.born = false // and what it says waits for its own birth
	}
	n.born, n.session, n.bdSeq, n.hasBdSeq = true, true, bdSeq, has
	n.doubted, n.away = false, false
	report.Lost = n.count.lost(m.Received, true)
	n.count.born(uint8(payload.GetSeq()), payload.GetTimestamp())
	n.sequence(payload, m, &wrong)
	p.told(t.gear(), &n.self)
	return p.values(t, &n.self, n, payload, m, report, &wrong, reports), nil
}

func (p *sparkplug) deviceBirth(t sparkplugTopic, payload *sparkplugMessage, m Message, reports []Report) ([]Report, error) {
	n, err := p.node(t)
	if err != nil {
		return reports, err
	}
	var wrong troubles
	report := Report{Gear: t.gear(), Lost: n.sequence(payload, m, &wrong)}
	d, err := p.device(n, t)
	if err != nil {
		return reports, err
	}
	if n.born {
		report.Status = Online
	}
	if err := p.learn(d, payload, &report, &wrong); err != nil {
		return reports, at(err, t.gear())
	}
	p.told(t.gear(), d)
	if !n.born { // the node's own birth was missed, and its answer brings this one again
		d.born = false
		return p.early(n, d, t, payload, m, report, reports)
	}
	return p.values(t, d, n, payload, m, report, &wrong, reports), nil
}

// learn the metrics of a birth; what was known of the gear is forgotten.
// Metrics that make one field name are all left out, so that which of them is
// stored does not depend on their order.
func (p *sparkplug) learn(g *sparkplugGear, payload *sparkplugMessage, report *Report, wrong *troubles) error {
	born := sparkplugGear{
		born:    true,
		metrics: make(map[string]*sparkplugMetric, len(payload.GetMetrics())),
		fields:  map[string]*sparkplugMetric{},
		aliases: map[uint64]*sparkplugMetric{},
	}
	fields := 0
	for i, m := range payload.GetMetrics() {
		name := m.GetName()
		switch {
		case name == "" || len(name) > maxMetricNameBytes || checkText(name) != nil:
			wrong.add(fmt.Sprintf("metric %s: no usable name", quoted(name)))
			continue
		case born.metrics[name] != nil:
			wrong.add(fmt.Sprintf("metric %s is there twice: the first is kept", quoted(name)))
			continue
		}
		metric := &sparkplugMetric{name: name, index: i, datatype: m.GetDatatype(), unit: engUnit(m), alias: m.GetAlias(), hasAlias: m.Alias != nil}
		born.metrics[name] = metric
		born.nameField(metric, &fields, wrong)
		born.nameAlias(metric, wrong)
		born.memory += metric.size()
		if isFirmware(name) && metric.datatype == uint32(sparkplugv1.DataType_String) {
			report.Firmware = clean(m.GetStringValue(), 64)
		}
	}
	if p.memory-g.memory+born.memory > maxSparkplugMemory {
		return Refuse("too many metrics", "the births of all nodes take over %d MiB", maxSparkplugMemory>>20)
	}
	p.memory += born.memory - g.memory
	born.heard = true
	*g = born
	return nil
}

func isFirmware(name string) bool {
	last := name[strings.LastIndexByte(name, '/')+1:]
	return strings.EqualFold(last, "Firmware Version") || strings.EqualFold(last, "FirmwareVersion")
}

// nameField gives a metric a field where it is one to be stored.
func (g *sparkplugGear) nameField(m *sparkplugMetric, fields *int, wrong *troubles) {
	switch {
	case m.name == bdSeqMetric, m.datatype == uint32(sparkplugv1.DataType_Boolean) &&
		(strings.HasPrefix(m.name, "Node Control/") || strings.HasPrefix(m.name, "Device Control/")):
		return // Sparkplug's own
	case sparkplugKindOf(m.datatype) == 0:
		wrong.add(fmt.Sprintf("metric %s: %s is not stored", quoted(m.name), dataTypeName(m.datatype)))
		return
	}
	field := FieldName(m.name)
	if other := g.fields[field]; other != nil {
		wrong.add(fmt.Sprintf("metrics %s and %s make one field name, %s: neither is stored", quoted(other.name), quoted(m.name), field))
		other.field = ""
		return
	}
	g.fields[field] = m
	if *fields == telemetry.MaxFields {
		wrong.add(fmt.Sprintf("metric %s: over %d fields, it is not stored", quoted(m.name), telemetry.MaxFields))
		return
	}
	*fields++
	m.field = field
}

// nameAlias notes an alias. One that stands for two metrics stands for none.
func (g *sparkplugGear) nameAlias(m *sparkplugMetric, wrong *troubles) {
	if !m.hasAlias {
		return
	}
	if other, taken := g.aliases[m.alias]; taken {
		wrong.add(fmt.Sprintf("alias %d stands for two metrics: their values are not stored", m.alias))
		if other != nil {
			other.hasAlias = false
		}
		m.hasAlias = false
		g.aliases[m.alias] = nil
		return
	}
	g.aliases[m.alias] = m
}

// describe tells fields, with the unit of the property engUnit, and commands.
func (p *sparkplug) describe(g *sparkplugGear, node bool) *devicev1.Describe {
	d := describing(p.measure)
	d.command("write", "write a metric; it has succeeded when the gear reports the value",
		argument("metric", telemetry.String, true, "name of the metric or of its field"),
		argument("value", anyKind, true, ""))
	if node {
		d.command("rebirth", "ask the node for its births")
	}
	metrics := slices.SortedFunc(maps.Values(g.metrics), func(a, b *sparkplugMetric) int { return a.index - b.index })
	for _, m := range metrics {
		if m.field == "" {
			continue
		}
		unit, text := m.unit, ""
		if sparkplugv1.DataType(m.datatype) == sparkplugv1.DataType_DateTime {
			unit = "ms"
		}
		if m.field != m.name {
			text = m.name
		}
		d.field(m.field, unit, p.integers.kind(sparkplugKindOf(m.datatype)), text)
	}
	return d.done()
}

// engUnit is the unit that the properties of a metric tell.
func engUnit(m *sparkplugWire) string {
	properties := m.GetProperties()
	for i, key := range properties.GetKeys() {
		if strings.EqualFold(key, "engUnit") && i < len(properties.GetValues()) {
			return clean(properties.GetValues()[i].GetStringValue(), maxUnitBytes)
		}
	}
	return ""
}

func bdSeqOf(payload *sparkplugMessage) (seq uint64, ok bool) {
	for _, m := range payload.GetMetrics() {
		if m.GetName() != bdSeqMetric {
			continue
		}
		switch v := m.GetValue().(type) {
		case *sparkplugv1.Payload_Metric_LongValue:
			return v.LongValue, true
		case *sparkplugv1.Payload_Metric_IntValue:
			return uint64(v.IntValue), true
		}
	}
	return 0, false
}
