package mqttbridge

import (
	"cmp"
	"fmt"
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

// toldTimes is how many of the last times that gear has told it is remembered
// with the fields of, so that other fields of such a time join their row.
const toldTimes = 8

// ownTimes are the last times that gear has told itself, with what was said
// last of each.
type ownTimes struct {
	times [toldTimes]toldTime
	next  int
}

type toldTime struct {
	time int64 // 0: none
	end  int64 // ns from it to the row that was said last
	// What that row says; nil: that was before the hub's start, or so long ago
	// that the fields are forgotten.
	fields []toldField
}

// apart gives rows their times, of which the message tells a time of its own
// each. A row of the store is known by device, measurement and time, and the
// later one would replace what the earlier one says. So what contradicts the
// last word on a time is a row of its own, a nanosecond after that: gear that
// goes on, off and on within one second is three rows, and on in the end. What
// adds a field to the last word, or says it once more, joins its row.
//
// A repetition by the broker has the rows again that the message had before,
// also after a restart; so has what a broker has retained.
func (b *broker) apart(a *arrival, g *gear, m *profile.Message, rows []*telemetry.Row) {
	again := a.early != nil
	if again || a.id != 0 {
		b.firstTime(a, func() int64 { return b.freshArrival(a, g) })
		g.last, b.newest = max(g.last, a.first), max(b.newest, a.first)
		again = again || a.first < a.received.UnixNano()
	}
	if len(rows) > 1 {
		slices.SortStableFunc(rows, func(x, y *telemetry.Row) int { return cmp.Compare(x.Time, y.Time) })
	}
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Time == rows[0].Time {
			n++
		}
		b.ofOneTime(a, g, m, rows[:n], again)
		rows = rows[n:]
	}
}

// ofOneTime is apart for the rows of one time. Those that contradict each other
// are one after the other, the last one the last word, as in line protocol.
func (b *broker) ofOneTime(a *arrival, g *gear, m *profile.Message, rows []*telemetry.Row, again bool) {
	own := rows[0].Time
	r := toldRecord{gear: toldGear(g), time: own, first: a.first}
	first, last := toldFields(nil, rows[0]), []toldField(nil)
	r.said = saidHash(0, first)
	for i, row := range rows {
		fields := first
		if i > 0 {
			fields = toldFields(nil, row)
			r.said = saidHash(r.said, fields)
			if last == nil && !contradict(first, fields) {
				first = merge(first, fields)
			} else if last == nil || contradict(last, fields) {
				last = fields
				r.end++
			} else {
				last = merge(last, fields)
			}
		}
		row.Time += int64(r.end)
	}
	shift := func(ns int64) {
		for _, row := range rows {
			row.Time += ns
		}
	}
	if again || m.Retained {
		known := b.owntimes.find(r.gear, own, func(k *toldRecord) bool {
			return again && k.first == r.first || m.Retained && k.said == r.said
		})
		if known != nil {
			shift(int64(known.base))
			return
		}
	}
	t := g.told.covering(own)
	fresh := t == nil
	if fresh {
		t = g.told.add(own)
	}
	within := own - t.time // more than 0 where earlier rows have come up to this time
	at := t.end            // of the row that the first one joins
	k, moved := b.owntimes.newest(r.gear, own), r.end > 0
	switch {
	case fresh && k == nil:
	case fresh && k.said == r.said: // the last word, once more
		t.end, at, moved = int64(k.end), int64(k.base), false
	case fresh:
		t.end = int64(k.end)
		fallthrough
	case t.fields == nil || contradict(t.fields, first):
		at = b.owntimes.free(r.gear, t.time, t.end+1)
		moved = true
	case a.id == 0 && last == nil && !adds(t.fields, first):
		shift(at - within) // the same once more
		return
	default:
		first = merge(t.fields, first)
	}
	shift(at - within)
	t.end, t.fields = max(t.end, at+int64(r.end)), first
	g.told.absorb(t)
	if last != nil {
		t.fields = last
	}
	r.base, r.end = uint32(at-within), uint32(at-within)+r.end
	b.owntimes.add(r)
	if moved {
		b.problem(problem{reason: "one time, two values", profile: g.bound.cfg.Name, topic: m.Topic, gear: g.name,
			detail: fmt.Sprintf("the gear tells other values for %s than before: they are kept as a row of their own, %d ns later", time.Unix(0, own).UTC().Format(time.RFC3339Nano), r.end)})
	}
}

// covering is what was told of a time, or of one just before it, whose rows
// have come up to it; nil: nothing that is remembered.
func (t *ownTimes) covering(ns int64) *toldTime {
	for i := range t.times {
		if at := &t.times[i]; at.time != 0 && at.time <= ns && ns <= at.time+at.end {
			return at
		}
	}
	return nil
}

// absorb other times to which the rows of one have come up.
func (t *ownTimes) absorb(by *toldTime) {
	for i := range t.times {
		if at := &t.times[i]; by.time < at.time && at.time <= by.time+by.end {
			*at = toldTime{}
		}
	}
}

// add a time, the oldest one forgotten for it.
func (t *ownTimes) add(ns int64) *toldTime {
	at := &t.times[t.next]
	t.next = (t.next + 1) % toldTimes
	*at = toldTime{time: ns}
	return at
}

// toldField is a field, with its measurement, and its value, by their hashes,
// which are the same in every process.
type toldField struct{ name, value uint64 }

func toldFields(fields []toldField, row *telemetry.Row) []toldField {
	for i := range row.Fields {
		f := &row.Fields[i]
		name := fnvString(fnvByte(fnvString(fnvBasis, row.Measurement), 0), f.Name) // 0 is in no name
		value := fnvByte(fnvBasis, byte(f.Value.Kind()))
		switch v := f.Value; v.Kind() {
		case telemetry.Int:
			value = fnvInt(value, uint64(v.Int64()))
		case telemetry.Bool:
			if v.Bool() {
				value = fnvByte(value, 1)
			}
		case telemetry.String:
			value = fnvString(value, v.Str())
		default:
			value = fnvInt(value, floatBits(v.Float64()))
		}
		fields = append(fields, toldField{name, value})
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

// adds reports whether b has a field that a has not.
func adds(a, b []toldField) bool {
	return slices.ContainsFunc(b, func(f toldField) bool { return !slices.Contains(a, f) })
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
