package sqlite

import (
	"bytes"
	"context"
	"fmt"
)

// store inserts the items. Where an identity is there already, it merges.
func (w *writer) store(ctx context.Context) error {
	for items := w.items; len(items) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		stmt, n := w.insertGroup, groupRows
		if len(items) < groupRows {
			stmt, n = w.insertOne, 1
		}
		group := items[:n]
		items = items[n:]
		w.args = w.args[:0]
		for i := range group {
			fields, err := w.place(&group[i])
			if err != nil {
				return err
			}
			w.args = append(w.args, group[i].stream, group[i].time, fields)
		}
		res, err := stmt.Exec(w.args...)
		if err != nil {
			return fmt.Errorf("insert rows: %w", err)
		}
		inserted, err := res.RowsAffected()
		if err != nil {
			return fmt.Errorf("insert rows: %w", err)
		}
		if int(inserted) == n {
			continue
		}
		for i := range group {
			if err := w.merge(&group[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// place is what the table rows holds for an item: its blob, or the id of it.
func (w *writer) place(it *item) (any, error) {
	blob := w.blob(it)
	if len(blob) <= inlineBytes {
		it.large = 0
		return blob, nil
	}
	res, err := w.addLarge.Exec(blob)
	if err != nil {
		return nil, fmt.Errorf("insert a large row: %w", err)
	}
	it.large, err = res.LastInsertId()
	return it.large, err
}

// merge writes an item over the row of its identity, field by field.
func (w *writer) merge(it *item) error {
	var old []byte
	var oldLarge int64
	if err := w.selectRow.QueryRow(it.stream, it.time).Scan(&old, &oldLarge); err != nil {
		return fmt.Errorf("read row: %w", err)
	}
	if it.large != 0 && it.large == oldLarge {
		return nil // it was inserted
	}
	if err := w.drop(it.large); err != nil || bytes.Equal(old, w.blob(it)) {
		return err
	}
	from := len(w.arena)
	merged, err := appendMerged(w.arena, old, w.blob(it))
	if err != nil || bytes.Equal(old, merged[from:]) {
		return err
	}
	w.arena = merged
	it.from, it.to = from, len(merged)
	fields, err := w.place(it)
	if err != nil {
		return err
	}
	if _, err := w.updateRow.Exec(fields, it.stream, it.time); err != nil {
		return fmt.Errorf("update row: %w", err)
	}
	return w.drop(oldLarge)
}

// drop deletes a blob from the table large; 0: none.
func (w *writer) drop(large int64) error {
	if large == 0 {
		return nil
	}
	if _, err := w.deleteLarge.Exec(large); err != nil {
		return fmt.Errorf("delete a large row: %w", err)
	}
	return nil
}
