package natsd

import (
	"sync"
	"time"
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
	for {
		n, err := c.down.Read(buffer)
		if n > 0 {
			m.Stats.ReceivedBytes.Add(uint64(n))
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
	for {
		n, err := c.up.Read(buffer)
		if n > 0 && !gone {
			_ = c.down.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := c.down.Write(buffer[:n]); err != nil {
				gone = true
				_ = c.raw.Close() // ends carryUp, which bounds what follows
			} else {
				m.Stats.SentBytes.Add(uint64(n))
			}
		}
		if err != nil {
			return
		}
	}
}
