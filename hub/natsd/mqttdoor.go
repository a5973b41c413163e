package natsd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the door.
const (
	DefaultMQTTClients = 1000
	// DefaultMQTTRate is of messages a second that one client may publish; what
	// is faster waits. It is over what gear sends, and well under what the broker
	// and those who read from it can take.
	DefaultMQTTRate = 10_000

	// doorTimeout is how long a client may take for TLS and CONNECT, and a
	// check of its password for its turn.
	doorTimeout = 10 * time.Second
	// writeTimeout is how long a client may take none of what it is sent.
	writeTimeout = 15 * time.Second
	// goodbyeTimeout is how long the server may take to close a connection
	// whose client has gone.
	goodbyeTimeout = 10 * time.Second
	// acceptPause is how long to wait after accepting failed, at first.
	acceptPause = 5 * time.Millisecond
	// copyBytes is the buffer of one direction of one connection.
	copyBytes = 4 << 10
)

// MQTTDoor is what stands before the embedded server's MQTT listener.
type MQTTDoor struct {
	// Listener hands out connections that bound strangers by itself; it is
	// closed with the door.
	Listener net.Listener
	// TLS of the listener; nil: plaintext.
	TLS *tls.Config
	// Authenticate says what a client may do; false: it is sent away. It may
	// take its time as long as ctx lives, and run many times at once. It is
	// asked twice of each client; after Disconnect it must know what is new.
	Authenticate func(ctx context.Context, user string, password []byte) (MQTTRights, bool)
	// Known is told of a connection of the Listener that is a stranger's no
	// more; nil: nobody is.
	Known func(net.Conn)
	// MaxClients bounds the clients at once; 0: DefaultMQTTClients. Clients
	// of users for whom Exempt is true do not count.
	MaxClients int
	Exempt     func(user string) bool // nil: nobody
	// MaxRate bounds the messages a second of each client but those who are
	// exempt, with a burst of one second; 0: DefaultMQTTRate; at least copyBytes/2.
	MaxRate int
	// Fault is told what clients do that the broker does not take; nil: nobody
	// is. It may be called by many at once, and must not wait.
	Fault func(MQTTFault)
}

// MQTTStats counts what went through the door since it was made.
type MQTTStats struct {
	Accepted, Refused, Full  atomic.Uint64 // CONNECTs: let in; of a wrong user or password; too many clients
	ReceivedBytes, SentBytes atomic.Uint64 // of clients let in, CONNECT apart
	Received, Sent           atomic.Uint64 // PUBLISH packets, repetitions included
}

// MQTT is the broker. It lets clients in that the hub's users file knows, and
// hands them to the embedded server by a connection within the machine. So
// the number of strangers is bounded, client ids are each user's own, and the
// listener stays while the server restarts; meanwhile clients are told that it
// is unavailable. All methods may run at once.
type MQTT struct {
	Stats MQTTStats

	cfg    MQTTDoor
	logins *logins
	repeat func(ctx context.Context, session string) error // before its client connects
	taken  func(ctx context.Context, session string) error // after its client is gone
	// waiting returns when all is acknowledged that waits for it.
	waiting func(ctx context.Context, session string) error
	log     *slog.Logger
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	conns   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	clients map[*mqttClient]struct{}
	carried map[string]*mqttClient // by the address that the server knows them by
	counted int                    // of them, against MaxClients
	entered uint64
	own     map[string]struct{} // sessions of users that MaxClients does not count: the hub's
}

// OpenMQTT makes the broker; Serve runs it. The Node must have been started
// with Config.MQTT. Stop of the Node ends what is left of it.
func (n *Node) OpenMQTT(door MQTTDoor) (*MQTT, error) {
	if n.embedded == nil || n.embedded.logins == nil {
		return nil, errors.New("nats: the embedded server was not started as an MQTT broker")
	}
	if door.MaxClients == 0 {
		door.MaxClients = DefaultMQTTClients
	}
	if door.MaxRate == 0 {
		door.MaxRate = DefaultMQTTRate
	}
	door.MaxRate = max(door.MaxRate, copyBytes/2)
	m := &MQTT{
		cfg: door, logins: n.embedded.logins, repeat: n.embedded.repeatMQTT, taken: n.embedded.settleMQTT, waiting: n.embedded.takenMQTT, log: n.log,
		clients: make(map[*mqttClient]struct{}), carried: make(map[string]*mqttClient), own: make(map[string]struct{}),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	n.mqttMu.Lock()
	defer n.mqttMu.Unlock()
	if n.mqtt != nil {
		return nil, errors.New("nats: the MQTT broker is open already")
	}
	n.mqtt = m
	m.logins.door.Store(m)
	return m, nil
}

// MQTTAddr is where MQTT clients connect; nil: there is no broker.
func (n *Node) MQTTAddr() net.Addr {
	n.mqttMu.Lock()
	defer n.mqttMu.Unlock()
	if n.mqtt == nil {
		return nil
	}
	return n.mqtt.cfg.Listener.Addr()
}

// Addr is where clients connect.
func (m *MQTT) Addr() net.Addr { return m.cfg.Listener.Addr() }

// Serve accepts clients until Close; then it returns nil. It may be called
// once.
func (m *MQTT) Serve() error {
	pause := acceptPause
	for {
		conn, err := m.cfg.Listener.Accept()
		switch {
		case err == nil:
		case m.ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept MQTT clients: %w", err)
		default: // no descriptors, say
			m.log.Warn("MQTT clients are not accepted for a moment", "error", err, "retry_in", pause)
			select {
			case <-m.ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = acceptPause
		if !m.begin() {
			_ = conn.Close()
			return nil
		}
		go func() {
			defer m.conns.Done()
			m.handle(conn)
		}()
	}
}

// begin counts a connection in, as long as the door is open.
func (m *MQTT) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.conns.Add(1)
	return true
}

// Close lets nobody in any more. Who is in stays until the Node stops, so
// that nobody's will is published because the hub stops.
func (m *MQTT) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	return m.cfg.Listener.Close()
}

// settle has the server take in what the hub's own clients have acknowledged,
// once they are gone.
func (m *MQTT) settle(ctx context.Context) {
	m.mu.Lock()
	sessions := slices.Collect(maps.Keys(m.own))
	m.mu.Unlock()
	for _, session := range sessions {
		if err := m.taken(ctx, session); err != nil {
			m.log.Warn("what the hub has acknowledged may be sent to it again", "session", session, "error", err)
		}
	}
}

// wait returns when all connections have ended, cutting off those that have
// not by themselves: the server is gone.
func (m *MQTT) wait() {
	_ = m.Close()
	m.Disconnect(func(string) bool { return true })
	m.conns.Wait()
}
