package wire

import (
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tetherline/tetherline/telemetry"
)

// Check examines an encoded device.v1 Telemetry message (not the DeviceFrame
// around it) against every rule of the protocol, with now for the bounds on
// its times. An error is a *Rejection: nothing of the message may be stored.
// fields holds what the device has used so far; an accepted message adds to
// it, a rejected one leaves it as it is. msg is not kept.
//
// Check may run at once with others on other FieldSets.
func Check(msg []byte, now time.Time, fields *FieldSet) (Info, error) {
	c := checkers.Get().(*checker)
	c.oldest, c.newest = now.Add(-telemetry.MaxPast).UnixNano(), now.Add(telemetry.MaxFuture).UnixNano()
	c.fields = fields
	info, rejection := c.message(msg)
	if rejection == nil {
		fields.add(c.fresh)
	}
	c.reset()
	checkers.Put(c)
	if rejection != nil {
		return Info{Seq: info.Seq}, rejection
	}
	return info, nil
}

var checkers = sync.Pool{New: func() any { return new(checker) }}

// checker is the state of one Check.
type checker struct {
	oldest, newest int64 // bounds of a row's time, both allowed
	fields         *FieldSet

	rows    int
	fresh   []uint64        // pairs that fields does not have
	columns []checkedColumn // of the present series
}

// reset forgets the message, whose bytes belong to the caller.
func (c *checker) reset() {
	clear(c.columns)
	*c = checker{fresh: c.fresh[:0], columns: c.columns[:0]}
}

func (c *checker) message(msg []byte) (Info, *Rejection) {
	info, ok := readInfo(msg)
	switch {
	case !ok:
		return info, reject(malformed, "the message is not a Telemetry message")
	case info.Seq == 0:
		return info, reject(malformed, "seq is missing; it counts from 1")
	case len(msg) > telemetry.MaxFrameBytes:
		return info, reject(tooLarge, "%d bytes; a frame has at most %d", len(msg), telemetry.MaxFrameBytes)
	}
	for i, rest := 0, msg; len(rest) > 0; {
		var f field
		f, rest, _ = nextField(rest)
		if f.num != telemetrySeries || f.typ != protowire.BytesType {
			continue
		}
		if r := c.series(f.raw); r != nil {
			return info, reject(r.Code, "series %d: %s", i, r.Detail)
		}
		i++
	}
	if c.rows == 0 {
		return info, reject(empty, "no rows")
	}
	info.Rows = c.rows
	return info, nil
}

// readInfo reads the scalars of a Telemetry message, wherever they stand. It
// is false where the message breaks off; what came before is in Info.
func readInfo(msg []byte) (info Info, ok bool) {
	for len(msg) > 0 {
		var f field
		f, msg, ok = nextField(msg)
		if !ok {
			return info, false
		}
		if f.typ == protowire.VarintType {
			switch f.num {
			case telemetrySeq:
				info.Seq = f.uvarint()
			case telemetryDroppedRows:
				info.DroppedRows = f.uvarint()
			}
		}
	}
	return info, true
}

func (c *checker) series(body []byte) *Rejection {
	var measurement []byte
	var base int64
	var deltas cursor
	clear(c.columns)
	c.columns = c.columns[:0]
	for len(body) > 0 {
		f, rest, ok := nextField(body)
		if !ok {
			return reject(malformed, "broken off")
		}
		body = rest
		switch {
		case f.num == seriesMeasurement && f.typ == protowire.BytesType:
			if !utf8.Valid(f.raw) {
				return reject(malformed, "measurement is not UTF-8")
			}
			measurement = f.raw
		case f.num == seriesBaseTime && f.typ == protowire.Fixed64Type:
			base = int64(fixed64(f.raw))
		case f.num == seriesTimeDelta && f.list(protowire.VarintType):
			deltas.saw(f, protowire.VarintType, rest)
		case f.num == seriesColumns && f.typ == protowire.BytesType:
			if len(c.columns) == telemetry.MaxFields {
				return reject(tooLarge, "more than %d columns", telemetry.MaxFields)
			}
			c.columns = append(c.columns, checkedColumn{})
			i := len(c.columns) - 1
			if r := c.columns[i].read(f.raw); r != nil {
				return c.atColumn(i, r)
			}
		}
	}
	if len(measurement) > 0 && !validName(measurement) {
		return reject(badName, "measurement %s: %s", quote(measurement), nameRule)
	}
	deltas.settle()
	rows, r := c.times(base, deltas)
	if r != nil {
		return r
	}
	c.rows += rows
	return c.fit(measurement, rows)
}

