package natsd

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// carry copies both ways until the client or the server ends it.
func (m *MQTT) carry(c *mqttClient) {
	_ = c.down.SetDeadline(time.Time{})
	var up sync.WaitGroup
	up.Go(func() {
		m.carryUp(c)
		// The server reads to the end, a DISCONNECT included, and closes.
		_ = c.up.CloseWrite()
		_ = c.up.SetReadDeadline(time.Now().Add(goodbyeTimeout))
	})
	m.carryDown(c)
	c.inFlight.end()
	_ = c.down.Close()
	up.Wait()
}

// carryUp carries what the client says, until it falls silent for good, or for
// longer than it may.
func (m *MQTT) carryUp(c *mqttClient) {
	buffer := make([]byte, copyBytes)
	var packets packets
	// A flood of QoS 0 costs its sender nothing, and all others the processor:
	// it is left in the sender's own connection.
	speed := rate.NewLimiter(rate.Inf, 0)
	if c.counted {
		speed = rate.NewLimiter(rate.Limit(m.cfg.MaxRate), m.cfg.MaxRate)
	}
	for {
		if c.patience > 0 {
			_ = c.down.SetReadDeadline(time.Now().Add(c.patience))
		}
		n, err := c.down.Read(buffer)
		if n > 0 {
			begun := packets.begunIn(buffer[:n])
			m.Stats.ReceivedBytes.Add(uint64(n))
			m.Stats.Received.Add(uint64(begun.published))
			_ = speed.WaitN(m.ctx, begun.published) // until the door is closed
			if !c.write(buffer[:n], begun.confirmed) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// write gives the server b, and waits before each message of QoS 1 or 2, which
// begin at those places, until there is room for it in flight. It returns
// false when the connection is over.
func (c *mqttClient) write(b []byte, confirmed []int) bool {
	written := 0
	for _, at := range confirmed {
		if c.inFlight.tryEnter() {
			continue
		}
		if _, err := c.up.Write(b[written:at]); err != nil {
			return false
		}
		if written = at; !c.inFlight.enter() {
			return false
		}
	}
	_, err := c.up.Write(b[written:])
	return err == nil
}

// carryDown carries what the server says until it closes. Where the client
// takes nothing any more, it is cut off, and the rest is read and dropped:
// closing with unread bytes could lose what the client has said last.
func (m *MQTT) carryDown(c *mqttClient) {
	buffer := make([]byte, copyBytes)
	gone := false
	var packets packets
	for {
		n, err := c.up.Read(buffer)
		begun := packets.begunIn(buffer[:n])
		c.inFlight.leave(begun.answered)
		if n > 0 && !gone {
			_ = c.down.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := c.down.Write(buffer[:n]); err != nil {
				gone = true
				_ = c.raw.Close() // ends carryUp, which bounds what follows
			} else {
				m.Stats.SentBytes.Add(uint64(n))
				m.Stats.Sent.Add(uint64(begun.published))
			}
		}
		if err != nil {
			return
		}
	}
}

// packets follows the packets in a stream of MQTT, the CONNECT apart. Where
// they are malformed it counts anything; the server ends such a connection.
type packets struct {
	rest     int  // bytes of the packet that are still to come
	inLength bool // its length is being read
	shift    int

	confirmed []int // kept for the next call
}

// begun says which packets begin in a part of a stream.
type begun struct {
	published int   // PUBLISH, of any QoS
	answered  int   // PUBACK and PUBREC
	confirmed []int // where PUBLISH of QoS 1 and 2 begin; valid until the next call
}

// begunIn is of b, which follows what was given before.
func (p *packets) begunIn(b []byte) begun {
	of := begun{confirmed: p.confirmed[:0]}
	for at := 0; at < len(b); {
		switch {
		case p.inLength:
			p.rest |= int(b[at]&0x7f) << p.shift
			p.shift += 7
			p.inLength = b[at]&0x80 != 0 && p.shift < 28
			at++
		case p.rest > 0:
			n := min(p.rest, len(b)-at)
			p.rest -= n
			at += n
		default:
			switch b[at] >> 4 {
			case packetPublish:
				of.published++
				if b[at]&publishQoS != 0 {
					of.confirmed = append(of.confirmed, at)
				}
			case packetPubAck, packetPubRec:
				of.answered++
			}
			p.inLength, p.shift = true, 0
			at++
		}
	}
	p.confirmed = of.confirmed
	return of
}

// Kinds of packets, the upper half of the first byte, and the bits of the
// QoS in it.
const (
	packetPublish = 3
	packetPubAck  = 4
	packetPubRec  = 5

	publishQoS = 0x06
)
