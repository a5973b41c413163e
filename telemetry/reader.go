package telemetry

import (
	"context"
	"errors"
	"time"
)

// Errors of a Reader.
var (
	// ErrBadQuery wraps what is wrong with a query and how to mend it.
	ErrBadQuery = errors.New("bad query")
	// ErrBadPageToken says that a page token is not one of this query.
	ErrBadPageToken = errors.New("bad page token")
)

// Bounds of one page of a query, in rows.
const (
	DefaultPageRows = 1000
	MaxPageRows     = 10000
)

// Aggregate is how the values of a field in a window become one value.
type Aggregate uint8

// The aggregates. Mean, Min, Max and Sum leave out bool and string fields.
// Count is an Int; Mean is a Double; the others keep the field's kind.
const (
	Raw Aggregate = iota
	Mean
	Min
	Max
	Sum
	Count
	First
	Last
)

func (a Aggregate) String() string {
	switch a {
	case Raw:
		return "raw"
	case Mean:
		return "mean"
	case Min:
		return "min"
	case Max:
		return "max"
	case Sum:
		return "sum"
	case Count:
		return "count"
	case First:
		return "first"
	case Last:
		return "last"
	}
	return "unknown"
}

// Query asks for the rows of one device and measurement, oldest first.
type Query struct {
	Device      string
	Measurement string    // "": DefaultMeasurement
	Fields      []string  // nil: all
	From        time.Time // inclusive; zero: from the oldest row
	To          time.Time // exclusive; zero: to the newest row
	Aggregate   Aggregate // Raw: rows as they were stored
	// Window is the length of a window, from 1 s, with an Aggregate; 0: the
	// whole range is one window, at From or at its oldest row. Windows are
	// aligned to local midnight of Location as far as they divide a day;
	// whole multiples of 24 h are counted in local days from 1970-01-01.
	// Windows without a row are left out.
	Window   time.Duration
	Location *time.Location // nil: UTC
	// Limit is rows a page, to MaxPageRows; 0: DefaultPageRows.
	Limit int
	// Page is the NextPage of the page before; "": the first.
	Page string
}

// Page is a part of a query's answer.
type Page struct {
	Rows     []ReadRow
	NextPage string // "": the last page
}

// ReadRow is a row that was read back, or one window (Time is its start).
type ReadRow struct {
	Time   time.Time
	Fields []Field // in the order of their names
}

// Latest is the newest value of one field.
type Latest struct {
	Measurement string
	Field       Field
	Time        time.Time
}

// FieldInfo is a field that the store has values of. Kind is Double for both
// Double and Float.
type FieldInfo struct {
	Measurement string
	Name        string
	Kind        Kind
}

// Reader reads stored rows back. All methods may run at once. A device,
// measurement or field that has no rows gives an empty answer, no error.
// Errors wrap ErrBadQuery or ErrBadPageToken where the caller is at fault.
type Reader interface {
	// Latest is the newest value of each field of the device, ordered by
	// measurement and field; measurement "" means all.
	Latest(ctx context.Context, device, measurement string) ([]Latest, error)
	Query(ctx context.Context, q Query) (Page, error)
	// Fields is ordered by measurement and name.
	Fields(ctx context.Context, device string) ([]FieldInfo, error)
	// Count is the rows (not values) in [from, to) of one measurement; ""
	// means DefaultMeasurement; zero times are open ends.
	Count(ctx context.Context, device, measurement string, from, to time.Time) (int64, error)
}
