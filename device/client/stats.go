package client

import "time"

// State of a Client.
type State uint8

// The states. A Client begins and ends in Stopped.
const (
	Stopped    State = iota
	Connecting       // opening the connection
	Proving          // connected; the two proofs are under way
	Online           // the hub has proved itself
	Waiting          // for the next attempt
)

func (s State) String() string {
	switch s {
	case Stopped:
		return "stopped"
	case Connecting:
		return "connecting"
	case Proving:
		return "proving"
	case Online:
		return "online"
	case Waiting:
		return "waiting"
	}
	return "unknown"
}

// Stats are totals since New, but for the last group. Rows published are those
// acked, rejected, dropped and waiting, of this process; what a durable spool
// held before counts as RowsRecovered.
type Stats struct {
	RowsPublished uint64
	RowsRecovered uint64 // found in the spool by New
	RowsAcked     uint64 // durable at the hub
	RowsRejected  uint64
	RowsDropped   uint64 // given up to make room

	FramesSent    uint64 // resends included
	FramesResent  uint64
	FramesAcked   uint64
	BytesSent     uint64 // of frames, without WebSocket and TLS
	BytesReceived uint64
	Sessions      uint64 // in which the hub proved itself
	Attempts      uint64 // connections tried
	Throttles     uint64
	Commands      uint64 // that were begun

	State      State
	RowsOpen   int // in the open batch, or waiting for the time
	Spool      SpoolStats
	InFlight   int           // frames sent and not acknowledged
	LastAck    time.Duration // latency of the newest acknowledged frame
	Generation uint32        // of the credential in use
}

// Stats of the client now.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.stats
	st.Spool = c.cfg.Spool.Stats()
	st.InFlight = c.window.cursor
	st.RowsOpen = len(c.undated.rows)
	if c.batch != nil {
		st.RowsOpen += c.batch.rows
	}
	if c.executor != nil {
		st.Commands = c.executor.begun.Load()
	}
	return st
}

// State of the client now.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats.State
}

func (c *Client) setState(s State, why error) {
	c.mu.Lock()
	same := c.stats.State == s
	c.stats.State = s
	c.mu.Unlock()
	if !same && c.cfg.OnStateChange != nil {
		c.cfg.OnStateChange(s, why)
	}
}
