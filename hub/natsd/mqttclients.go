package natsd

import (
	"context"
	"net"
	"time"
)

// mqttClient is a connection of somebody known.
type mqttClient struct {
	user     string
	clientID string
	session  string        // name of its session
	number   uint64        // counts up, in the order of entering
	left     chan struct{} // closed when it has left
	raw      net.Conn      // the client, below TLS: closing it never waits
	down     net.Conn      // the client
	up       *net.TCPConn
	counted  bool
	inFlight *window
	patience time.Duration // how long it may be silent; 0: for ever
}

// cut ends the connection, whatever of the client still waits for its turn.
func (c *mqttClient) cut() {
	_ = c.raw.Close()
	c.inFlight.end()
}

// Clients is how many are connected.
func (m *MQTT) Clients() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.clients)
}

// Disconnect ends the connections of the users for whom gone is true, and
// returns how many. They may come back if they may.
func (m *MQTT) Disconnect(gone func(user string) bool) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := 0
	for c := range m.clients {
		if gone(c.user) {
			c.cut()
			count++
		}
	}
	return count
}

// enter counts a client in; false: there are too many.
func (m *MQTT) enter(c *mqttClient) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.counted = m.cfg.Exempt == nil || !m.cfg.Exempt(c.user)
	if c.counted {
		if m.counted >= m.cfg.MaxClients {
			return false
		}
		m.counted++
	} else {
		m.own[c.session] = struct{}{}
	}
	m.entered++
	c.number, c.left = m.entered, make(chan struct{})
	m.clients[c] = struct{}{}
	return true
}

// known has the client found by the address that the server knows it by,
// until it is forgotten.
func (m *MQTT) known(c *mqttClient) (forget func()) {
	addr := c.up.LocalAddr().String()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.carried[addr] = c
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.carried, addr)
	}
}

func (m *MQTT) leave(c *mqttClient) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.counted {
		m.counted--
	}
	delete(m.clients, c)
	close(c.left)
}

// replace ends the connections that the client of c had before in the same
// session, which it may have lost without anybody else's noticing. It waits
// until they have left, or for ctx.
func (m *MQTT) replace(ctx context.Context, c *mqttClient) {
	var older []*mqttClient
	m.mu.Lock()
	for o := range m.clients {
		if o.session == c.session && o.number < c.number {
			older = append(older, o)
		}
	}
	m.mu.Unlock()
	for _, o := range older {
		o.cut()
		select {
		case <-o.left:
		case <-ctx.Done():
		}
	}
}
