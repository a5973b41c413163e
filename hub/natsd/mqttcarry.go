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
	_ = c.down.Close()
	up.Wait()
}

// carryUp carries what the client says, until it falls silent for good. How
// long it may be silent is between it and the server.
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
		n, err := c.down.Read(buffer)
		if n > 0 {
			published := packets.published(buffer[:n])
			m.Stats.ReceivedBytes.Add(uint64(n))
			m.Stats.Received.Add(published)
			_ = speed.WaitN(m.ctx, int(published)) // until the door is closed
			if _, err := c.up.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
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
		if n > 0 && !gone {
			_ = c.down.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := c.down.Write(buffer[:n]); err != nil {
				gone = true
				_ = c.raw.Close() // ends carryUp, which bounds what follows
			} else {
				m.Stats.SentBytes.Add(uint64(n))
				m.Stats.Sent.Add(packets.published(buffer[:n]))
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
}

// published is how many PUBLISH packets begin in b, which follows what was
// given before.
func (p *packets) published(b []byte) (count uint64) {
	for len(b) > 0 {
		switch {
		case p.inLength:
			p.rest |= int(b[0]&0x7f) << p.shift
			p.shift += 7
			p.inLength = b[0]&0x80 != 0 && p.shift < 28
			b = b[1:]
		case p.rest > 0:
			n := min(p.rest, len(b))
			p.rest -= n
			b = b[n:]
		default:
			if b[0]>>4 == packetPublish {
				count++
			}
			p.inLength, p.shift = true, 0
			b = b[1:]
		}
	}
	return count
}

const packetPublish = 3 // the upper half of the first byte
