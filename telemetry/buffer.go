package telemetry

import (
	"context"
	"errors"
	"time"
)

// Errors of a Buffer.
var (
	// ErrFull says that the buffer is at its bound. Nothing was taken; the
	// sender keeps the frame and offers it again later.
	ErrFull = errors.New("telemetry buffer is full")
	// ErrClosed says that the buffer takes nothing more.
	ErrClosed = errors.New("telemetry buffer is closed")
)

// Entry is one checked Telemetry message as the buffer holds it.
type Entry struct {
	Device   string // id
	Labels   string // registry labels that become tags, escaped for line protocol: ",site=north,row=7"; "" for none
	Received int64  // Unix time in ns when the hub took it
	Rows     int    // rows in Telemetry
	// Telemetry is an encoded device.v1 Telemetry message that wire.Check
	// has accepted.
	Telemetry []byte
}

// Acker hears of what it appended. Durable is called from one goroutine of
// the buffer, in the order of the Appends, perhaps once for several of them:
// everything appended for this Acker up to seq is on disk. It must not block.
type Acker interface {
	Durable(seq uint64)
}

// Buffer holds acknowledged entries until they are stored. All methods may
// run at once.
type Buffer interface {
	// Append takes a copy of e. It returns ErrFull or ErrClosed and takes
	// nothing, or returns nil and calls to.Durable(seq) after the fsync.
	// Entries are made durable in the order of the calls. to may be nil.
	Append(e Entry, seq uint64, to Acker) error
	// Pressure tells how full the buffer is.
	Pressure() Pressure
}

// Pressure is how full a buffer is.
type Pressure struct {
	Bytes    int64 // held, on disk and in memory
	MaxBytes int64
	Chunks   int64         // waiting to be stored
	Oldest   time.Duration // age of the oldest chunk; 0 when empty
	// Throttle is how long senders should pause: 0 while there is room.
	Throttle time.Duration
}

// Chunk is a run of entries that became durable together.
type Chunk interface {
	// Entries are valid until Done.
	Entries() []Entry
	// Deliveries counts from 1; above 1 the chunk may have been stored before.
	Deliveries() int
	// Bytes the chunk takes in the buffer.
	Bytes() int
	// Done removes the chunk from the buffer, durably.
	Done(ctx context.Context) error
	// InProgress keeps the chunk from being handed to another Pump for
	// another while. Call it at least every ChunkLease/2.
	InProgress() error
	// Release hands the chunk back, to be fetched again after delay.
	Release(delay time.Duration) error
}

// ChunkLease is how long a fetched chunk stays with one Pump without a word.
const ChunkLease = 30 * time.Second

// Source hands out chunks, oldest first. Several Pumps may share one: each
// chunk goes to one of them.
type Source interface {
	// Fetch waits until there is a chunk, and returns up to max. It returns
	// no chunk and ctx.Err() when ctx ends first.
	Fetch(ctx context.Context, max int) ([]Chunk, error)
}
