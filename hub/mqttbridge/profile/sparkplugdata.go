package profile

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/tetherline/tetherline/telemetry"
)

func (p *sparkplug) data(t sparkplugTopic, payload *sparkplugMessage, m Message, reports []Report) ([]Report, error) {
	n, err := p.node(t)
	if err != nil {
		return reports, err
	}
	g := &n.self
	if t.device != "" {
		if g, err = p.device(n, t); err != nil {
			return reports, err
		}
	}
	var wrong troubles
	report := Report{Gear: t.gear(), Lost: n.sequence(payload, m, &wrong)}
	if !n.born || !g.born {
		n.doubted, report.Problem = true, wrong.String()
		// In a session that is known a device is online by its birth only
		// (Sparkplug 3.0.0, 6.4.21): it may be one that has died.
		report.NotAlive = n.born
		return p.early(n, g, t, payload, m, report, reports)
	}
	return p.values(t, g, n, payload, m, report, &wrong, reports), nil
}

// values completes the report on a message with its rows: one for each time,
// in the order of the message. A metric that is there twice with one time, as
// a switch that went on and off within a millisecond, gets a row of its own a
// nanosecond later.
func (p *sparkplug) values(t sparkplugTopic, g *sparkplugGear, n *sparkplugNode, payload *sparkplugMessage,
	m Message, report Report, wrong *troubles, reports []Report) []Report {
	rows := sparkplugRows{measure: p.measure, metrics: min(len(payload.GetMetrics()), telemetry.MaxFields)}
	birth, again := report.Status == Online, m.again()
	var was []*sparkplugWire
	if again {
		was = noted(m.Note, len(payload.GetMetrics()))
	}
	for i, metric := range payload.GetMetrics() {
		known := g.find(metric)
		if birth { // by its names, whatever its aliases
			known = g.metrics[metric.GetName()]
		}
		if again {
			if known = g.meant(metric, was[i], wrong); known == nil {
				continue
			}
		}
		switch {
		case birth && (known == nil || known.index != i):
			continue // told already
		case known == nil:
			n.unknown(g, metric, wrong)
			continue
		}
		if known.field == "" || metric.GetIsNull() || metric.GetIsTransient() {
			continue
		}
		datatype := known.datatype
		if metric.Datatype != nil && metric.GetDatatype() != datatype {
			wrong.add(fmt.Sprintf("metric %s: %s where the birth has %s", quoted(known.name),
				dataTypeName(metric.GetDatatype()), dataTypeName(datatype)))
			continue
		}
		value, err := sparkplugReading(metric, datatype)
		if err != nil {
			wrong.add(fmt.Sprintf("metric %s: %v", quoted(known.name), err))
			continue
		}
		ms := payload.GetTimestamp()
		if metric.GetTimestamp() != 0 {
			ms = metric.GetTimestamp()
		}
		ns, clock, ok := sparkplugTime(ms, m.Received, metric.GetIsHistorical())
		if !clock || !ok {
			wrong.add(outOfTime(known, ms, ok))
		}
		if ok {
			rows.add(ns, known.field, p.integers.value(value))
		}
	}
	if n.doubted && !again {
		report.Publish = n.rebirth(m.Received)
	}
	if !again && due(&g.described, m.Received) {
		report.Describe = p.describe(g, t.device == "")
	}
	report.Problem = wrong.String()
	for first := true; first || len(rows.rows) > 0; first = false {
		k := min(len(rows.rows), telemetry.MaxFrameRows)
		report.Rows, rows.rows = rows.rows[:k:k], rows.rows[k:]
		reports = append(reports, report)
		report = Report{Gear: report.Gear}
	}
	return reports
}

// unknown metrics are not guessed: a birth has to tell of them.
func (n *sparkplugNode) unknown(g *sparkplugGear, m *sparkplugWire, wrong *troubles) {
	if m.Alias == nil {
		wrong.add(fmt.Sprintf("metric %s was not in the birth: a new one is asked for, its values are not stored", quoted(m.GetName())))
		n.doubted = true
		return
	}
	if _, ambiguous := g.aliases[m.GetAlias()]; ambiguous {
		wrong.add(fmt.Sprintf("alias %d stands for two metrics: its values are not stored", m.GetAlias()))
		return
	}
	wrong.add(fmt.Sprintf("alias %d is unknown: a birth is asked for, its values are not stored", m.GetAlias()))
	n.doubted = true
}

func outOfTime(m *sparkplugMetric, ms uint64, kept bool) string {
	text := "metric " + quoted(m.name) + ": its time, " + strconv.FormatUint(ms, 10) + " ms, "
	if kept {
		return text + "is out of range: the time of arrival is taken"
	}
	return text + "is out of range and it is of the past: it is not stored"
}

// sparkplugRows are the rows of a message, by time.
type sparkplugRows struct {
	rows    []telemetry.Row
	measure string
	byTime  map[int64]int // once there are several
	metrics int           // of the message, to MaxFields
}

func (r *sparkplugRows) add(ns int64, field string, value telemetry.Value) {
	for ; ; ns++ {
		row := r.at(ns)
		i := slices.IndexFunc(row.Fields, func(f telemetry.Field) bool { return f.Name == field })
		switch {
		case i < 0:
			row.Fields = append(row.Fields, telemetry.Field{Name: field, Value: value})
			return
		case ns == 0: // no time of its own: the later one is the present value
			row.Fields[i].Value = value
			return
		}
	}
}

// at is the row of a time.
func (r *sparkplugRows) at(ns int64) *telemetry.Row {
	last := len(r.rows) - 1
	switch {
	case last >= 0 && r.rows[last].Time == ns:
		return &r.rows[last]
	case last >= 0 && r.byTime == nil:
		r.byTime = map[int64]int{r.rows[0].Time: 0}
	}
	if i, ok := r.byTime[ns]; ok {
		return &r.rows[i]
	}
	if r.byTime != nil {
		r.byTime[ns] = len(r.rows)
	}
	room := r.metrics // of the first row; most messages have one
	if last >= 0 {
		room = 0
	}
	r.rows = append(r.rows, telemetry.Row{Measurement: r.measure, Time: ns, Fields: make([]telemetry.Field, 0, room)})
	return &r.rows[last+1]
}
