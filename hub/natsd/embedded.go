package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// memoryStore bounds streams in memory, in bytes. The hub has none of size;
// unset, the server would take a share of the machine's memory.
const memoryStore = 64 << 20

// syncInterval is how often the server syncs what sync always leaves out:
// blocks from which messages were only removed.
const syncInterval = 2 * time.Minute

// options assembles all settings of the embedded server.
func options(cfg Config) *server.Options {
	return &server.Options{
		ServerName:         cfg.Name,
		DontListen:         true,
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           cfg.Dir,
		JetStreamMaxStore:  cfg.MaxStore,
		JetStreamMaxMemory: memoryStore,
		// What sync_interval: always sets.
		SyncAlways:             true,
		SyncInterval:           syncInterval,
		DisableJetStreamBanner: true,
	}
}

// embedded is the server and the goroutine that restarts it after a fault.
type embedded struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{} // 1: look for a fault now
	quit chan struct{}
	done chan struct{} // when the watching goroutine has ended

	logins *logins // nil: no MQTT

	mu       sync.RWMutex
	srv      *server.Server // nil: between two
	fault    error          // why it does not work; nil: it does
	restarts int
}

func (n *Node) startEmbedded(ctx context.Context, cfg Config) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the store folder of nats: %w", err)
	}
	e := &embedded{
		cfg:  cfg,
		log:  cfg.Logger,
		wake: make(chan struct{}, 1),
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	if cfg.MQTT != nil {
		e.logins = newLogins()
	}
	if err := e.unparkMQTT(); err != nil {
		return err
	}
	srv, err := e.run(ctx)
	if err != nil {
		return err
	}
	e.srv = srv
	if cfg.MQTT != nil {
		err = e.prepareMQTT(ctx)
	}
	if err == nil {
		err = n.connect(ctx, cfg, "", nats.InProcessServer(e))
	}
	if err != nil {
		shutdown(srv)
		return err
	}
	n.embedded = e
	go e.watch()
	return nil
}

// run starts a server and waits until its streams are recovered.
func (e *embedded) run(ctx context.Context) (*server.Server, error) {
	if err := probeDisk(e.cfg.Dir); err != nil {
		return nil, fmt.Errorf("store folder of nats is not usable: %w", err)
	}
	opts := options(e.cfg)
	if e.logins != nil {
		mqttOptions(opts, e.cfg.MQTT, e.logins)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("configure the embedded nats server: %w", err)
	}
	fatal := make(chan string, 1)
	srv.SetLoggerV2(newServerLog(e.log, e.look, fatal, e.logins.heard), false, false, false)
	started := make(chan struct{})
	var openErr error
	go func() {
		defer close(started)
		srv.Start() // returns: the server has no listener for NATS clients
		if e.logins != nil && srv.Running() {
			openErr = e.openMQTT(srv, opts)
		}
	}()
	select {
	case <-started:
	case <-ctx.Done():
		// The server cannot be interrupted while it reads its store.
		go func() { <-started; shutdown(srv) }()
		return nil, fmt.Errorf("embedded nats server still reads its store: %w", ctx.Err())
	}
	if err := errors.Join(openErr, unready(srv, fatal)); err != nil {
		shutdown(srv)
		return nil, fmt.Errorf("start the embedded nats server: %w", err)
	}
	return srv, nil
}

func unready(srv *server.Server, fatal <-chan string) error {
	select {
	case text := <-fatal:
		return errors.New(text)
	default:
	}
	if !srv.ReadyForConnections(time.Second) {
		return errors.New("not ready for connections")
	}
	return serverFault(srv)
}

func shutdown(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

// InProcessConn implements nats.InProcessConnProvider: a connection to the
// server that runs now.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.srv == nil {
		return nil, errors.New("the embedded nats server is restarting")
	}
	return e.srv.InProcessConn()
}

func (e *embedded) stop() {
	close(e.quit)
	<-e.done
	e.mu.Lock()
	srv := e.srv
	e.srv = nil
	e.mu.Unlock()
	e.shutMQTT()
	if srv != nil {
		shutdown(srv)
		if err := parkMQTT(e.cfg.Dir); err != nil {
			e.log.Warn("store of MQTT stays where only a hub with mqtt-listen can use the folder", "error", err)
		}
	}
}
