package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// Latest looks at the newest hour of each field only.
func (s *Store) Latest(ctx context.Context, device, measurement string) ([]telemetry.Latest, error) {
	if err := telemetry.CheckTarget(device, measurement); err != nil {
		return nil, err
	}
	session, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	defer session.close()
	streams, err := session.newest(ctx, device, measurement)
	if err != nil {
		return nil, err
	}
	var out []telemetry.Latest
	for _, st := range streams {
		for h, pending := range st.hours {
			if out, err = session.latestOf(ctx, out, &st, h, pending); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(out, func(a, b telemetry.Latest) int {
		return cmp.Or(cmp.Compare(a.Measurement, b.Measurement), cmp.Compare(a.Field.Name, b.Field.Name))
	})
	return out, nil
}

// newestOf a stream: the hours that hold the newest values, and of which
// fields (names by id).
type newestOf struct {
	id          int64
	measurement string
	hours       map[int64]map[uint64]string
}

func (s *session) newest(ctx context.Context, device, measurement string) ([]newestOf, error) {
	const query = `SELECT s.id, s.measurement, f.id, f.name, f.newest
		FROM streams s JOIN fields f ON f.stream = s.id
		WHERE s.device = ?1 AND (?2 = '' OR s.measurement = ?2)
		ORDER BY s.id`
	rows, err := s.conn.QueryContext(ctx, query, device, measurement)
	if err != nil {
		return nil, fmt.Errorf("find fields: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []newestOf
	for rows.Next() {
		var stream, field, hour int64
		var measurement, name string
		if err := rows.Scan(&stream, &measurement, &field, &name, &hour); err != nil {
			return nil, fmt.Errorf("find fields: %w", err)
		}
		if n := len(out); n == 0 || out[n-1].id != stream {
			out = append(out, newestOf{id: stream, measurement: measurement, hours: make(map[int64]map[uint64]string)})
		}
		hours := out[len(out)-1].hours
		if hours[hour] == nil {
			hours[hour] = make(map[uint64]string)
		}
		hours[hour][uint64(field)] = name
	}
	return out, rows.Err()
}

// latestOf goes backwards through the hour until every pending field is found.
func (s *session) latestOf(ctx context.Context, out []telemetry.Latest, st *newestOf, h int64, pending map[uint64]string) ([]telemetry.Latest, error) {
	err := s.scan(ctx, st.id, h*hour, (h+1)*hour, true, 16, func(t int64, blob []byte) (bool, error) {
		for len(blob) > 0 {
			c, rest, err := nextCell(blob)
			if err != nil {
				return false, err
			}
			blob = rest
			name, ok := pending[c.field]
			if !ok {
				continue
			}
			delete(pending, c.field)
			out = append(out, telemetry.Latest{
				Measurement: st.measurement,
				Field:       telemetry.Field{Name: name, Value: c.value},
				Time:        time.Unix(0, t).UTC(),
			})
		}
		return len(pending) > 0, nil
	})
	return out, err
}

// Fields is what Latest finds; a field whose kind has changed has that of its
// newest value.
func (s *Store) Fields(ctx context.Context, device string) ([]telemetry.FieldInfo, error) {
	latest, err := s.Latest(ctx, device, "")
	if err != nil || len(latest) == 0 {
		return nil, err
	}
	out := make([]telemetry.FieldInfo, len(latest))
	for i := range latest {
		out[i] = telemetry.FieldInfo{
			Measurement: latest[i].Measurement,
			Name:        latest[i].Field.Name,
			Kind:        latest[i].Field.Value.Kind(),
		}
	}
	return out, nil
}

// Count counts rows.
func (s *Store) Count(ctx context.Context, device, measurement string, from, to time.Time) (int64, error) {
	q, err := telemetry.Query{Device: device, Measurement: measurement, From: from, To: to}.Normalize()
	if err != nil {
		return 0, err
	}
	lo, hi := telemetry.Span(q.From, q.To)
	var n int64
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM rows
		WHERE stream = (SELECT id FROM streams WHERE device = ? AND measurement = ?) AND time >= ? AND time < ?`,
		q.Device, q.Measurement, lo, hi).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count rows: %w", err)
	}
	return n, nil
}

// Query answers raw rows and windows.
func (s *Store) Query(ctx context.Context, query telemetry.Query) (telemetry.Page, error) {
	q, err := query.Normalize()
	if err != nil {
		return telemetry.Page{}, err
	}
	from, to, err := q.Span()
	if err != nil {
		return telemetry.Page{}, err
	}
	session, err := s.session(ctx)
	if err != nil {
		return telemetry.Page{}, err
	}
	defer session.close()
	stream, ok, err := session.findStream(ctx, q.Device, q.Measurement)
	if err != nil || !ok {
		return telemetry.Page{}, err
	}
	if q.Aggregate != telemetry.Raw {
		return session.windows(ctx, &q, stream, from, to)
	}
	return session.raw(ctx, &q, stream, from, to)
}

func (s *session) raw(ctx context.Context, q *telemetry.Query, stream, from, to int64) (telemetry.Page, error) {
	names := s.newDictionary(stream, q.Fields)
	var page telemetry.Page
	size := 0
	err := s.scan(ctx, stream, from, to, false, q.Limit+1, func(t int64, blob []byte) (bool, error) {
		fields, bytes, err := names.decode(ctx, blob)
		if err != nil || len(fields) == 0 {
			return true, err
		}
		if len(page.Rows) == q.Limit || size > telemetry.MaxPageBytes {
			page.NextPage = q.NextToken(page.Rows[len(page.Rows)-1].Time.UnixNano() + 1)
			return false, nil
		}
		size += bytes
		page.Rows = append(page.Rows, telemetry.ReadRow{Time: time.Unix(0, t).UTC(), Fields: fields})
		return true, nil
	})
	if err != nil {
		return telemetry.Page{}, err
	}
	return page, nil
}

// decode is the wanted fields of a blob in the order of their names, and the
// bytes they count for.
func (d *dictionary) decode(ctx context.Context, blob []byte) (fields []telemetry.Field, bytes int, err error) {
	for len(blob) > 0 {
		c, rest, err := nextCell(blob)
		if err != nil {
			return nil, 0, err
		}
		blob = rest
		name, err := d.name(ctx, c.field)
		if err != nil {
			return nil, 0, err
		}
		if name == "" {
			continue
		}
		if fields == nil {
			fields = make([]telemetry.Field, 0, 8)
		}
		fields = append(fields, telemetry.Field{Name: name, Value: c.value})
		bytes += len(name) + 8 + len(c.value.Str())
	}
	slices.SortFunc(fields, func(a, b telemetry.Field) int { return cmp.Compare(a.Name, b.Name) })
	return fields, bytes, nil
}
