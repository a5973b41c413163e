package mqttbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// Commands is what the bridge asks of the dispatcher.
type Commands interface {
	Connected(device string, epoch uint64)
	Disconnected(device string, epoch uint64)
	Update(ctx context.Context, device string, epoch uint64, u *devicev1.CommandUpdate) (final bool, err error)
	// NoAnswer ends a command that was sent on that session and that the
	// gear will not answer.
	NoAnswer(ctx context.Context, device string, epoch uint64, id, reason string) error
	// Get says how a command stands.
	Get(ctx context.Context, id string) (commands.Command, []commands.Event, error)
}

// Tail follows what becomes durable, for upstream.
type Tail interface {
	Tail(ctx context.Context, f func(entries []telemetry.Entry, missed uint64)) error
}

// Embedded is the way to the hub's own broker.
type Embedded struct {
	// Endpoint is asked at each connect: tcp://host:port or ssl://host:port,
	// a user, a password, and for ssl a TLS config.
	Endpoint func() (url, user, password string, config *tls.Config)
	Dial     func(ctx context.Context) (net.Conn, error) // nil: by the URL
	// Taken waits until the bridge has acknowledged, under that client id, all
	// that waits in the broker for it now.
	Taken func(ctx context.Context, clientID string) error
}

// Deps is what the bridge works with.
type Deps struct {
	Registry  *registry.Registry
	KeyID     func() string // of the active master key: Keyring.ActiveID
	Buffer    telemetry.Buffer
	Tail      Tail // nil where no broker has Publish
	Live      *live.Table
	Commands  Commands
	JetStream jetstream.JetStream
	Replicas  int // of the bridge's bucket, 1 to 5; 0: 1
	// Labels of a device as telemetry.Entry wants them; nil: none.
	Labels   func(*registry.Device) string
	Node     string       // this hub's name, the same over restarts
	Dir      string       // folder of the bridge's own files; made when missing
	Embedded *Embedded    // nil: the hub has no broker
	Logger   *slog.Logger // nil: slog.Default()
}

var _ Commands = (*commands.Dispatcher)(nil)

// ErrUnknownGear says that the config has no such broker or profile.
var ErrUnknownGear = errors.New("the config has no such broker or profile")

// Bridge connects the hub to its MQTT brokers. Its methods may run at once.
type Bridge struct {
	deps      Deps
	brokers   []*broker
	published *published
	clerk     clerk
	own       []naming // topics of upstream, of all brokers
	sampler   *Sampler
	share     int // of strangers, for each profile
}

// openTimeout bounds the opening of what the bridge keeps: on a slow disk, and
// with all that a hub does at its start, that takes its time.
const openTimeout = 30 * time.Second

