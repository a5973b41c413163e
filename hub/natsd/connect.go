package natsd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// How a connection reconnects.
const (
	reconnectWait = 100 * time.Millisecond
	clusterWait   = 2 * time.Second
	drainTimeout  = 5 * time.Second
	// A server that has stopped, or whose machine has gone, does not close the
	// connection: after so many pings without an answer another one is taken.
	pingEvery  = 2 * time.Second
	pingsUnmet = 2
)

// connect makes n's connection, trying until ctx ends.
func (n *Node) connect(ctx context.Context, cfg Config, url string, more ...nats.Option) error {
	opts := append([]nats.Option{
		nats.Name("tetherline " + cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectBufSize(-1), // publishing while away fails at once
		nats.DrainTimeout(drainTimeout),
		nats.ClosedHandler(func(*nats.Conn) { close(n.closed) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				n.log.Warn("nats connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			n.log.Info("nats connection is back", "server", nc.ConnectedServerName())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			n.log.Warn("nats connection reports an error", "subject", subject, "error", err)
		}),
	}, more...)
	for {
		conn, err := nats.Connect(url, opts...)
		if err == nil {
			n.conn = conn
			break
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("connect to nats: %w", err)
		case <-timer.C:
		}
	}
	if err := n.useJetStream(ctx, cfg); err != nil {
		n.conn.Close()
		<-n.closed
		return err
	}
	return nil
}

func (n *Node) useJetStream(ctx context.Context, cfg Config) error {
	js, err := jetstream.New(n.conn)
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	if err := n.awaitJetStream(ctx, js); err != nil {
		return err
	}
	n.js = js
	if cfg.URL == "" {
		n.js = durable{js, newFolders(cfg.Dir), n.closed}
	}
	return nil
}

// askJetStream is how long one question for the account waits. A cluster that
// has no leader yet lets it go by unanswered.
const askJetStream = 2 * time.Second

// awaitJetStream asks JetStream for the account until it answers or ctx ends.
func (n *Node) awaitJetStream(ctx context.Context, js jetstream.JetStream) error {
	for told := false; ; told = true {
		asked, cancel := context.WithTimeout(ctx, askJetStream)
		_, err := js.AccountInfo(asked)
		waits := asked.Done()
		switch {
		case err == nil:
			cancel()
			return nil
		case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
			cancel()
			return fmt.Errorf("the nats server has no jetstream for this account; enable it: %w", err)
		}
		if !told {
			n.log.Warn("jetstream does not answer yet; asking again", "server", n.conn.ConnectedServerName(), "error", err)
		}
		<-waits // an error that comes at once is asked about no more often
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("the nats server %s is there, but its jetstream has not answered (a cluster needs most of its servers for a leader): %w",
				n.conn.ConnectedServerName(), err)
		}
	}
}

func (n *Node) connectExternal(ctx context.Context, cfg Config) error {
	opts := []nats.Option{
		nats.ReconnectWait(clusterWait), nats.ReconnectJitter(clusterWait, clusterWait),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsUnmet),
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredsFile))
	}
	if cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(cfg.CAFile))
	}
	if err := n.connect(ctx, cfg, cfg.URL, opts...); err != nil {
		return err
	}
	n.replicas = cfg.Replicas
	if n.replicas == 0 {
		n.replicas = 1
		if len(n.conn.Servers()) >= 3 {
			n.replicas = 3
		}
	}
	return nil
}

// Health is nil while streams can be written: the connection is up, JetStream
// answers, and the embedded server is not in the state after an I/O error in
// which it refuses writes.
func (n *Node) Health(ctx context.Context) error {
	if n.embedded != nil {
		if err := n.embedded.health(); err != nil {
			return fmt.Errorf("nats server: %w", err)
		}
	}
	if !n.conn.IsConnected() {
		return fmt.Errorf("nats connection is %s", n.conn.Status())
	}
	if _, err := n.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("jetstream does not answer: %w", err)
	}
	return nil
}
