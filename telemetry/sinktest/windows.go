package sinktest

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// Aggregates, against the same computed here from the rows.

var aggregates = []telemetry.Aggregate{
	telemetry.Mean, telemetry.Min, telemetry.Max, telemetry.Sum, telemetry.Count, telemetry.First, telemetry.Last,
}

// expect computes the answer to q, whose windows cut gives, from rows in the
// order of time.
func expect(q telemetry.Query, rows []telemetry.Row, start func(t time.Time) time.Time) []telemetry.ReadRow {
	type key struct {
		start int64
		field string
	}
	values := map[key][]telemetry.Value{}
	var starts []int64
	for _, r := range rows {
		t := time.Unix(0, r.Time)
		if !q.From.IsZero() && t.Before(q.From) || !q.To.IsZero() && !t.Before(q.To) {
			continue
		}
		for _, f := range r.Fields {
			if len(q.Fields) > 0 && !slices.Contains(q.Fields, f.Name) {
				continue
			}
			numeric := f.Value.Kind() != telemetry.Bool && f.Value.Kind() != telemetry.String
			if !numeric && q.Aggregate <= telemetry.Sum {
				continue
			}
			k := key{start(t).UnixNano(), f.Name}
			values[k] = append(values[k], f.Value)
			starts = append(starts, k.start)
		}
	}
	slices.Sort(starts)
	var out []telemetry.ReadRow
	for _, at := range slices.Compact(starts) {
		row := telemetry.ReadRow{Time: time.Unix(0, at)}
		for k, v := range values {
			if k.start == at {
				row.Fields = append(row.Fields, telemetry.Field{Name: k.field, Value: aggregate(q.Aggregate, v)})
			}
		}
		slices.SortFunc(row.Fields, func(a, b telemetry.Field) int { return cmp.Compare(a.Name, b.Name) })
		out = append(out, row)
	}
	return out
}

func aggregate(a telemetry.Aggregate, values []telemetry.Value) telemetry.Value {
	ints := values[0].Kind() == telemetry.Int
	var sum float64
	var isum int64
	less, more := values[0], values[0]
	for _, v := range values {
		sum += v.Float64()
		isum += v.Int64()
		if v.Float64() < less.Float64() || v.Int64() < less.Int64() {
			less = v
		}
		if v.Float64() > more.Float64() || v.Int64() > more.Int64() {
			more = v
		}
	}
	switch a {
	case telemetry.Mean:
		return telemetry.DoubleValue((sum + float64(isum)) / float64(len(values)))
	case telemetry.Min:
		return less
	case telemetry.Max:
		return more
	case telemetry.Sum:
		if ints {
			return telemetry.IntValue(isum)
		}
		return telemetry.DoubleValue(sum)
	case telemetry.Count:
		return telemetry.IntValue(int64(len(values)))
	case telemetry.Last:
		return values[len(values)-1]
	}
	return values[0]
}

// wantWindows compares as wantRows, but sums of floats may be added up in any
// order.
func (s *suite) wantWindows(got, want []telemetry.ReadRow) {
	s.Helper()
	if len(got) != len(want) {
		s.Fatalf("%d windows, want %d: %s\nwant%s", len(got), len(want), show(got), show(want))
	}
	for i := range want {
		if !got[i].Time.Equal(want[i].Time) || len(got[i].Fields) != len(want[i].Fields) {
			s.Fatalf("window %d:%s\nwant%s", i, show(got[i:i+1]), show(want[i:i+1]))
		}
		for k, w := range want[i].Fields {
			g := got[i].Fields[k]
			near := g.Value.Kind() == telemetry.Double && w.Value.Kind() == telemetry.Double &&
				math.Abs(g.Value.Float64()-w.Value.Float64()) <= 1e-9*math.Abs(w.Value.Float64())
			if g.Name != w.Name || !near && !same(g.Value, w.Value) {
				s.Fatalf("window %d:%s\nwant%s", i, show(got[i:i+1]), show(want[i:i+1]))
			}
		}
	}
}

// readings are rows of all kinds, with gaps.
func readings(from time.Time, n int, step time.Duration) []telemetry.Row {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var rows []telemetry.Row
	for i := range n {
		if i%10 == 3 || i/25%4 == 2 {
			continue
		}
		row := row(from.Add(time.Duration(i)*step), "x", r.NormFloat64()*100, "n", r.Int64N(2e6)-1e6)
		if i%3 == 0 {
			row.Fields = append(row.Fields, telemetry.Field{Name: "ok", Value: value(i%2 == 0)}, telemetry.Field{Name: "s", Value: value(string(rune('a' + i%26)))})
		}
		rows = append(rows, row)
	}
	return rows
}

