package telemetry

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/tetherline/tetherline/device"
)

// Bounds of the windows of a query.
const (
	MinWindow = time.Second
	MaxWindow = 36600 * 24 * time.Hour // a century
)

// MaxPageBytes bounds the values of one page, in bytes of names and strings
// and 8 for each other value. A page ends early, with a NextPage, after the
// row that goes over it.
const MaxPageBytes = 8 << 20

// The widest range of times that every store can be asked for, in Unix ns,
// both inclusive.
const (
	MinTime = math.MinInt64 + 2
	MaxTime = math.MaxInt64 - 1
)

// Normalize checks q and returns it with every default filled in and Fields
// sorted, each once. Its error wraps ErrBadQuery.
func (q Query) Normalize() (Query, error) {
	if q.Measurement == "" {
		q.Measurement = DefaultMeasurement
	}
	if q.Location == nil {
		q.Location = time.UTC
	}
	if q.Limit == 0 {
		q.Limit = DefaultPageRows
	}
	q.Fields = slices.Clone(q.Fields)
	slices.Sort(q.Fields)
	q.Fields = slices.Compact(q.Fields)
	return q, q.check()
}

func (q *Query) check() error {
	if err := CheckTarget(q.Device, q.Measurement); err != nil {
		return err
	}
	for _, f := range q.Fields {
		if !validName(f) {
			return badQuery("field %q is not a name", clip(f))
		}
	}
	switch {
	case len(q.Fields) > MaxFields:
		return badQuery("%d fields; at most %d", len(q.Fields), MaxFields)
	case !q.From.IsZero() && !q.To.IsZero() && q.To.Before(q.From):
		return badQuery("the range ends before it begins")
	case q.Aggregate > Last:
		return badQuery("unknown aggregate %d", q.Aggregate)
	case q.Aggregate == Raw && q.Window != 0:
		return badQuery("a window needs an aggregate")
	case q.Window != 0 && (q.Window < MinWindow || q.Window > MaxWindow):
		return badQuery("a window is %v to %d days, or 0 for the whole range", MinWindow, MaxWindow/(24*time.Hour))
	case q.Limit < 0 || q.Limit > MaxPageRows:
		return badQuery("a page has 1 to %d rows", MaxPageRows)
	}
	return nil
}

// CheckTarget checks the device and the measurement ("" passes) of a
// question. Its error wraps ErrBadQuery.
func CheckTarget(deviceID, measurement string) error {
	if err := device.CheckID(deviceID); err != nil {
		return fmt.Errorf("%w: %w", ErrBadQuery, err)
	}
	if measurement != "" && !validName(measurement) {
		return badQuery("measurement %q is not a name", clip(measurement))
	}
	return nil
}

// Span is the range [from, to) of two times as Unix ns; zero times are open
// ends, and times that no store can hold are cut to those it can. It is empty
// when from >= to.
func Span(from, to time.Time) (int64, int64) {
	lo, hi := int64(MinTime), int64(MaxTime)
	if !from.IsZero() {
		lo = clampNano(from)
	}
	if !to.IsZero() {
		hi = clampNano(to)
	}
	return lo, hi
}

func clampNano(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, MinTime)):
		return MinTime
	case t.After(time.Unix(0, MaxTime)):
		return MaxTime
	}
	return t.UnixNano()
}

// Page tokens carry the time to go on from, not a row number: rows that are
// stored meanwhile neither repeat a row nor leave one out.
const (
	tokenVersion = 1
	tokenBytes   = 1 + 8 + 8
)

// NextToken is the token of the page of q that begins at the time resume.
// q is normalized.
func (q *Query) NextToken(resume int64) string {
	b := make([]byte, 0, tokenBytes)
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint64(b, q.fingerprint())
	b = binary.BigEndian.AppendUint64(b, uint64(resume))
	return base64.RawURLEncoding.EncodeToString(b)
}

// Span is the range [from, to) in Unix ns that q still asks for: from is
// where q.Page goes on. Its error wraps ErrBadPageToken. q is normalized.
func (q *Query) Span() (from, to int64, err error) {
	from, to = Span(q.From, q.To)
	if q.Page == "" {
		return from, to, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(q.Page)
	if err != nil || len(b) != tokenBytes || b[0] != tokenVersion {
		return 0, 0, fmt.Errorf("%w: it is not one of this hub", ErrBadPageToken)
	}
	if binary.BigEndian.Uint64(b[1:]) != q.fingerprint() {
		return 0, 0, fmt.Errorf("%w: it belongs to another query", ErrBadPageToken)
	}
	return max(from, int64(binary.BigEndian.Uint64(b[9:]))), to, nil
}

// fingerprint covers what must stay the same from page to page; the limit
// may change.
func (q *Query) fingerprint() uint64 {
	h := fnv.New64a()
	for _, s := range append([]string{q.Device, q.Measurement, q.Location.String(), ""}, q.Fields...) {
		_, _ = h.Write([]byte(s))
		_, _ = h.Write([]byte{0})
	}
	from, to := Span(q.From, q.To)
	for _, n := range []int64{from, to, int64(q.Aggregate), int64(q.Window)} {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
	return h.Sum64()
}

// validName reports whether s is [A-Za-z_][A-Za-z0-9_]{0,63}.
func validName(s string) bool {
	if s == "" || len(s) > MaxNameBytes || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// clip bounds what an error quotes of the caller's words.
func clip(s string) string { return s[:min(len(s), MaxNameBytes)] }

func badQuery(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadQuery, fmt.Sprintf(format, args...))
}
