package sqlite

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// windows folds the rows of [from, to) into windows, one at a time.
func (s *session) windows(ctx context.Context, q *telemetry.Query, stream, from, to int64) (telemetry.Page, error) {
	p := pager{q: q, names: s.newDictionary(stream, q.Fields), cut: telemetry.Windows{Length: q.Window, Location: q.Location}}
	p.fold.aggregate = q.Aggregate
	p.whole(from, to)
	err := s.scan(ctx, stream, from, to, false, 0, func(t int64, blob []byte) (bool, error) {
		if t >= p.end && !p.next(t) {
			return false, nil
		}
		return true, p.add(ctx, t, blob)
	})
	if err != nil {
		return telemetry.Page{}, err
	}
	p.flush()
	return p.page, nil
}

// pager collects finished windows into a page.
type pager struct {
	q     *telemetry.Query
	names *dictionary
	cut   telemetry.Windows
	page  telemetry.Page
	size  int

	start, end int64 // of the present window; start is open while !begun
	begun      bool
	fold       fold
}

// whole sets up the one window of a query without a window.
func (p *pager) whole(from, to int64) {
	if p.q.Window != 0 {
		p.end = from
		return
	}
	p.start, p.end, p.begun = from, to, !p.q.From.IsZero()
}

// next finishes the present window and opens the one that holds t. It
// returns false when the page is full.
func (p *pager) next(t int64) bool {
	p.flush()
	if len(p.page.Rows) == p.q.Limit || p.size > telemetry.MaxPageBytes {
		p.page.NextPage = p.q.NextToken(p.end)
		return false
	}
	p.start, p.end = p.cut.At(t)
	p.begun = true
	return true
}

func (p *pager) add(ctx context.Context, t int64, blob []byte) error {
	for len(blob) > 0 {
		c, rest, err := nextCell(blob)
		if err != nil {
			return err
		}
		blob = rest
		name, err := p.names.name(ctx, c.field)
		if err != nil {
			return err
		}
		if name == "" || !p.fold.add(c.field, name, c.value) {
			continue
		}
		if !p.begun {
			p.start, p.begun = t, true
		}
	}
	return nil
}

// flush moves the present window into the page, unless nothing is in it.
func (p *pager) flush() {
	fields := p.fold.take()
	if len(fields) == 0 {
		return
	}
	for i := range fields {
		p.size += len(fields[i].Name) + 8 + len(fields[i].Value.Str())
	}
	p.page.Rows = append(p.page.Rows, telemetry.ReadRow{Time: time.Unix(0, p.start).UTC(), Fields: fields})
}

// fold is the values of one window, by field.
type fold struct {
	aggregate telemetry.Aggregate
	sums      map[uint64]*sum
}

// sum is one field in one window.
type sum struct {
	name   string
	n      int64
	ints   int64   // sum of the Ints, wrapping as in InfluxDB
	floats float64 // sum of the Doubles
	real   bool    // there is a Double
	value  telemetry.Value
}

// add takes a value, or returns false where the aggregate leaves it out.
func (f *fold) add(id uint64, name string, v telemetry.Value) bool {
	switch f.aggregate {
	case telemetry.Mean, telemetry.Min, telemetry.Max, telemetry.Sum:
		if v.Kind() != telemetry.Int && v.Kind() != telemetry.Double {
			return false
		}
	}
	s := f.sums[id]
	if s == nil {
		if f.sums == nil {
			f.sums = make(map[uint64]*sum)
		}
		s = &sum{name: name}
		f.sums[id] = s
	}
	s.n++
	if v.Kind() == telemetry.Int {
		s.ints += v.Int64()
	} else {
		s.floats += v.Float64()
		s.real = s.real || v.Kind() == telemetry.Double
	}
	if s.n == 1 || f.replaces(v, s.value) {
		s.value = v
	}
	return true
}

// replaces reports whether the window's value so far gives way to v.
func (f *fold) replaces(v, old telemetry.Value) bool {
	switch f.aggregate {
	case telemetry.Last:
		return true
	case telemetry.Min:
		return compare(v, old) < 0
	case telemetry.Max:
		return compare(v, old) > 0
	}
	return false
}

func compare(a, b telemetry.Value) int {
	if a.Kind() == telemetry.Int && b.Kind() == telemetry.Int {
		return cmp.Compare(a.Int64(), b.Int64())
	}
	return cmp.Compare(number(a), number(b))
}

// number of an Int or a Double; one of the two terms is 0.
func number(v telemetry.Value) float64 { return float64(v.Int64()) + v.Float64() }

// take is the fields of the finished window, by name, and begins the next.
func (f *fold) take() []telemetry.Field {
	if len(f.sums) == 0 {
		return nil
	}
	fields := make([]telemetry.Field, 0, len(f.sums))
	for _, s := range f.sums {
		fields = append(fields, telemetry.Field{Name: s.name, Value: f.result(s)})
	}
	clear(f.sums)
	slices.SortFunc(fields, func(a, b telemetry.Field) int { return cmp.Compare(a.Name, b.Name) })
	return fields
}

func (f *fold) result(s *sum) telemetry.Value {
	switch f.aggregate {
	case telemetry.Count:
		return telemetry.IntValue(s.n)
	case telemetry.Mean:
		return telemetry.DoubleValue((float64(s.ints) + s.floats) / float64(s.n))
	case telemetry.Sum:
		if s.real {
			return telemetry.DoubleValue(float64(s.ints) + s.floats)
		}
		return telemetry.IntValue(s.ints)
	}
	return s.value
}
