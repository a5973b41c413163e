package mqttbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"

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
}

// Tail follows what becomes durable, for upstream.
type Tail interface {
	Tail(ctx context.Context, f func(entries []telemetry.Entry, missed uint64)) error
}

// Embedded is the way to the hub's own broker.
type Embedded struct {
	URL      string // tcp://host:port or ssl://host:port
	User     string
	Password string
	TLS      *tls.Config                                 // nil: none
	Dial     func(ctx context.Context) (net.Conn, error) // nil: by URL
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

// Errors of the bridge, besides those of the registry.
var (
	// ErrUnknownGear says that the config has no such broker or profile.
	ErrUnknownGear = errors.New("the config has no such broker or profile")
)
