package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Batch is rows to be stored in one go: those of Entries, in order, without
// the first Skip and with at most Rows. The package telemetry/wire decodes it
// to rows or to line protocol.
type Batch struct {
	Entries []Entry
	Skip    int
	Rows    int
}

// NewBatch is the batch of all rows of entries.
func NewBatch(entries []Entry) Batch {
	n := 0
	for i := range entries {
		n += entries[i].Rows
	}
	return Batch{Entries: entries, Rows: n}
}

// Slice is the rows i up to j of b, counted from 0, as a batch over the same
// entries. It panics unless 0 <= i <= j <= b.Rows.
func (b Batch) Slice(i, j int) Batch {
	if i < 0 || j < i || j > b.Rows {
		panic(fmt.Sprintf("telemetry: slice [%d:%d] of a batch of %d rows", i, j, b.Rows))
	}
	out := Batch{Entries: b.Entries, Skip: b.Skip + i, Rows: j - i}
	for len(out.Entries) > 0 && out.Skip >= out.Entries[0].Rows {
		out.Skip -= out.Entries[0].Rows
		out.Entries = out.Entries[1:]
	}
	need := out.Skip + out.Rows
	for k := range out.Entries {
		if need <= 0 {
			out.Entries = out.Entries[:k]
			break
		}
		need -= out.Entries[k].Rows
	}
	return out
}

// Sink stores rows. A row that is stored again overwrites itself.
type Sink interface {
	// Write stores every row of b, or returns an error. After an error any
	// part of b may have been stored. Errors that a caller can act on are
	// *SinkError; any other counts as Retry.
	Write(ctx context.Context, b Batch) error
	// Name for people: "influxdb" or "sqlite".
	Name() string
	// Check whether the store answers now.
	Check(ctx context.Context) error
}

// Class says what a failed write asks for.
type Class uint8

const (
	// Retry: the store is away or overloaded; the rows are kept and offered
	// again (network errors, 429, 5xx).
	Retry Class = iota
	// BadRows: at least one row is not acceptable as it is; the others may
	// be (400, 422, a partial write).
	BadRows
	// TooLarge: the batch is; a smaller one may pass (413).
	TooLarge
	// Misconfigured: no row can be stored until an operator acts (401, 403,
	// 404: wrong token, missing bucket). Kept and retried slowly.
	Misconfigured
)

func (c Class) String() string {
	switch c {
	case Retry:
		return "retry"
	case BadRows:
		return "bad_rows"
	case TooLarge:
		return "too_large"
	case Misconfigured:
		return "misconfigured"
	}
	return "unknown"
}

// SinkError is an error of Sink.Write with what to do about it.
type SinkError struct {
	Class      Class
	RetryAfter time.Duration // the store's own wish; 0: none
	Status     int           // HTTP status; 0: none
	Err        error         // the store's words
}

func (e *SinkError) Error() string { return e.Err.Error() }

// Unwrap returns the store's error.
func (e *SinkError) Unwrap() error { return e.Err }

// ClassOf is the class of an error of Sink.Write.
func ClassOf(err error) Class {
	var se *SinkError
	if errors.As(err, &se) {
		return se.Class
	}
	return Retry
}

// Quarantine keeps rows that the store refuses, with its words, until an
// operator replays or drops them.
type Quarantine interface {
	// Put makes the rows of b durable in quarantine. Putting the same rows
	// again does no harm.
	Put(ctx context.Context, b Batch, reason string) error
}
