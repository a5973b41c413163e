package gateway

import (
	"errors"
	"net"
)

// A message may come in any number of fragments, even empty ones (RFC 6455,
// section 5.4), and the WebSocket library bounds what is in them, not what is
// around them. So a message also has a bound in bytes of the connection: one
// that goes beyond comes in pieces that no client makes, to keep the reader
// busy for nothing.
const (
	piecesFactor  = 4        // times the size that the message may have
	piecesMargin  = 16 << 10 // and this, for TLS
	controlMargin = 512      // a ping or a pong among the fragments
)

// errPieces says that a message went over that bound.
var errPieces = errors.New("gateway: a message in too many pieces")

// Read counts against what the connection may still bring, where that is
// bounded: behind the upgrade, where one goroutine reads. Whoever reads waits
// for the peer: his turn to compute is over.
func (s *stranger) Read(b []byte) (int, error) {
	s.endTurn()
	n, err := s.Conn.Read(b)
	if s.bounded {
		if s.left -= n; s.left < 0 {
			return 0, errPieces
		}
	}
	return n, err
}

// allowMessage lets the next message come.
func (c *conn) allowMessage() {
	if c.below != nil {
		c.below.bounded, c.below.left = true, c.messageBytes()
	}
}

// allowControl lets a control frame come within a message.
func (c *conn) allowControl() {
	if c.below != nil {
		c.below.left = min(c.below.left+controlMargin, c.messageBytes())
	}
}

func (c *conn) messageBytes() int { return piecesFactor*c.limit + piecesMargin }

// beneath is the connection to linger on: after errPieces TLS reads no more,
// but what the peer has sent must be taken in for the close frame to arrive.
func (c *conn) beneath(nc net.Conn) net.Conn {
	if c.below != nil && c.below.left < 0 {
		return c.below.Conn
	}
	return nc
}
