package wire

import (
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tetherline/tetherline/telemetry"
)

// Rows calls yield with the rows of b, in order, until it returns an error,
// which Rows then returns. The Row, its Fields, and its strings, which share
// memory with the entries, are valid only until yield returns.
//
// The fields of a row stand in the order of the columns of its series. Rows
// of two series are two rows, even of one measurement and time.
//
// An entry that Check would not have accepted, or that has another number of
// rows than it says, gives an error, after some of its rows perhaps.
func Rows(b telemetry.Batch, yield func(*telemetry.Row) error) error {
	d := decoders.Get().(*decoder)
	err := d.batch(b, yield)
	d.reset()
	decoders.Put(d)
	return err
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// decoder is the state of one Rows.
type decoder struct {
	skip, take int // rows
	row        telemetry.Row

	// The present series.
	time    int64
	deltas  cursor
	columns []column
}

// reset forgets the entries, whose bytes belong to the caller.
func (d *decoder) reset() {
	clear(d.columns)
	clear(d.row.Fields[:cap(d.row.Fields)])
	*d = decoder{columns: d.columns[:0], row: telemetry.Row{Fields: d.row.Fields[:0]}}
}

func (d *decoder) batch(b telemetry.Batch, yield func(*telemetry.Row) error) error {
	d.skip, d.take = b.Skip, b.Rows
	for i := range b.Entries {
		e := &b.Entries[i]
		if d.take == 0 {
			return nil
		}
		if d.skip >= e.Rows {
			d.skip -= e.Rows
			continue
		}
		rows, err := d.entry(e, yield)
		if err != nil {
			return err
		}
		if d.take > 0 && rows != e.Rows {
			return corrupt(e, fmt.Errorf("it has %d rows instead of %d", rows, e.Rows))
		}
	}
	if d.take > 0 {
		return fmt.Errorf("decode telemetry: the batch has %d rows less than it says", d.take)
	}
	return nil
}

// corrupt says which entry is no accepted message.
func corrupt(e *telemetry.Entry, err error) error {
	return fmt.Errorf("decode telemetry of device %.64q received at %d: %w", e.Device, e.Received, err)
}

// entry yields the rows of e that are to be taken, and returns how many rows
// it has come past, skipped ones included.
func (d *decoder) entry(e *telemetry.Entry, yield func(*telemetry.Row) error) (rows int, _ error) {
	d.row.Device, d.row.Labels = e.Device, e.Labels
	for msg := e.Telemetry; len(msg) > 0 && d.take > 0; {
		f, rest, ok := nextField(msg)
		if !ok {
			return rows, corrupt(e, errBrokenOff)
		}
		msg = rest
		if f.num != telemetrySeries || f.typ != protowire.BytesType {
			continue
		}
		if err := d.open(f.raw); err != nil {
			return rows, corrupt(e, err)
		}
		for i := uint32(0); d.take > 0; i++ {
			more, err := d.next(i)
			if err != nil {
				return rows, corrupt(e, err)
			}
			if !more {
				break
			}
			if rows++; rows > e.Rows {
				return rows, corrupt(e, fmt.Errorf("it has more than %d rows", e.Rows))
			}
			if d.skip > 0 {
				d.skip--
				continue
			}
			d.take--
			if err := yield(&d.row); err != nil {
				return rows, err
			}
		}
	}
	return rows, nil
}
