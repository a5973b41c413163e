package mqttbridge

import (
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/telemetry"
)

// nearSecond is how far the hub's clock may be from the second that gear
// tells, so that the time of arrival is a better time of the same moment.
const nearSecond = int64(2 * time.Second)

// withinSecond is the time of a row of which gear tells the second alone. The
// time at which the message came first tells the messages of one second apart,
// whatever they say, and a repetition by the broker has it again, also after a
// restart. Where the message has waited for longer, the row stays in its
// second.
func (b *broker) withinSecond(a *arrival, g *gear, second int64) int64 {
	at := b.arrivalTime(a, g)
	if d := at - second; d >= -nearSecond && d < int64(time.Second)+nearSecond {
		return at
	}
	late := second + at%int64(time.Second)
	if again := at < a.received.UnixNano(); !again && late <= g.late && g.late-late < int64(time.Second) && late/1e9 == g.late/1e9 {
		late = g.late + 1 // the second of the arrival has changed between the two
	}
	g.late = late
	return late
}

// Bounds of what is remembered of the rows of one piece of gear that have a
// time of their own.
const (
	toldTimes = 4  // the last ones
	toldRows  = 32 // of one time: those that are more are one row
)

// ownTimes remember what was said of the last times that gear has told, so that
// two rows of one time that contradict each other are both kept: a row of the
// store is known by device, measurement and time, and the later one would
// replace what the earlier one says. It does not outlive the process.
type ownTimes struct {
	times [toldTimes]toldTime
	next  int
}

type toldTime struct {
	time int64
	rows [][]toldField // each a nanosecond after the one before
}

// toldField is a field, with its measurement, and its value, by their hashes.
type toldField struct{ name, value uint64 }

var toldSeed = maphash.MakeSeed()

// apart moves a row that contradicts an earlier one of the same time a
// nanosecond on, or as many as it takes. The same words again have the same
// time again.
func (b *broker) apart(g *gear, m *profile.Message, row *telemetry.Row) {
	t := g.told.at(row.Time)
	fields := toldFields(row)
	for n := range t.rows {
		if !contradict(t.rows[n], fields) {
			t.rows[n] = merge(t.rows[n], fields)
			row.Time += int64(n)
			return
		}
	}
	n := len(t.rows)
	if n > 0 {
		b.problem(problem{reason: "one time, two values", profile: g.bound.cfg.Name, topic: m.Topic, gear: g.name,
			detail: fmt.Sprintf("the gear tells other values for %s than before: they are kept as a row of their own, %d ns later", time.Unix(0, row.Time).UTC().Format(time.RFC3339Nano), n)})
	}
	row.Time += int64(min(n, toldRows))
	if n < toldRows {
		t.rows = append(t.rows, fields)
	}
}

// at is what was told of a time, the oldest of the times forgotten for it.
func (t *ownTimes) at(ns int64) *toldTime {
	for i := range t.times {
		if t.times[i].time == ns {
			return &t.times[i]
		}
	}
	at := &t.times[t.next]
	t.next = (t.next + 1) % toldTimes
	*at = toldTime{time: ns, rows: at.rows[:0]}
	return at
}

func toldFields(row *telemetry.Row) []toldField {
	fields := make([]toldField, 0, len(row.Fields))
	var h maphash.Hash
	h.SetSeed(toldSeed)
	for i := range row.Fields {
		f := &row.Fields[i]
		h.Reset()
		_, _ = h.WriteString(row.Measurement)
		_ = h.WriteByte(0) // in no name
		_, _ = h.WriteString(f.Name)
		name := h.Sum64()
		h.Reset()
		switch v := f.Value; v.Kind() {
		case telemetry.Int:
			maphash.WriteComparable(&h, v.Int64())
		case telemetry.Bool:
			maphash.WriteComparable(&h, v.Bool())
		case telemetry.String:
			_, _ = h.WriteString(v.Str())
		default:
			maphash.WriteComparable(&h, v.Float64())
		}
		fields = append(fields, toldField{name, h.Sum64()})
	}
	return fields
}

// contradict reports whether one field has two values.
func contradict(a, b []toldField) bool {
	for _, f := range b {
		if i := slices.IndexFunc(a, func(g toldField) bool { return g.name == f.name }); i >= 0 && a[i].value != f.value {
			return true
		}
	}
	return false
}

// merge adds the fields of b that a has not.
func merge(a, b []toldField) []toldField {
	for _, f := range b {
		if !slices.Contains(a, f) && len(a) < telemetry.MaxFields {
			a = append(a, f)
		}
	}
	return a
}
