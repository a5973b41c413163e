package client

// Frame is what a Spool keeps: rows in their wire form, without a seq.
type Frame struct {
	Rows int
	Body []byte
}

// FrameInfo is a frame without its body.
type FrameInfo struct {
	Pos  uint64
	Rows int
	Size int  // of the body, in bytes
	Sent bool // MarkSent was called for it
}

// SpoolStats is what a spool holds.
type SpoolStats struct {
	Frames   int
	Rows     int
	Bytes    int64
	MaxBytes int64
}

// Spool keeps frames, oldest first, until the hub has acknowledged them. A
// frame's position rises with every Append, and its size is bounded by
// MaxFrameBytes. A Client makes one call at a time.
//
// A spool may serve one Client after another, never two at once. The Client
// does not close it.
type Spool interface {
	// Append adds a frame at the end and keeps f.Body, which must not change
	// any more. It returns ErrSpoolFull and takes nothing where there is no
	// room.
	Append(f Frame) (pos uint64, err error)
	// Next is the first frame at or after pos; false: there is none.
	Next(pos uint64) (FrameInfo, bool)
	// Body of the frame at pos; not to be changed by anybody. An error that
	// wraps ErrFrameDamaged says that it will never be readable.
	Body(pos uint64) ([]byte, error)
	// MarkSent notes that the frame at pos is on its way and may arrive: others
	// are given up first. It outlives the process where frames do, and need
	// not survive a loss of power.
	MarkSent(pos uint64)
	// Remove takes one frame out, wherever it stands. A position that is not
	// held is no error.
	Remove(pos uint64) error
	// Trim takes out every frame up to and including pos. It need not be
	// durable: frames that come back after a crash are sent again.
	Trim(pos uint64) error
	// Dropped is the running total of rows that were given up, since the
	// spool was first made. AddDropped adds to it.
	Dropped() uint64
	AddDropped(rows uint64)
	// Sync makes what was appended durable, where the spool can.
	Sync() error
	// Durable reports whether frames survive the process.
	Durable() bool
	Stats() SpoolStats
}

// frameCost is what a held frame takes beside its body.
const frameCost = 32
