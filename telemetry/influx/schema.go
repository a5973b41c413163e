package influx

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
)

// column is a field as it is asked for: with the type that selects its values
// where the name has several.
type column struct {
	name string
	kind telemetry.Kind
}

func (c column) ref() string { return ident(c.name) + "::" + typeNames[c.kind] }

var typeNames = map[telemetry.Kind]string{
	telemetry.Double: "float",
	telemetry.Int:    "integer",
	telemetry.Bool:   "boolean",
	telemetry.String: "string",
}

// manyColumns is from where on the columns are narrowed to those of the
// device: each costs a cell in every row of the answer.
const manyColumns = 48

// columnsOf is the columns that a measurement has in the database, of any
// device, in the order of their names; with fields only those.
func (s *Store) columnsOf(ctx context.Context, measurement string, fields []string) ([]column, error) {
	var columns []column
	err := s.ask(ctx, "SHOW FIELD KEYS FROM "+ident(measurement), func(_ int, piece *series) error {
		for _, row := range piece.Values {
			if len(row) != 2 {
				return errUnexpected
			}
			name, err := row[0].text()
			if err != nil {
				return err
			}
			kind, err := row[1].text()
			if err != nil {
				return err
			}
			if len(fields) > 0 && !slices.Contains(fields, name) {
				continue
			}
			for k, typeName := range typeNames {
				if typeName == kind {
					columns = append(columns, column{name, k})
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(columns, func(a, b column) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.kind, b.kind))
	})
	// Where a name is both, the server reads its integers as floats.
	return slices.CompactFunc(columns, func(a, b column) bool {
		return a.name == b.name && a.kind == telemetry.Double && b.kind == telemetry.Int
	}), nil
}

// columnsIn is columnsOf, narrowed to the device's own when there are many.
func (s *Store) columnsIn(ctx context.Context, q *telemetry.Query, from, to int64) ([]column, error) {
	columns, err := s.columnsOf(ctx, q.Measurement, q.Fields)
	if err != nil || len(columns) < manyColumns {
		return columns, err
	}
	used := columns[:0:0]
	err = s.eachColumn(ctx, q.Measurement, columns, "first", where(q.Device, from, to), func(c column, _, _ rawCell) error {
		used = append(used, c)
		return nil
	})
	return used, err
}

// statementsAtOnce bounds one request of many statements.
const statementsAtOnce = 200

// eachColumn asks for one value of each column by a selector, first or last,
// and calls each with the time and the value of those that have one.
func (s *Store) eachColumn(ctx context.Context, measurement string, columns []column, selector, where string, each func(c column, at, value rawCell) error) error {
	for part := range slices.Chunk(columns, statementsAtOnce) {
		var q strings.Builder
		for _, c := range part {
			fmt.Fprintf(&q, "SELECT %s(%s) FROM %s %s;", selector, c.ref(), ident(measurement), where)
		}
		err := s.ask(ctx, q.String(), func(statement int, piece *series) error {
			if statement >= len(part) || len(piece.Values) != 1 || len(piece.Values[0]) != 2 {
				return errUnexpected
			}
			if row := piece.Values[0]; !row[1].null() {
				return each(part[statement], row[0], row[1])
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// measurementsOf a device, by the server's index.
func (s *Store) measurementsOf(ctx context.Context, device string) ([]string, error) {
	var names []string
	err := s.ask(ctx, `SHOW MEASUREMENTS WHERE "device"::tag = `+literal(device), func(_ int, piece *series) error {
		for _, row := range piece.Values {
			if len(row) != 1 {
				return errUnexpected
			}
			name, err := row[0].text()
			if err != nil {
				return err
			}
			names = append(names, name)
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}
