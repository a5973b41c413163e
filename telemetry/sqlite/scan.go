package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// sliceRows is how many rows one statement of a reader takes. A statement
// holds a snapshot, and while it does the log cannot be folded back into the
// file: long scans go slice by slice.
const sliceRows = 4096

// session is one reader's connection. What is asked while rows are open sees
// what they see.
type session struct{ conn *sql.Conn }

func (s *Store) session(ctx context.Context) (*session, error) {
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for a reader: %w", err)
	}
	return &session{conn}, nil
}

func (s *session) close() { _ = s.conn.Close() }

// scan calls each with the rows of a stream in [from, to), oldest first, or
// newest first with backwards, until each returns false. The blob is valid
// within the call. first is how many rows the caller reckons with; 0: many.
func (s *session) scan(ctx context.Context, stream, from, to int64, backwards bool, first int, each func(t int64, blob []byte) (bool, error)) error {
	const rows = `SELECT r.time, coalesce(l.fields, r.fields) FROM rows r LEFT JOIN large l ON l.id = r.fields
		WHERE r.stream = ? AND r.time >= ? AND r.time < ? ORDER BY r.time `
	query := rows + "ASC LIMIT ?"
	if backwards {
		query = rows + "DESC LIMIT ?"
	}
	limit := sliceRows
	if first > 0 {
		limit = min(first, sliceRows)
	}
	for from < to {
		n, last, more, err := s.scanSlice(ctx, query, stream, from, to, limit, each)
		if err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		if !more || n < limit {
			return nil
		}
		if backwards {
			to = last
		} else {
			from = last + 1
		}
		limit = sliceRows
	}
	return nil
}

func (s *session) scanSlice(ctx context.Context, query string, stream, from, to int64, limit int, each func(int64, []byte) (bool, error)) (n int, last int64, more bool, err error) {
	rows, err := s.conn.QueryContext(ctx, query, stream, from, to, limit)
	if err != nil {
		return 0, 0, false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var blob sql.RawBytes
	for more = true; more && rows.Next(); n++ {
		if err := rows.Scan(&last, &blob); err != nil {
			return n, last, false, err
		}
		if more, err = each(last, blob); err != nil {
			return n, last, false, err
		}
	}
	return n, last, more, rows.Err()
}

// findStream is the id of a stream; ok is false where there is none.
func (s *session) findStream(ctx context.Context, device, measurement string) (id int64, ok bool, err error) {
	err = s.conn.QueryRowContext(ctx, "SELECT id FROM streams WHERE device = ? AND measurement = ?", device, measurement).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("find stream: %w", err)
	}
	return id, true, nil
}

// dictionary knows the names of a stream's fields.
type dictionary struct {
	session *session
	stream  int64
	names   map[uint64]string
	wanted  map[string]bool // nil: all
}

func (s *session) newDictionary(stream int64, fields []string) *dictionary {
	d := &dictionary{session: s, stream: stream}
	if len(fields) > 0 {
		d.wanted = make(map[string]bool, len(fields))
		for _, f := range fields {
			d.wanted[f] = true
		}
	}
	return d
}

// name of a field; "" for one that the caller does not want. A field that is
// newer than the dictionary makes it read the table again.
func (d *dictionary) name(ctx context.Context, id uint64) (string, error) {
	name, ok := d.names[id]
	if !ok {
		if err := d.load(ctx); err != nil {
			return "", err
		}
		if name, ok = d.names[id]; !ok {
			d.names[id] = "" // retention has just forgotten it
		}
	}
	return name, nil
}

func (d *dictionary) load(ctx context.Context) error {
	d.names = make(map[uint64]string)
	rows, err := d.session.conn.QueryContext(ctx, "SELECT id, name FROM fields WHERE stream = ?", d.stream)
	if err != nil {
		return fmt.Errorf("find fields: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int64
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			return fmt.Errorf("find fields: %w", err)
		}
		if d.wanted != nil && !d.wanted[name] {
			name = ""
		}
		d.names[uint64(id)] = name
	}
	return rows.Err()
}
