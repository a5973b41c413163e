package influx

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// Query answers raw rows and windows.
func (s *Store) Query(ctx context.Context, query telemetry.Query) (telemetry.Page, error) {
	q, err := query.Normalize()
	if err != nil {
		return telemetry.Page{}, err
	}
	from, to, err := q.Span()
	if err != nil || from >= to {
		return telemetry.Page{}, err
	}
	columns, err := s.columnsIn(ctx, &q, from, to)
	if err != nil || len(columns) == 0 {
		return telemetry.Page{}, err
	}
	if q.Aggregate != telemetry.Raw {
		return s.windows(ctx, &q, columns, from, to)
	}
	return s.raw(ctx, &q, columns, from, to)
}

// raw reads one row more than the page holds, to know whether there is one.
// It asks again where rows of one time, which are one row to the reader, came
// in several series and used up the limit.
func (s *Store) raw(ctx context.Context, q *telemetry.Query, columns []column, from, to int64) (telemetry.Page, error) {
	p := rowReader{q: q, columns: columns}
	for limit := q.Limit + 1; ; {
		p.read = 0
		if err := s.ask(ctx, s.selectRows(q, columns, from, to, limit), p.piece); err != nil {
			return telemetry.Page{}, err
		}
		if p.page.NextPage != "" || p.read < limit {
			return p.page, nil
		}
		// The last time may be in more series than were read.
		last := p.page.Rows[len(p.page.Rows)-1].Time.UnixNano()
		if last == from {
			limit *= 2
		}
		from = last
	}
}

// selectRows asks for rows in the order of time; limit 0: all of them.
func (s *Store) selectRows(q *telemetry.Query, columns []column, from, to int64, limit int) string {
	statement := fmt.Sprintf("SELECT %s FROM %s %s ORDER BY time ASC", refs(columns), ident(q.Measurement), where(q.Device, from, to))
	if limit > 0 {
		statement += fmt.Sprintf(" LIMIT %d", limit)
	}
	return statement
}

func refs(columns []column) string {
	var b strings.Builder
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.ref())
	}
	return b.String()
}

// rowReader turns the server's rows into a page.
type rowReader struct {
	q       *telemetry.Query
	columns []column
	page    telemetry.Page
	size    int
	read    int // rows of the server
}

func (p *rowReader) piece(_ int, piece *series) error {
	for _, row := range piece.Values {
		if err := p.row(row); err != nil {
			return err
		}
	}
	return nil
}

func (p *rowReader) row(row []rawCell) error {
	if len(row) != len(p.columns)+1 {
		return errUnexpected
	}
	p.read++
	at, err := row[0].int()
	if err != nil {
		return err
	}
	t := time.Unix(0, at).UTC()
	rows := p.page.Rows
	if n := len(rows); n == 0 || !rows[n-1].Time.Equal(t) {
		if n == p.q.Limit || p.size > telemetry.MaxPageBytes {
			p.page.NextPage = p.q.NextToken(rows[n-1].Time.UnixNano() + 1)
			return errEnough
		}
		p.page.Rows = append(rows, telemetry.ReadRow{Time: t})
	}
	fields, size, err := cells(p.columns, row[1:])
	if err != nil {
		return err
	}
	last := &p.page.Rows[len(p.page.Rows)-1]
	last.Fields = mergeFields(last.Fields, fields)
	p.size += size
	return nil
}

// cells is the fields of a row, in the order of the columns, which is that of
// their names. Of a field with several types, one cell at most has a value.
func cells(columns []column, row []rawCell) (fields []telemetry.Field, size int, err error) {
	for i, c := range columns {
		v, ok, err := row[i].value(c.kind)
		if err != nil {
			return nil, 0, err
		}
		if !ok || len(fields) > 0 && fields[len(fields)-1].Name == c.name {
			continue
		}
		fields = append(fields, telemetry.Field{Name: c.name, Value: v})
		size += len(c.name) + 8 + len(v.Str())
	}
	return fields, size, nil
}

// mergeFields is the fields of both, in the order of names; where both have a
// field, that of over.
func mergeFields(under, over []telemetry.Field) []telemetry.Field {
	if len(under) == 0 {
		return over
	}
	merged := make([]telemetry.Field, 0, len(under)+len(over))
	for len(under) > 0 && len(over) > 0 {
		if under[0].Name < over[0].Name {
			merged = append(merged, under[0])
			under = under[1:]
			continue
		}
		if under[0].Name == over[0].Name {
			under = under[1:]
		}
		merged = append(merged, over[0])
		over = over[1:]
	}
	return append(append(merged, under...), over...)
}
