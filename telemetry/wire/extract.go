package wire

import (
	"errors"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
)

// Extract makes the rows of b an Entry of their own, with seq 1, that shares
// no memory with the entries of b. Its Received is that of the first row. The
// rows must be of one device and have the same Labels; b must have at least
// one.
func Extract(b telemetry.Batch) (telemetry.Entry, error) {
	var rows []telemetry.Row
	err := Rows(b, func(r *telemetry.Row) error {
		if len(rows) > 0 && (r.Device != rows[0].Device || r.Labels != rows[0].Labels) {
			return errors.New("extract telemetry: the rows are not of one device with the same labels")
		}
		row := *r
		row.Fields = slices.Clone(r.Fields)
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return telemetry.Entry{}, err
	}
	if len(rows) == 0 {
		return telemetry.Entry{}, errors.New("extract telemetry: the batch has no rows")
	}
	msg, err := Encode(1, rows)
	if err != nil {
		return telemetry.Entry{}, err
	}
	first := b.Slice(0, 1).Entries[0]
	return telemetry.Entry{
		Device:    strings.Clone(first.Device),
		Labels:    strings.Clone(first.Labels),
		Received:  first.Received,
		Rows:      len(rows),
		Telemetry: msg,
	}, nil
}
