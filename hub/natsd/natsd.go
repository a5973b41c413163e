// Package natsd gives the hub its NATS JetStream: a server embedded in the
// process, or the connection to an external cluster.
//
// The embedded server opens no port to others: the hub talks to it by
// in-process connections. With Config.MQTT it is an MQTT broker too, in an
// account of its own, behind the door that OpenMQTT makes. It fsyncs every write before it acknowledges it
// (sync_interval: always), so that what JetStream has acknowledged survives a
// power cut. After an I/O error JetStream refuses writes until the server
// restarts. A Node sees that, and restarts the server inside the process as
// soon as the disk takes writes again; connections made through the Node
// reconnect by themselves. What is being published meanwhile fails at once
// instead of waiting in a client's buffer.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Defaults of a Config.
const (
	DefaultMaxStore     = 4 << 30
	DefaultStartTimeout = time.Minute
)

// maxNameBytes bounds a node's name.
const maxNameBytes = 64

// Config says which NATS to use.
type Config struct {
	// Dir is the store folder of the embedded server; made if missing. It
	// must belong to this process alone. Not used with URL.
	Dir string
	// MaxStore bounds what all streams of the embedded server may take on
	// disk together, in bytes; 0: DefaultMaxStore.
	MaxStore int64

	// MQTT lets the embedded server be an MQTT broker too, see
	// Node.OpenMQTT; nil: it is none. Not with URL.
	MQTT *MQTTConfig

	// URL of an external cluster, "nats://a:4222,nats://b:4222" or with
	// "tls://"; "": the embedded server. User and Password, or CredsFile,
	// prove the hub to it; CAFile (PEM) verifies its certificate instead of
	// the system's roots.
	URL       string
	User      string
	Password  string
	CredsFile string
	CAFile    string
	// Replicas of each stream in an external cluster, 1, 3 or 5; 0: 3 where
	// at least three servers are known, else 1. The embedded server has 1.
	Replicas int

	// Name of this node: letters, digits, '-' and '_', to 64. "": the host's
	// name with other characters as '-'.
	Name string
	// StartTimeout bounds Start; 0: DefaultStartTimeout. The embedded server
	// reads its whole store once where it was not stopped in order.
	StartTimeout time.Duration
	Logger       *slog.Logger // nil: slog.Default()
}

// Node is a running embedded server, or a connection to an external one. All
// methods may run at once.
type Node struct {
	name     string
	replicas int
	log      *slog.Logger
	embedded *embedded // nil: external
	conn     *nats.Conn
	js       jetstream.JetStream
	closed   chan struct{} // when conn is

	mqttMu sync.Mutex
	mqtt   *MQTT // nil: not open

	stopOnce sync.Once
	stopErr  error
}

// Start starts the embedded server, or connects to the external one, and
// returns when JetStream is usable. Errors say what to mend.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	n := &Node{name: cfg.Name, replicas: 1, log: cfg.Logger, closed: make(chan struct{})}
	var err error
	if cfg.URL == "" {
		err = n.startEmbedded(ctx, cfg)
	} else {
		err = n.connectExternal(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (c *Config) complete() error {
	if c.URL == "" && c.Dir == "" {
		return errors.New("nats: neither a store folder nor the URL of a cluster is given")
	}
	if c.MaxStore < 0 {
		return fmt.Errorf("nats: max store is %d bytes; it must be positive, or 0 for the default", c.MaxStore)
	}
	switch c.Replicas {
	case 0, 1, 3, 5:
	default:
		return fmt.Errorf("nats: %d replicas; there may be 1, 3 or 5, or 0 to choose by the cluster", c.Replicas)
	}
	if c.Name == "" {
		c.Name = hostName()
	}
	if safeName(c.Name) != c.Name {
		return fmt.Errorf("nats: node name %q: use 1 to %d letters, digits, '-' or '_'", c.Name, maxNameBytes)
	}
	if c.MaxStore == 0 {
		c.MaxStore = DefaultMaxStore
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = DefaultStartTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c.completeMQTT()
}

func hostName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "hub"
	}
	return safeName(host)
}

func safeName(s string) string {
	if len(s) > maxNameBytes {
		s = s[:maxNameBytes]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, s)
}

// Name of this node, unique in its cluster if hosts or Config.Name are.
func (n *Node) Name() string { return n.name }

// Replicas that each stream should have.
func (n *Node) Replicas() int { return n.replicas }

// Conn is the node's own connection. It reconnects for ever; while it is
// down, publishing fails at once.
func (n *Node) Conn() *nats.Conn { return n.conn }

// JetStream on Conn. On the embedded server, what is written through it is
// durable with the names of its files when the call returns.
func (n *Node) JetStream() jetstream.JetStream { return n.js }

// Stop ends the connection and the embedded server. What was published is
// flushed first, as long as ctx lives. It returns when all files are closed;
// calling it again returns the same.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() { n.stopErr = n.stop(ctx) })
	return n.stopErr
}

func (n *Node) stop(ctx context.Context) error {
	var err error
	if n.conn.IsConnected() {
		if err = n.conn.Drain(); err == nil {
			select {
			case <-n.closed:
			case <-ctx.Done():
				err = fmt.Errorf("drain the nats connection: %w", ctx.Err())
			}
		}
	}
	n.conn.Close()
	<-n.closed
	n.mqttMu.Lock()
	broker := n.mqtt
	n.mqttMu.Unlock()
	if broker != nil {
		broker.settle(ctx)
	}
	if n.embedded != nil {
		n.embedded.stop()
	}
	if broker != nil {
		broker.wait()
	}
	return err
}