// New checks the config and makes a Bridge that does nothing before Run. It
// knows the devices that the registry has.
func New(cfg Config, deps Deps) (*Bridge, error) {
	if deps.Registry == nil || deps.KeyID == nil || deps.Buffer == nil || deps.Live == nil || deps.Commands == nil ||
		deps.JetStream == nil || deps.Node == "" || deps.Dir == "" {
		return nil, errors.New("mqttbridge: Registry, KeyID, Buffer, Live, Commands, JetStream, Node and Dir are needed")
	}
	if deps.Logger == nil {
		deps.Logger = slog.Default()
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(deps.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the MQTT bridge: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	b := &Bridge{deps: deps, published: &published{js: deps.JetStream, replicas: max(deps.Replicas, 1)}}
	if err := b.published.open(ctx); err != nil {
		return nil, err
	}
	b.clerk.init()
	b.own = ownTopics(&cfg)
	b.share = strangerShare(&cfg)
	b.sampler = NewSampler(cfg, deps.Embedded, deps.Registry.Get)
	b.sampler.gear = b.deviceOf
	for i := range cfg.Brokers {
		br, err := newBroker(b, &cfg.Brokers[i])
		if err != nil {
			return nil, fmt.Errorf("broker %s: %w", cfg.Brokers[i].Name, err)
		}
		b.brokers = append(b.brokers, br)
	}
	return b, nil
}

// Run serves the brokers until ctx ends; then it settles what is under way,
// for a few seconds at most, and leaves the brokers, which keep the sessions.
// It may be called once. The error is that of the start.
func (b *Bridge) Run(ctx context.Context) error {
	defer b.deps.Registry.OnChange(b.onChange)()
	for d := range b.deps.Registry.All(registry.Selector{}, "") {
		if br := b.brokerOf(d); br != nil {
			br.load(d)
		}
	}
	var wait sync.WaitGroup
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	wait.Go(func() { b.clerk.run(working) })
	var serving sync.WaitGroup
	for _, br := range b.brokers {
		br.enrolConfigured()
		serving.Go(func() { br.run(ctx) })
	}
	serving.Wait()
	stop()
	wait.Wait()
	return nil
}

// onChange is told by the registry, and must not wait.
func (b *Bridge) onChange(old, new *registry.Device) {
	d := new
	if d == nil {
		d = old
	}
	if br := b.brokerOf(d); br != nil {
		of, id := *d.Gear, d.ID
		br.inbox.post(func() { br.deviceChanged(of, id) })
	}
}

// brokerOf is the broker behind which a device is; nil: none of the config.
func (b *Bridge) brokerOf(d *registry.Device) *broker {
	if d.Kind != registry.KindMQTT || d.Gear == nil {
		return nil
	}
	return b.broker(d.Gear.Broker)
}

func (b *Bridge) broker(name string) *broker {
	for _, br := range b.brokers {
		if br.cfg.Name == name {
			return br
		}
	}
	return nil
}

// deviceOf is the id of the device that gear is; "": it is none.
func (b *Bridge) deviceOf(of registry.Gear) string {
	br := b.broker(of.Broker)
	if br == nil {
		return ""
	}
	br.mu.Lock()
	defer br.mu.Unlock()
	p := br.boundNamed(of.Profile)
	if p == nil || p.gear[of.Name] == nil || p.gear[of.Name].device == nil {
		return ""
	}
	return p.gear[of.Name].device.ID
}

// Allow makes a device of gear: from then on its readings are stored. id "":
// made of the profile's prefix and the gear's name. A device of that id that
// is gear of the same name behind a broker or profile that the config has not
// any more, is taken over. Errors wrap
// ErrUnknownGear, registry.ErrExists or registry.ErrInvalid, or are those of
// the storage.
func (b *Bridge) Allow(ctx context.Context, of registry.Gear, id string, labels map[string]string, note string) (*registry.Device, error) {
	br := b.broker(of.Broker)
	if br == nil {
		return nil, fmt.Errorf("broker %.80q: %w", of.Broker, ErrUnknownGear)
	}
	if err := checkGearName(of.Name); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	br.mu.Lock()
	p := br.boundNamed(of.Profile)
	var g *gear
	if p != nil {
		g = p.gear[of.Name]
	}
	var as string
	if g != nil && g.device != nil {
		as = g.device.ID
	}
	br.mu.Unlock()
	switch {
	case p == nil:
		return nil, fmt.Errorf("profile %.80q of broker %s: %w", of.Profile, of.Broker, ErrUnknownGear)
	case g != nil:
		return nil, fmt.Errorf("gear %s is allowed as device %s: it %w", of.Name, as, registry.ErrExists)
	}
	if id == "" {
		id = deviceID(p.cfg.IDPrefix, of.Name)
	}
	if d := b.left(id, of.Name); d != nil {
		return b.takeOver(ctx, d, of, labels, note)
	}
	d, err := b.create(ctx, of, id, labels, note)
	if errors.Is(err, registry.ErrExists) {
		err = fmt.Errorf("%w: it is %s; choose another id", err, br.holder(id))
	}
	return d, err
}

// create makes the device.
func (b *Bridge) create(ctx context.Context, of registry.Gear, id string, labels map[string]string, note string) (*registry.Device, error) {
	return b.deps.Registry.Create(ctx, registry.NewDevice{
		ID: id, Kind: registry.KindMQTT, Labels: labels, Note: note, KeyID: b.deps.KeyID(), Gear: &of,
	})
}
