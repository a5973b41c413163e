package session

import "sync/atomic"

// Outcome is how a handshake ended.
type Outcome uint8

// The outcomes.
const (
	Accepted     Outcome = iota
	Unauthorized         // unknown device, wrong proof, dead generation or no binding
	Disabled
	Unsupported // version
	Malformed   // a frame that is no Hello, or a Hello that breaks a rule
	TimedOut
	Aborted // the connection ended first
	Refused // the hub is stopping

	NumOutcomes = int(Refused) + 1
)

func (o Outcome) String() string {
	return [NumOutcomes]string{"accepted", "unauthorized", "disabled", "unsupported_version", "malformed", "timeout", "aborted", "refused"}[o]
}

// numRejects is one more than the greatest devicev1.RejectCode.
const numRejects = 7

// Metrics are the counters of all sessions of a node. They only grow, except
// Live.
type Metrics struct {
	Live       atomic.Int64 // sessions past their welcome
	Handshakes [NumOutcomes]atomic.Uint64
	// Closes by the index in CloseCodes, of sessions past their welcome;
	// handshakes that failed stand in Handshakes.
	Closes [NumCloseCodes]atomic.Uint64

	Frames    atomic.Uint64 // received, of every kind, after the welcome
	Bytes     atomic.Uint64 // in them
	BytesSent atomic.Uint64 // frames to devices, handshakes included

	Rows       atomic.Uint64 // appended
	Appended   atomic.Uint64 // Telemetry frames appended
	Duplicates atomic.Uint64 // Telemetry frames that were durable already
	Discarded  atomic.Uint64 // Telemetry frames that a Throttle sent back, and those behind them
	Throttles  atomic.Uint64 // with resume_seq
	SlowDowns  atomic.Uint64 // Throttles without resume_seq
	Acks       atomic.Uint64 // Ack frames sent
	// Rejects by devicev1.RejectCode.
	Rejects   [numRejects]atomic.Uint64
	Unknown   atomic.Uint64 // frames of a kind that this hub does not know
	Pings     atomic.Uint64 // sent
	Overflows atomic.Uint64 // sessions whose outgoing queue was full
	Renewals  atomic.Uint64 // credentials handed over
	Describes atomic.Uint64 // descriptions stored
	Updates   atomic.Uint64 // command updates taken
}
