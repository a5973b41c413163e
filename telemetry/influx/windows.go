package influx

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// windows asks for runs of windows of equal length, one after the other,
// until the page is full or the range is done.
func (s *Store) windows(ctx context.Context, q *telemetry.Query, columns []column, from, to int64) (telemetry.Page, error) {
	if columns = aggregable(q.Aggregate, columns); len(columns) == 0 {
		return telemetry.Page{}, nil
	}
	oldest, newest, ok, err := s.extent(ctx, q, columns, from, to)
	if err != nil || !ok {
		return telemetry.Page{}, err
	}
	w := windowReader{q: q, columns: columns}
	if q.Window == 0 {
		w.start, w.end = oldest, to
		if !q.From.IsZero() {
			w.start = from
		}
		err := s.ask(ctx, w.statement(from, to), w.piece)
		return w.page, err
	}
	cut := telemetry.Windows{Length: q.Window, Location: q.Location}
	for at := max(from, oldest); at <= newest && !w.full; at = w.end {
		w.start, w.end = cut.Run(at)
		_, first := cut.At(w.start)
		w.grouped = first < w.end
		if err := s.ask(ctx, w.statement(max(from, w.start), min(to, w.end)), w.piece); err != nil {
			return telemetry.Page{}, err
		}
	}
	return w.page, nil
}

// aggregable is the columns that the aggregate takes.
func aggregable(a telemetry.Aggregate, columns []column) []column {
	switch a {
	case telemetry.Mean, telemetry.Min, telemetry.Max, telemetry.Sum:
	default:
		return columns
	}
	var numeric []column
	for _, c := range columns {
		if c.kind == telemetry.Double || c.kind == telemetry.Int {
			numeric = append(numeric, c)
		}
	}
	return numeric
}

// extent is the times of the oldest and the newest row in [from, to).
func (s *Store) extent(ctx context.Context, q *telemetry.Query, columns []column, from, to int64) (oldest, newest int64, ok bool, err error) {
	first := fmt.Sprintf("SELECT %s FROM %s %s ORDER BY time", refs(columns), ident(q.Measurement), where(q.Device, from, to))
	err = s.ask(ctx, first+" ASC LIMIT 1;"+first+" DESC LIMIT 1", func(statement int, piece *series) error {
		if len(piece.Values) != 1 || len(piece.Values[0]) != len(columns)+1 {
			return errUnexpected
		}
		t, err := piece.Values[0][0].int()
		if statement == 0 {
			oldest, ok = t, true
		} else {
			newest = t
		}
		return err
	})
	return oldest, max(oldest, newest), ok, err
}

// windowReader turns the server's windows into a page.
type windowReader struct {
	q       *telemetry.Query
	columns []column
	page    telemetry.Page
	size    int
	full    bool

	start, end int64 // of the present run
	grouped    bool  // the run has more than one window
}

// statement asks for the windows of the run that lie in [from, to): those of
// the whole run by one GROUP BY, a single one as it is.
func (w *windowReader) statement(from, to int64) string {
	var b strings.Builder
	b.WriteString("SELECT ")
	for i, c := range w.columns {
		if i > 0 {
			b.WriteString(", ")
		}
		// Each has its own name: equal ones the server numbers.
		fmt.Fprintf(&b, "%s(%s) AS \"c%d\"", w.q.Aggregate, c.ref(), i)
	}
	fmt.Fprintf(&b, " FROM %s %s", ident(w.q.Measurement), where(w.q.Device, from, to))
	if w.grouped {
		length := int64(w.q.Window)
		offset := w.start % length
		if offset < 0 {
			offset += length
		}
		fmt.Fprintf(&b, " GROUP BY time(%dns, %dns) fill(none) ORDER BY time ASC LIMIT %d", length, offset, w.q.Limit-len(w.page.Rows)+1)
	}
	return b.String()
}

func (w *windowReader) piece(_ int, piece *series) error {
	for _, row := range piece.Values {
		if len(row) != len(w.columns)+1 {
			return errUnexpected
		}
		at := w.start
		if w.grouped {
			var err error
			if at, err = row[0].int(); err != nil {
				return err
			}
		}
		fields, size, err := w.results(row[1:])
		if err != nil {
			return err
		}
		if len(fields) == 0 {
			continue
		}
		if n := len(w.page.Rows); n == w.q.Limit || w.size > telemetry.MaxPageBytes {
			w.page.NextPage = w.q.NextToken(w.after(w.page.Rows[n-1].Time))
			w.full = true
			return errEnough
		}
		w.page.Rows = append(w.page.Rows, telemetry.ReadRow{Time: time.Unix(0, at).UTC(), Fields: fields})
		w.size += size
	}
	return nil
}

// after is the end of the window that starts at t.
func (w *windowReader) after(t time.Time) int64 {
	_, end := telemetry.Windows{Length: w.q.Window, Location: w.q.Location}.At(t.UnixNano())
	return end
}

// results is the fields of one window. The server counts 0 where others have
// nothing.
func (w *windowReader) results(row []rawCell) ([]telemetry.Field, int, error) {
	asked := make([]column, len(w.columns))
	for i, c := range w.columns {
		asked[i] = c
		switch w.q.Aggregate {
		case telemetry.Mean:
			asked[i].kind = telemetry.Double
		case telemetry.Count:
			asked[i].kind = telemetry.Int
			if string(row[i]) == "0" {
				row[i] = nil
			}
		}
	}
	fields, size, err := cells(asked, row)
	if err != nil {
		return nil, 0, errors.Join(errUnexpected, err)
	}
	return fields, size, nil
}