func (s *suite) aggregates() {
	device := s.device("d")
	rows := readings(base, 600, 7*time.Second)
	s.write(device, rows...)
	for _, a := range aggregates {
		for _, window := range []time.Duration{time.Second, 7 * time.Second, time.Minute, 13 * time.Minute, time.Hour, 24 * time.Hour} {
			for _, fields := range [][]string{nil, {"n"}, {"ok", "x"}, {"s"}} {
				q := telemetry.Query{Device: device, Aggregate: a, Window: window, Fields: fields, Limit: telemetry.MaxPageRows}
				want := expect(q, rows, func(t time.Time) time.Time {
					return t.Truncate(0).UTC().Add(-time.Duration(t.UnixNano() % int64(window)))
				})
				s.wantWindows(s.query(q), want)
			}
		}
	}
	// A range that cuts windows: they keep their starts.
	q := telemetry.Query{Device: device, Aggregate: telemetry.Count, Window: time.Hour, From: base.Add(10 * time.Minute), To: base.Add(61 * time.Minute)}
	s.wantWindows(s.query(q), expect(q, rows, func(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }))
}

func (s *suite) windowPages() {
	device := s.device("d")
	rows := readings(base, 600, time.Minute)
	s.write(device, rows...)
	for _, a := range []telemetry.Aggregate{telemetry.Sum, telemetry.Last} {
		q := telemetry.Query{Device: device, Aggregate: a, Window: 5 * time.Minute, From: base.Add(90 * time.Second)}
		want := expect(q, rows, func(t time.Time) time.Time { return t.UTC().Truncate(5 * time.Minute) })
		for _, limit := range []int{1, 7, len(want) - 1, len(want), len(want) + 1} {
			q.Limit = limit
			got, pages := s.pages(q)
			s.wantWindows(got, want)
			if most := (len(want) + limit - 1) / limit; pages != most {
				s.Errorf("%d pages of %d windows, want %d", pages, limit, most)
			}
		}
	}
}

// clockChanges: windows follow the wall clock of the zone.
func (s *suite) clockChanges() {
	for name, c := range map[string]struct {
		zone   string
		change time.Time
	}{
		"berlin_spring":  {"Europe/Berlin", time.Date(2025, 3, 30, 1, 0, 0, 0, time.UTC)},
		"berlin_autumn":  {"Europe/Berlin", time.Date(2025, 10, 26, 1, 0, 0, 0, time.UTC)},
		"newyork_spring": {"America/New_York", time.Date(2025, 3, 9, 7, 0, 0, 0, time.UTC)},
		"newyork_autumn": {"America/New_York", time.Date(2025, 11, 2, 6, 0, 0, 0, time.UTC)},
		"kathmandu":      {"Asia/Kathmandu", time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)},
	} {
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			s.Fatal(err)
		}
		device := s.device(name)
		rows := readings(c.change.Add(-60*time.Hour), 240, 30*time.Minute)
		s.write(device, rows...)
		midnight := func(t time.Time) time.Time {
			t = t.In(loc)
			return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, loc)
		}
		quarter := func(t time.Time) time.Time {
			t = t.In(loc)
			return time.Date(t.Year(), t.Month(), t.Day(), t.Hour()/6*6, 0, 0, 0, loc)
		}
		hour := func(t time.Time) time.Time { // each hour is one window, also the one that comes twice
			_, offset := t.In(loc).Zone()
			return t.Add(time.Duration(offset) * time.Second).UTC().Truncate(time.Hour).Add(-time.Duration(offset) * time.Second)
		}
		week := func(t time.Time) time.Time {
			day := midnight(t)
			days := int(time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400)
			return day.AddDate(0, 0, -(days % 7))
		}
		for window, start := range map[time.Duration]func(time.Time) time.Time{
			24 * time.Hour: midnight, 6 * time.Hour: quarter, time.Hour: hour, 7 * 24 * time.Hour: week,
		} {
			for _, a := range []telemetry.Aggregate{telemetry.Count, telemetry.Mean, telemetry.First} {
				q := telemetry.Query{Device: device, Aggregate: a, Window: window, Location: loc}
				want := expect(q, rows, start)
				s.wantWindows(s.query(q), want)
				q.Limit = 2
				s.wantWindows(s.query(q), want)
				q.From, q.To = c.change.Add(-30*time.Minute), c.change.Add(25*time.Hour)
				s.wantWindows(s.query(q), expect(q, rows, start))
			}
		}
	}
}

func (s *suite) wholeRange() {
	device := s.device("d")
	rows := readings(base, 300, time.Minute)
	s.write(device, rows...)
	for _, a := range aggregates {
		q := telemetry.Query{Device: device, Aggregate: a}
		s.wantWindows(s.query(q), expect(q, rows, func(time.Time) time.Time { return base }))
		q.From, q.To = base.Add(-time.Hour), base.Add(100*time.Minute)
		s.wantWindows(s.query(q), expect(q, rows, func(time.Time) time.Time { return q.From }))
		q.From, q.To = time.Time{}, base.Add(2*time.Minute)
		s.wantWindows(s.query(q), expect(q, rows, func(time.Time) time.Time { return base }))
	}
}
