package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxCachedFields bounds the catalog in memory, about 25 MiB: 20,000 streams
// of ten fields. What is beyond is read from the file.
const maxCachedFields = 200_000

const hour = int64(time.Hour)

// hourOf is the Unix hour that holds the time t in ns.
func hourOf(t int64) int64 {
	h := t / hour
	if t%hour < 0 {
		h--
	}
	return h
}

type streamKey struct{ device, measurement string }

// stream is one device's measurement as the writer remembers it.
type stream struct {
	key    streamKey
	id     int64
	next   uint64 // the id of the next new field
	fields map[string]*field
}

type field struct {
	id     uint64
	newest int64 // hour
	stream int64
	name   string
	isNew  bool // not in the file before this transaction
	dirty  bool // newest has changed in this transaction
}

// catalog is the writer's copy of the tables streams and fields. It runs
// ahead of the file within a transaction: after a rollback it is emptied.
type catalog struct {
	streams map[streamKey]*stream
	size    int // fields in it

	touched []*field // dirty or new
	grown   []*stream

	last *stream // of the row before: frames hold rows of one stream
}

func newCatalog() *catalog { return &catalog{streams: make(map[streamKey]*stream)} }

// reset forgets everything.
func (c *catalog) reset() { *c = *newCatalog() }

// stream finds or makes the stream. device and measurement need not outlive
// the call.
func (c *catalog) stream(w *writer, device, measurement string) (*stream, error) {
	if c.last != nil && c.last.key.device == device && c.last.key.measurement == measurement {
		return c.last, nil
	}
	s, ok := c.streams[streamKey{device, measurement}]
	if !ok {
		var err error
		key := streamKey{strings.Clone(device), strings.Clone(measurement)}
		if s, err = w.loadStream(key); err != nil {
			return nil, err
		}
		c.streams[key] = s
		c.size += len(s.fields)
	}
	c.last = s
	return s, nil
}

// field finds or makes the field and notes that it has a value at t. name
// need not outlive the call.
func (c *catalog) field(s *stream, name string, t int64) *field {
	f, ok := s.fields[name]
	if !ok {
		f = &field{id: s.next, newest: hourOf(t), stream: s.id, name: strings.Clone(name), isNew: true, dirty: true}
		if s.next++; len(c.grown) == 0 || c.grown[len(c.grown)-1] != s {
			c.grown = append(c.grown, s)
		}
		s.fields[f.name] = f
		c.size++
		c.touched = append(c.touched, f)
		return f
	}
	if h := hourOf(t); h > f.newest {
		f.newest = h
		if !f.dirty {
			f.dirty = true
			c.touched = append(c.touched, f)
		}
	}
	return f
}

// flush writes what has changed into the open transaction.
func (c *catalog) flush(w *writer) error {
	for _, f := range c.touched {
		var err error
		if f.isNew {
			_, err = w.addField.Exec(f.stream, int64(f.id), f.name, f.newest)
		} else {
			_, err = w.setNewest.Exec(f.newest, f.stream, int64(f.id))
		}
		if err != nil {
			return fmt.Errorf("note field: %w", err)
		}
	}
	for _, s := range c.grown {
		if _, err := w.setFields.Exec(int64(s.next), s.id); err != nil {
			return fmt.Errorf("note stream: %w", err)
		}
	}
	return nil
}

// committed marks everything as being in the file, and sheds what is over the
// bound.
func (c *catalog) committed() {
	for _, f := range c.touched {
		f.isNew, f.dirty = false, false
	}
	c.touched, c.grown = c.touched[:0], c.grown[:0]
	for key, s := range c.streams {
		if c.size <= maxCachedFields {
			break
		}
		c.size -= len(s.fields)
		delete(c.streams, key)
		c.last = nil
	}
}

// loadStream reads a stream with its fields, or adds it to the transaction.
func (w *writer) loadStream(key streamKey) (*stream, error) {
	s := &stream{key: key, fields: make(map[string]*field)}
	var next int64
	err := w.findStream.QueryRow(key.device, key.measurement).Scan(&s.id, &next)
	if errors.Is(err, sql.ErrNoRows) {
		res, err := w.addStream.Exec(key.device, key.measurement)
		if err != nil {
			return nil, fmt.Errorf("add stream: %w", err)
		}
		s.id, err = res.LastInsertId()
		return s, err
	}
	if err != nil {
		return nil, fmt.Errorf("find stream: %w", err)
	}
	s.next = uint64(next)
	rows, err := w.findFields.QueryContext(context.Background(), s.id)
	if err != nil {
		return nil, fmt.Errorf("find fields: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		f := &field{stream: s.id}
		var id int64
		if err := rows.Scan(&id, &f.name, &f.newest); err != nil {
			return nil, fmt.Errorf("find fields: %w", err)
		}
		f.id = uint64(id)
		s.fields[f.name] = f
	}
	return s, rows.Err()
}
