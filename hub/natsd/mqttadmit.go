package natsd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// handle serves one connection until its end.
func (m *MQTT) handle(raw net.Conn) {
	defer raw.Close()
	stop := context.AfterFunc(m.ctx, func() { _ = raw.Close() }) // strangers go with the door
	defer stop()
	_ = raw.SetDeadline(time.Now().Add(doorTimeout))
	conn := raw
	if m.cfg.TLS != nil {
		conn = tls.Server(raw, m.cfg.TLS)
	}
	connect, err := readConnect(conn)
	if err != nil {
		m.refuse(conn, err)
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, doorTimeout)
	defer cancel()
	if _, ok := m.cfg.Authenticate(ctx, connect.User, connect.Password); !ok {
		m.Stats.Refused.Add(1)
		m.fault(MQTTFault{User: connect.User, ClientID: connect.ClientID, Reason: faultPassword, Detail: "see the users file of the hub (mqtt-users)"})
		m.refuse(conn, refusal(refusedPassword))
		return
	}
	if m.cfg.Known != nil {
		m.cfg.Known(raw)
	}
	c := &mqttClient{user: connect.User, clientID: connect.ClientID, session: sessionName(connect.User, connect.ClientID), raw: raw, down: conn, inFlight: newWindow()}
	if !m.enter(c) {
		m.Stats.Full.Add(1)
		m.fault(MQTTFault{User: c.user, ClientID: c.clientID, Reason: faultClients, Detail: fmt.Sprintf("%d are connected, the most that there may be", m.cfg.MaxClients)})
		m.refuse(conn, refusal(refusedUnavailable))
		return
	}
	defer m.leave(c)
	// What was asked before it was in reach of Disconnect may hold no more.
	rights, ok := m.cfg.Authenticate(ctx, connect.User, connect.Password)
	if !ok {
		m.refuse(conn, refusal(refusedPassword))
		return
	}
	if !stop() {
		return // the door is closed, and the connection with it
	}
	if err := m.admit(ctx, c, connect, rights); err != nil {
		m.log.Warn("MQTT client cannot be let in", "user", connect.User, "error", err)
		m.refuse(conn, refusal(refusedUnavailable))
	}
}

// refuse tells a client why it is sent away, where MQTT has words for it.
func (m *MQTT) refuse(conn net.Conn, err error) {
	var r refusal
	if !errors.As(err, &r) {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(writeTimeout))
	_, _ = conn.Write(r.packet())
	// Closing with unread bytes would take the answer back.
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

// admit connects a client to the server and carries what they say.
func (m *MQTT) admit(ctx context.Context, c *mqttClient, connect *mqttConnect, rights MQTTRights) error {
	permissions, err := rights.permissions()
	if err != nil {
		return fmt.Errorf("rights of the user: %w", err)
	}
	password, addr := m.logins.issue(ticket{user: c.user, permissions: permissions})
	if addr == "" {
		return errors.New("the embedded nats server is restarting")
	}
	defer m.logins.revoke(password)
	if connect.flags&flagClean == 0 && c.session != "" {
		m.resume(ctx, c)
	}
	up, err := net.DialTimeout("tcp", addr, doorTimeout)
	if err != nil {
		return err
	}
	c.up = up.(*net.TCPConn)
	defer c.up.Close()
	defer m.known(c)()
	// To the server a client whose messages wait for their turn is silent.
	c.patience, connect.keepAlive = connect.patience(), [2]byte{}
	user := c.user
	if user == "" {
		user = "-" // the server refuses an empty one
	}
	if _, err := c.up.Write(connect.as(c.session, user, password)); err != nil {
		return err
	}
	m.Stats.Accepted.Add(1)
	m.carry(c)
	return nil
}

// resume prepares that a client goes on with its session.
func (m *MQTT) resume(ctx context.Context, c *mqttClient) {
	waiting, cancel := context.WithTimeout(ctx, repeatTimeout)
	defer cancel()
	m.replace(waiting, c)
	if err := m.repeat(ctx, c.session); err != nil {
		m.log.Warn("what an MQTT client has not acknowledged is not repeated at once", "user", c.user, "error", err)
	}
}
