package hub

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/gateway"
	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/influx"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
	"github.com/tetherline/tetherline/telemetry/sqlite"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// Names in the data folder.
const (
	masterKeyFile  = "master.key"
	adminTokenFile = "admin.token"
	jetStreamDir   = "jetstream"
	sqliteFile     = "readings.db"
)

// otherStreams is what the buckets and streams besides buffer and quarantine
// may take on disk: registry, presence, audit log and groups of commands.
const otherStreams = 3 << 30

func (h *Hub) openNATS(ctx context.Context) error {
	if u, err := url.Parse(h.cfg.NATSURL); err == nil && h.cfg.NATSURL != "" {
		h.log.Info("connecting to the NATS cluster", "url", u.Redacted(), "for_at_most", natsd.DefaultStartTimeout)
	}
	node, err := natsd.Start(ctx, natsd.Config{
		Dir:       filepath.Join(h.cfg.Data, jetStreamDir),
		MaxStore:  h.cfg.BufferBytes + h.cfg.QuarantineBytes + h.cfg.CommandBytes + otherStreams,
		URL:       h.cfg.NATSURL,
		User:      h.cfg.NATSUser,
		Password:  h.cfg.NATSPassword,
		CredsFile: h.cfg.NATSCreds,
		CAFile:    h.cfg.NATSCA,
		Replicas:  h.cfg.Replicas,
		Name:      h.cfg.NodeName,
		MQTT:      h.cfg.mqttConfig(),
		Logger:    h.log,
	})
	if err != nil && h.cfg.NATSURL != "" {
		return bad("nats-url", "%v", err)
	}
	if err != nil {
		return err
	}
	h.node = node
	h.onClose("nats", node.Stop)
	return nil
}

func (h *Hub) openRegistry(ctx context.Context) error {
	r, err := registry.Open(ctx, h.node.JetStream(), registry.Config{
		Replicas: h.node.Replicas(), Grace: h.cfg.RotationGrace, Sole: h.cfg.NATSURL == "", Logger: h.log,
	})
	if err != nil {
		return fmt.Errorf("open registry: %w", err)
	}
	h.registry = r
	h.onClose("registry", func(context.Context) error { r.Close(); return nil })
	if h.keyring, err = r.OpenKeyring(filepath.Join(h.cfg.Data, masterKeyFile)); err != nil {
		return err
	}
	token := filepath.Join(h.cfg.Data, adminTokenFile)
	made, err := r.EnsureAdmin(ctx, token)
	if err != nil {
		return fmt.Errorf("make the first admin: %w", err)
	}
	if made {
		h.log.Info("first admin token written", "file", token)
	}
	return nil
}

func (h *Hub) openBuffer(ctx context.Context) error {
	js := h.node.JetStream()
	quarantine, err := jsbuffer.OpenQuarantine(ctx, js, jsbuffer.QuarantineConfig{
		MaxBytes: h.cfg.QuarantineBytes, Replicas: h.node.Replicas(),
	})
	if err != nil {
		return fmt.Errorf("open quarantine: %w", err)
	}
	h.metrics = newMetrics(h)
	buffer, err := jsbuffer.Open(ctx, js, h.node.Conn(), jsbuffer.Config{
		MaxBytes: h.cfg.BufferBytes, Replicas: h.node.Replicas(), Sole: h.cfg.NATSURL == "",
		Quarantine: quarantine, Logger: h.log,
		ObserveCommit: h.metrics.observeCommit,
	})
	if err != nil {
		return fmt.Errorf("open buffer: %w", err)
	}
	h.quarantine, h.buffer = quarantine, buffer
	h.onClose("buffer", buffer.Close)
	return nil
}

func (h *Hub) openStore(ctx context.Context) error {
	if h.cfg.InfluxURL == "" {
		s, err := sqlite.Open(ctx, sqlite.Config{
			Path:   filepath.Join(h.cfg.Data, sqliteFile),
			MaxAge: h.cfg.RetentionAge, MaxBytes: h.cfg.RetentionBytes, Logger: h.log,
		})
		if err != nil {
			return fmt.Errorf("open the embedded store: %w", err)
		}
		h.store = s
		h.onClose("embedded store", func(context.Context) error { return s.Close() })
	} else {
		s, err := h.newInflux()
		if err != nil {
			return err
		}
		h.store = s
		h.onClose("influxdb client", func(context.Context) error { s.Close(); return nil })
	}
	h.pump = telemetry.NewPump(telemetry.PumpConfig{
		Source: h.buffer, Sink: h.store, Quarantine: h.quarantine, Logger: h.log,
		ObserveWrite: h.metrics.observeWrite,
	})
	h.onClose("pump", h.goRun("pump", h.pump.Run))
	return nil
}

func (h *Hub) newInflux() (*influx.Store, error) {
	token := h.cfg.InfluxToken
	if h.cfg.InfluxTokenFile != "" {
		text, err := os.ReadFile(h.cfg.InfluxTokenFile)
		if err != nil {
			return nil, bad("influx-token-file", "%v", err)
		}
		token = strings.TrimSpace(string(text))
	}
	s, err := influx.New(influx.Config{
		URL: h.cfg.InfluxURL, Token: token, Org: h.cfg.InfluxOrg, Bucket: h.cfg.InfluxBucket,
		Database: h.cfg.InfluxDatabase, RetentionPolicy: h.cfg.InfluxRetention,
		Timeout: h.cfg.InfluxTimeout, Logger: h.log,
	})
	if err != nil {
		return nil, fmt.Errorf("influxdb: %w", err)
	}
	return s, nil
}

