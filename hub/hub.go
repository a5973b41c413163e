// Package hub is the assembled hub: it reads the config, starts the parts in
// order, serves devices and operators, and stops the parts in the reverse
// order, losing nothing. `hubd` and every end-to-end test run this package.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/gateway"
	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/mqttbridge"
	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// stopTimeout bounds an orderly stop. What is not done by then is cut off;
// nothing acknowledged is lost by that.
const stopTimeout = 9 * time.Second

// doorsTimeout bounds the part of it in which devices and operators are sent
// away, so that time is left to write what is in memory.
const doorsTimeout = 7 * time.Second

// Options are what a program, not its config, decides.
type Options struct {
	Version string       // shown in the status; "": "devel"
	Logger  *slog.Logger // nil: slog.Default()
}

// Hub is a hub that has started: its addresses are bound, its state is open.
type Hub struct {
	cfg     Config
	version string
	log     *slog.Logger
	started time.Time

	node         *natsd.Node
	registry     *registry.Registry
	keyring      *registry.Keyring
	quarantine   *jsbuffer.Quarantine
	buffer       *jsbuffer.Buffer
	store        store
	pump         *telemetry.Pump
	wheel        *session.Wheel
	live         *live.Table
	commands     *commands.Dispatcher
	commandStore *jsstore.Store
	gateway      *gateway.Gateway
	proxied      *gateway.Gateway // of ProxyListen; nil: none
	api          *api.Server
	ca           []byte // PEM that devices and operators trust; nil: the system's roots
	certs        *certificates
	mqtt         *mqttBroker         // nil: none
	bridge       *mqttbridge.Bridge  // nil: none
	sampler      *mqttbridge.Sampler // where there is no bridge
	metrics      *metrics
	listeners    []*listener

	background sync.WaitGroup
	failed     chan error // from a part that ended on its own
	stack      []closer   // of what was opened, in that order
}

// closer ends one part. name is for the error.
type closer struct {
	name string
	end  func(ctx context.Context) error
}

// store is where readings end and are read back.
type store interface {
	telemetry.Sink
	telemetry.Reader
}

// New checks the config and starts everything but the serving. On an error
// nothing is left running. The caller must call Run, which ends the hub.
func New(ctx context.Context, cfg Config, options Options) (*Hub, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	h := &Hub{cfg: cfg, version: options.Version, log: options.Logger, started: time.Now(), failed: make(chan error, 8)}
	if h.version == "" {
		h.version = "devel"
	}
	if h.log == nil {
		h.log = slog.Default()
	}
	for _, open := range []func(context.Context) error{
		h.openFolder, h.openNATS, h.openRegistry, h.openBuffer, h.openStore, h.openLive, h.openCommands,
		h.openMQTTBridge, h.openDoors, h.openListeners, h.openMQTT, h.startMQTTBridge,
	} {
		if err := open(ctx); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	return h, nil
}

// Run serves until ctx ends, then stops in order: no new connections, every
// session settled and closed with 1001, the buffer flushed, the store closed.
// It returns nil after such a stop, or what failed. It may be called once.
func (h *Hub) Run(ctx context.Context) error {
	for _, l := range h.listeners {
		h.log.Info("listening", "address", l.Addr().String(), "for", l.purpose)
		h.serve(l)
	}
	h.serveMQTT()
	h.log.Info("hub is up", "version", h.version, "node", h.node.Name(), "data", h.cfg.Data, "store", h.store.Name())
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-h.failed:
		h.log.Error("a part of the hub has ended; stopping", "error", failure)
	}
	began := time.Now()
	h.log.Info("stopping")
	err := errors.Join(failure, h.close())
	h.log.Info("stopped", "after", time.Since(began).Round(time.Millisecond))
	return err
}

// Addr is the address that devices connect to. AddrOperators is that of
// operators: the same one unless operator-listen is set.
func (h *Hub) Addr() net.Addr { return h.listeners[0].Addr() }

// AddrOperators is the address of the operator API.
func (h *Hub) AddrOperators() net.Addr {
	for _, l := range h.listeners {
		if l.operators {
			return l.Addr()
		}
	}
	return h.Addr()
}

// Online is how many devices are connected to this node.
func (h *Hub) Online() int { return h.live.Online() }

// onClose registers the end of a part that was just opened.
func (h *Hub) onClose(name string, end func(ctx context.Context) error) {
	h.stack = append(h.stack, closer{name, end})
}

// close ends what was opened, the newest first, all within stopTimeout.
func (h *Hub) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	for len(h.stack) > 0 {
		c := h.stack[len(h.stack)-1]
		h.stack = h.stack[:len(h.stack)-1]
		if err := c.end(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.name, err))
		}
	}
	h.background.Wait()
	return errors.Join(errs...)
}

// goRun starts a part that runs until its context ends, and returns what ends
// it and waits for it. A part that ends by itself ends the hub.
func (h *Hub) goRun(name string, run func(ctx context.Context) error) (stop func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	h.background.Go(func() {
		defer close(done)
		err := run(ctx)
		if ctx.Err() == nil {
			h.fail(fmt.Errorf("%s has ended: %w", name, err))
		}
	})
	return func(limit context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-limit.Done():
			return limit.Err()
		}
	}
}

// fail ends the hub. Only the first failures are kept.
func (h *Hub) fail(err error) {
	select {
	case h.failed <- err:
	default:
	}
}

// openFolder makes and locks the data folder.
func (h *Hub) openFolder(context.Context) error {
	if err := makeFolder(h.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	lock, err := lockFolder(h.cfg.Data)
	if err != nil {
		return err
	}
	h.onClose("lock", func(context.Context) error { return lock.Close() })
	return nil
}
