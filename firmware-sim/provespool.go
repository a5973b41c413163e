package firmwaresim

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device/client"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// ledgerSpool is a device's spool that tells the ledger what became of every
// frame. It reads the rows out of the frame itself, as it would be sent: what
// the ledger says is what the device said.
type ledgerSpool struct {
	client.Spool
	ledger *rowLedger
	device int
	broken func(error)

	dropping uint64 // rows of the frame that is removed next, because it is given up
}

// Trim takes out acknowledged frames: rejected and dropped ones are removed
// before.
func (s *ledgerSpool) Trim(pos uint64) error {
	for f, ok := s.Next(0); ok && f.Pos <= pos; f, ok = s.Next(f.Pos + 1) {
		if rows, ok := s.rows(f.Pos); ok {
			s.ledger.acknowledged(rows)
		}
	}
	return s.Spool.Trim(pos)
}

// AddDropped comes right before the Remove of a frame that is given up.
func (s *ledgerSpool) AddDropped(rows uint64) {
	s.dropping = rows
	s.Spool.AddDropped(rows)
}

// Remove takes out a frame that was rejected or given up.
func (s *ledgerSpool) Remove(pos uint64) error {
	if f, ok := s.Next(pos); ok && f.Pos == pos {
		if rows, ok := s.rows(pos); ok && uint64(len(rows)) == s.dropping {
			s.ledger.givenUp(rows)
		} else if ok {
			s.ledger.refused(rows)
		}
	}
	s.dropping = 0
	return s.Spool.Remove(pos)
}

func (s *ledgerSpool) rows(pos uint64) ([]ledgerRow, bool) {
	body, err := s.Body(pos)
	if err == nil {
		var rows []ledgerRow
		if rows, err = rowsOf(body, s.device); err == nil {
			return rows, true
		}
	}
	s.broken(fmt.Errorf("frame %d of a spool: %w", pos, err))
	return nil, false
}

// rowsOf reads the body of a frame.
func rowsOf(body []byte, device int) ([]ledgerRow, error) {
	t := new(devicev1.Telemetry)
	if err := proto.Unmarshal(body, t); err != nil {
		return nil, err
	}
	var rows []ledgerRow
	for _, s := range t.Series {
		first := len(rows)
		at := s.BaseTimeUnixNs
		rows = append(rows, make([]ledgerRow, max(len(s.TimeDeltaNs), 1))...)
		for i := range rows[first:] {
			if i < len(s.TimeDeltaNs) {
				at += s.TimeDeltaNs[i]
			}
			rows[first+i].time = at
		}
		for _, c := range s.Columns {
			if err := addColumn(rows[first:], c); err != nil {
				return nil, err
			}
		}
		if err := number(rows[first:], s, device); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// addColumn adds a column to what the rows of its series say.
func addColumn(rows []ledgerRow, c *devicev1.Column) error {
	values := len(c.Doubles) + len(c.Floats) + len(c.Ints) + len(c.Bools) + len(c.Strings)
	if len(c.Rows) == 0 && values != len(rows) || len(c.Rows) > 0 && values != len(c.Rows) {
		return fmt.Errorf("column %q has %d values for %d rows", c.Name, values, len(rows))
	}
	for i := range values {
		row := uint32(i)
		if len(c.Rows) > 0 {
			row = c.Rows[i]
		}
		if int(row) >= len(rows) {
			return fmt.Errorf("column %q has a value for row %d of %d", c.Name, row, len(rows))
		}
		r := &rows[row]
		switch {
		case c.Doubles != nil:
			r.fields += doubleSum(c.Name, c.Doubles[i])
		case c.Floats != nil:
			r.fields += doubleSum(c.Name, float64(c.Floats[i]))
		case c.Ints != nil:
			r.fields += intSum(c.Name, c.Ints[i])
		case c.Bools != nil:
			r.fields += boolSum(c.Name, c.Bools[i])
		default:
			r.fields += stringSum(c.Name, c.Strings[i])
			r.poison = r.poison || c.Name == fieldConflict || c.Name == fieldStubborn
		}
	}
	return nil
}

// number fills in the numbers of the rows of a series.
func number(rows []ledgerRow, s *devicev1.Series, device int) error {
	for _, c := range s.Columns {
		if c.Name != fieldNumber || len(c.Ints) != len(rows) {
			continue
		}
		for i, packed := range c.Ints {
			if packed>>32 != int64(device) {
				return fmt.Errorf("row of device %d in the spool of device %d", packed>>32, device)
			}
			rows[i].n = uint32(packed)
		}
		return nil
	}
	return fmt.Errorf("%d rows without a number", len(rows))
}