func (h *Hub) openLive(ctx context.Context) error {
	table, err := live.New(ctx, live.Config{
		Conn: h.node.Conn(), JetStream: h.node.JetStream(), Registry: h.registry,
		Node: h.node.Name(), Sole: h.cfg.NATSURL == "", Replicas: h.node.Replicas(), Logger: h.log,
	})
	if err != nil {
		return fmt.Errorf("open the table of live devices: %w", err)
	}
	h.live = table
	h.onClose("live table", h.goRun("live table", func(ctx context.Context) error { table.Run(ctx); return nil }))
	h.wheel = session.NewWheel()
	h.onClose("heartbeat", h.goRun("heartbeat", func(ctx context.Context) error { h.wheel.Run(ctx); return nil }))
	return nil
}

// openCommands opens the commands, which outlive the sessions and end before
// the table that they are sent through.
func (h *Hub) openCommands(ctx context.Context) error {
	store, err := jsstore.New(ctx, jsstore.Config{
		Conn: h.node.Conn(), JetStream: h.node.JetStream(), Replicas: h.node.Replicas(), Retention: h.cfg.CommandHistory,
		MaxBytes: h.cfg.CommandBytes, Sole: h.cfg.NATSURL == "", Logger: h.log,
	})
	if err != nil {
		return fmt.Errorf("open commands: %w", err)
	}
	h.commandStore = store
	h.commands, err = commands.New(commands.Config{
		Node: h.node.Name(), Store: store, Devices: commandDevices{h.registry}, Operators: commandOperators{h.registry},
		Sender: h.live, Logger: h.log,
	})
	if err != nil {
		return fmt.Errorf("open commands: %w", err)
	}
	h.onClose("commands", h.goRun("commands", h.commands.Run))
	return nil
}

// openDoors makes the gateway for devices and the API for operators.
func (h *Hub) openDoors(context.Context) error {
	deps, err := session.NewDeps(session.Config{
		Limits: session.Limits{
			Heartbeat: h.cfg.Heartbeat, WindowFrames: h.cfg.WindowFrames, WindowBytes: h.cfg.WindowBytes,
			FramesPerSec: h.cfg.DeviceFrames, BytesPerSec: h.cfg.DeviceBytes,
		},
		Registry: h.registry, Keyring: h.keyring, Buffer: h.buffer, Table: h.live, Wheel: h.wheel,
		Commands: h.commands, Labels: labelTags(h.cfg.LabelTags), Metrics: &h.metrics.sessions, Logger: h.log,
	})
	if err != nil {
		return err
	}
	if h.gateway, err = h.newGateway(deps, false); err != nil {
		return err
	}
	if h.cfg.ProxyListen != "" {
		if h.proxied, err = h.newGateway(deps, true); err != nil {
			return err
		}
	}
	h.api, err = api.New(api.Deps{
		Registry: h.registry, Keyring: h.keyring, Live: h.live, Reader: h.store, Buffer: h.buffer,
		Tail: h.buffer, Quarantine: h.quarantine, Commands: h.commands, Bridge: h.apiBridge(), Status: h.status, Endpoint: h.endpoint,
		AllowedOrigins: h.cfg.AllowedOrigins, ClientAddr: h.clientAddr, Logger: h.log,
	})
	if err != nil {
		return fmt.Errorf("open the operator API: %w", err)
	}
	h.onClose("doors", h.closeDoors)
	return nil
}

// newGateway makes the gateway of the TLS listener, or that of the listener
// behind a proxy, where no channel binding reaches the hub.
func (h *Hub) newGateway(deps *session.Deps, proxied bool) (*gateway.Gateway, error) {
	config := gateway.Config{
		Deps: deps, AllowedOrigins: h.cfg.AllowedOrigins, AllowUnbound: proxied,
		MaxSessions: h.cfg.MaxDevices, MaxHandshakes: h.cfg.MaxHandshakes, AddrRate: h.cfg.AddressRate,
		Metrics: &h.metrics.gateway, Logger: h.log,
	}
	if proxied {
		config.TrustedProxies = h.cfg.trustedProxies()
	}
	return gateway.New(config)
}

// clientAddr is where an operator's request comes from. Only behind the proxy
// is there somebody else's word for it: the listener without TLS.
func (h *Hub) clientAddr(r *http.Request) netip.Addr {
	if r.TLS == nil && h.proxied != nil {
		return h.proxied.ClientAddr(r)
	}
	return h.gateway.ClientAddr(r)
}

// labelTags makes the tags of a device from the labels that the config names.
func labelTags(names []string) func(*registry.Device) string {
	if len(names) == 0 {
		return nil
	}
	return func(d *registry.Device) string {
		var tags []byte
		for _, name := range names {
			tags = wire.AppendLabel(tags, name, d.Labels[name])
		}
		return string(tags)
	}
}

// trustedProxies of a config that has passed Check.
func (c *Config) trustedProxies() []netip.Prefix {
	var prefixes []netip.Prefix
	for _, cidr := range c.TrustedProxies {
		if p, err := netip.ParsePrefix(cidr); err == nil {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes
}
