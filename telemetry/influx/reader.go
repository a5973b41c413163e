package influx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

var errUnexpected = errors.New("query InfluxDB: the answer is not of the expected form")

// recently is where Latest looks first: in one shard or two, not in all.
const recently = 48 * time.Hour

// Latest asks for the last value of each field.
func (s *Store) Latest(ctx context.Context, device, measurement string) ([]telemetry.Latest, error) {
	if err := telemetry.CheckTarget(device, measurement); err != nil {
		return nil, err
	}
	measurements := []string{measurement}
	if measurement == "" {
		var err error
		if measurements, err = s.measurementsOf(ctx, device); err != nil {
			return nil, err
		}
	}
	var out []telemetry.Latest
	for _, m := range measurements {
		latest, err := s.latestOf(ctx, device, m)
		if err != nil {
			return nil, err
		}
		out = append(out, latest...)
	}
	return out, nil
}

func (s *Store) latestOf(ctx context.Context, device, measurement string) ([]telemetry.Latest, error) {
	columns, err := s.columnsOf(ctx, measurement, nil)
	if err != nil {
		return nil, err
	}
	found := make(map[string]telemetry.Latest)
	note := func(c column, at, cell rawCell) error {
		t, err := at.int()
		if err != nil {
			return err
		}
		v, _, err := cell.value(c.kind)
		if err != nil {
			return err
		}
		// A field of several types: the newest value counts.
		if old, ok := found[c.name]; !ok || old.Time.UnixNano() < t {
			found[c.name] = telemetry.Latest{Measurement: measurement, Field: telemetry.Field{Name: c.name, Value: v}, Time: time.Unix(0, t).UTC()}
		}
		return nil
	}
	since := time.Now().Add(-recently).UnixNano()
	err = s.eachColumn(ctx, measurement, columns, "last", where(device, since, telemetry.MaxTime), note)
	if err != nil {
		return nil, err
	}
	older := slices.DeleteFunc(columns, func(c column) bool { _, ok := found[c.name]; return ok })
	err = s.eachColumn(ctx, measurement, older, "last", where(device, telemetry.MinTime, since), note)
	if err != nil {
		return nil, err
	}
	out := make([]telemetry.Latest, 0, len(found))
	for _, l := range found {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b telemetry.Latest) int { return cmp.Compare(a.Field.Name, b.Field.Name) })
	return out, nil
}

// Fields is what Latest finds; a field whose kind has changed has that of its
// newest value.
func (s *Store) Fields(ctx context.Context, device string) ([]telemetry.FieldInfo, error) {
	latest, err := s.Latest(ctx, device, "")
	if err != nil || len(latest) == 0 {
		return nil, err
	}
	out := make([]telemetry.FieldInfo, len(latest))
	for i, l := range latest {
		out[i] = telemetry.FieldInfo{Measurement: l.Measurement, Name: l.Field.Name, Kind: l.Field.Value.Kind()}
	}
	return out, nil
}

// Count counts on the server, in its stream of rows: the tag that the inner
// query takes along is in each of them, whichever fields are.
func (s *Store) Count(ctx context.Context, device, measurement string, from, to time.Time) (int64, error) {
	q, err := telemetry.Query{Device: device, Measurement: measurement, From: from, To: to}.Normalize()
	if err != nil {
		return 0, err
	}
	lo, hi := telemetry.Span(q.From, q.To)
	if lo >= hi {
		return 0, nil
	}
	columns, err := s.columnsIn(ctx, &q, lo, hi)
	if err != nil || len(columns) == 0 {
		return 0, err
	}
	statement := fmt.Sprintf(`SELECT count("counted_tag") FROM (SELECT "device"::tag AS "counted_tag", %s FROM %s %s GROUP BY *) GROUP BY *`,
		refs(columns), ident(q.Measurement), where(q.Device, lo, hi))
	var total int64
	groups := 0
	err = s.ask(ctx, statement, func(_ int, piece *series) error {
		for _, row := range piece.Values {
			if len(row) != 2 {
				return errUnexpected
			}
			n, err := row[1].int()
			if err != nil {
				return err
			}
			groups++
			total += n
		}
		return nil
	})
	if err != nil || groups < 2 {
		return total, err
	}
	// The device has had other labels: one row may be in two series.
	return s.countMerged(ctx, &q, columns, lo, hi)
}

// countMerged reads the rows, in the order of time, and counts each time once.
func (s *Store) countMerged(ctx context.Context, q *telemetry.Query, columns []column, from, to int64) (n int64, err error) {
	last := int64(telemetry.MinTime)
	err = s.ask(ctx, s.selectRows(q, columns, from, to, 0), func(_ int, piece *series) error {
		for _, row := range piece.Values {
			if len(row) != len(columns)+1 {
				return errUnexpected
			}
			t, err := row[0].int()
			if err != nil {
				return err
			}
			if t != last {
				n++
			}
			last = t
		}
		return nil
	})
	return n, err
}