// atColumn says which column r is about.
func (c *checker) atColumn(i int, r *Rejection) *Rejection {
	return reject(r.Code, "column %d, %s: %s", i, quote(c.columns[i].name), r.Detail)
}

// times checks the times of a series and counts its rows.
func (c *checker) times(base int64, deltas cursor) (rows int, _ *Rejection) {
	room := telemetry.MaxFrameRows - c.rows
	if deltas.done() {
		if room < 1 {
			return 0, tooManyRows()
		}
		if base < c.oldest || base > c.newest {
			return 0, timeOutOfRange(0)
		}
		return 1, nil
	}
	for t := base; !deltas.done(); rows++ {
		if rows == room {
			return 0, tooManyRows()
		}
		v, ok := deltas.uvarint()
		if !ok {
			return 0, reject(malformed, "time delta of row %d is broken", rows)
		}
		next, fits := addTime(t, protowire.DecodeZigZag(v))
		if !fits || next < c.oldest || next > c.newest {
			return 0, timeOutOfRange(rows)
		}
		t = next
	}
	return rows, nil
}

// addTime is t+d, and false where that does not fit an int64.
func addTime(t, d int64) (int64, bool) {
	sum := t + d
	return sum, (d >= 0) == (sum >= t)
}

func tooManyRows() *Rejection {
	return reject(tooLarge, "more than %d rows in the frame", telemetry.MaxFrameRows)
}

func timeOutOfRange(row int) *Rejection {
	return reject(badTime, "time of row %d is more than 10 years back or 1 hour ahead", row)
}

// fit checks the columns of a series against its rows, its other columns and
// what the device has used before.
func (c *checker) fit(measurement []byte, rows int) *Rejection {
	if len(measurement) == 0 {
		measurement = defaultMeasurement
	}
	hash := hashName(measurement)
	covered := false // by one column alone
	for i := range c.columns {
		col := &c.columns[i]
		if r := col.fit(rows); r != nil {
			return c.atColumn(i, r)
		}
		col.hash = hashPair(hash, hashName(col.name))
		for j := range c.columns[:i] {
			if c.columns[j].hash == col.hash && string(c.columns[j].name) == string(col.name) {
				return c.atColumn(i, reject(malformed, "it occurs twice in the series"))
			}
		}
		if r := c.remember(col.hash); r != nil {
			return c.atColumn(i, r)
		}
		covered = covered || col.values == rows
	}
	if covered {
		return nil
	}
	return c.cover(rows)
}

var defaultMeasurement = []byte(telemetry.DefaultMeasurement)

// remember a pair of measurement and field.
func (c *checker) remember(hash uint64) *Rejection {
	if c.fields.has(hash) || slices.Contains(c.fresh, hash) {
		return nil
	}
	if c.fields.full(len(c.fresh) + 1) {
		return reject(tooLarge, "the device has more than %d distinct fields", telemetry.MaxFields)
	}
	c.fresh = append(c.fresh, hash)
	return nil
}

// cover checks that every row has a value, where all columns are sparse.
func (c *checker) cover(rows int) *Rejection {
	var has [telemetry.MaxFrameRows]bool
	for i := range c.columns {
		for cur := c.columns[i].rows; !cur.done(); {
			row, _ := cur.uvarint()
			has[uint32(row)] = true
		}
	}
	if row := slices.Index(has[:rows], false); row >= 0 {
		return reject(empty, "row %d has no value", row)
	}
	return nil
}
