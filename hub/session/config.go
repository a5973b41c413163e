package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// Fixed limits of the protocol.
const (
	HandshakeTimeout = 10 * time.Second // from the Challenge to the Hello
	MaxHelloBytes    = 4 << 10          // a frame before the welcome
	PongTimeout      = 10 * time.Second // from a ping to anything heard
	WriteTimeout     = 10 * time.Second // of one outgoing frame
	MinHeartbeat     = 5 * time.Second
	MaxHeartbeat     = 30 * time.Minute
	MaxDescribeBytes = 16 << 10
	MaxPayloadBytes  = 16 << 10 // of a command's arguments or result
	MaxMessageBytes  = 1 << 10  // of a command update
	MaxCommandID     = 64       // bytes
	MaxFirmwareBytes = 64
)

// How long a session that ends waits for what is under way.
const (
	settleTimeout = 5 * time.Second        // for the acks of appended frames
	flushTimeout  = time.Second            // for the outgoing queue, when settled
	abortTimeout  = 250 * time.Millisecond // for a write under way, else
	lingerTimeout = 500 * time.Millisecond // for the peer to take in the close frame
	callTimeout   = 5 * time.Second        // of a call to registry or commands
)

// Limits of one session. The zero value means the defaults.
type Limits struct {
	Heartbeat      time.Duration // default interval, 5 s to 30 min; 0: 25 s
	WindowFrames   int           // Telemetry frames without an Ack, 1 to 4096; 0: 64
	WindowBytes    int           // and their bytes, from MaxFrameBytes; 0: 512 KiB
	MaxFrameBytes  int           // 4 KiB to 64 KiB; 0: 64 KiB
	FramesPerSec   float64       // sustained; 0: 200
	BytesPerSec    float64       // sustained; 0: 2 MiB
	MaxQueuedBytes int           // outgoing, from 64 KiB; 0: 1 MiB, which holds 50 commands of 16 KiB
}

func (l Limits) withDefaults() (Limits, error) {
	setDefault(&l.Heartbeat, 25*time.Second)
	setDefault(&l.WindowFrames, 64)
	setDefault(&l.WindowBytes, 512<<10)
	setDefault(&l.MaxFrameBytes, telemetry.MaxFrameBytes)
	setDefault(&l.FramesPerSec, 200)
	setDefault(&l.BytesPerSec, 2<<20)
	setDefault(&l.MaxQueuedBytes, 1<<20)
	switch {
	case l.Heartbeat < MinHeartbeat || l.Heartbeat > MaxHeartbeat:
		return l, fmt.Errorf("heartbeat must be %v to %v, not %v", MinHeartbeat, MaxHeartbeat, l.Heartbeat)
	case l.WindowFrames < 1 || l.WindowFrames > 4096:
		return l, fmt.Errorf("window of frames must be 1 to 4096, not %d", l.WindowFrames)
	case l.MaxFrameBytes < MaxHelloBytes || l.MaxFrameBytes > telemetry.MaxFrameBytes:
		return l, fmt.Errorf("a frame must be %d to %d bytes at most, not %d", MaxHelloBytes, telemetry.MaxFrameBytes, l.MaxFrameBytes)
	case l.WindowBytes < l.MaxFrameBytes || l.WindowBytes > math.MaxInt32:
		return l, fmt.Errorf("window of bytes must hold a frame of %d bytes, not %d", l.MaxFrameBytes, l.WindowBytes)
	case l.FramesPerSec < 0.01 || l.FramesPerSec > 1e6:
		return l, fmt.Errorf("frames a second must be 0.01 to 1e6, not %v", l.FramesPerSec)
	case l.BytesPerSec < 64 || l.BytesPerSec > 1e12:
		return l, fmt.Errorf("bytes a second must be 64 to 1e12, not %v", l.BytesPerSec)
	case l.MaxQueuedBytes < 64<<10:
		return l, fmt.Errorf("outgoing queue must hold at least 64 KiB, not %d bytes", l.MaxQueuedBytes)
	}
	return l, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Registry is what a session asks of the registry.
type Registry interface {
	Get(id string) (*registry.Device, bool)
	// Check is nil while Get follows every change.
	Check() error
	Update(ctx context.Context, id string, change func(*registry.Device) error) (*registry.Device, error)
}

// Keyring derives the secrets of devices. It is false for a key it does not
// have.
type Keyring interface {
	Secret(keyID, id string, generation uint32) (device.Secret, bool)
}

// TelemetryBuffer takes what devices send.
type TelemetryBuffer interface {
	Append(e telemetry.Entry, seq uint64, to telemetry.Acker) error
	Pressure() telemetry.Pressure
}

// Table is where live sessions stand.
type Table interface {
	// Attach enters s, ends the older session of its device, and returns the
	// epoch of s, greater than that of every session of the device before
	// it on any node, and what the hub remembers of the device. An error
	// that is a *Violation names the close code.
	Attach(s *Session) (epoch uint64, memory *Memory, err error)
	// Detach takes s out. It does nothing where a newer session has taken
	// its place.
	Detach(s *Session, code CloseCode)
}

// Commands is told who is there and what devices say of their commands. Its
// methods are called from the session's reader: they may wait for a store,
// not for a device.
type Commands interface {
	// Connected: the device has had its welcome and takes commands.
	Connected(device string, epoch uint64)
	// Update records the device's word. final says that the command's end is
	// recorded; the device is then told so.
	Update(ctx context.Context, device string, epoch uint64, u *devicev1.CommandUpdate) (final bool, err error)
	// Disconnected: the session of that epoch is over.
	Disconnected(device string, epoch uint64)
}

// Config is what all sessions of a node share.
type Config struct {
	Limits   Limits
	Registry Registry
	Keyring  Keyring
	Buffer   TelemetryBuffer
	Table    Table
	Wheel    *Wheel
	// Commands may be nil: updates are then ignored.
	Commands Commands
	// Labels of a device as telemetry.Entry wants them; nil: none.
	Labels  func(*registry.Device) string
	Metrics *Metrics     // nil: counted for nobody
	Logger  *slog.Logger // nil: slog.Default()
}

// Deps is a checked Config. Sessions share one.
type Deps struct {
	Config
	decoy device.MasterKey // for devices that do not exist
	rates rates
	rings sync.Pool // of *ring

	refused quota // of log lines
}

// NewDeps checks the config and fills in its defaults.
func NewDeps(c Config) (*Deps, error) {
	limits, err := c.Limits.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("session limits: %w", err)
	}
	c.Limits = limits
	if c.Registry == nil || c.Keyring == nil || c.Buffer == nil || c.Table == nil || c.Wheel == nil {
		return nil, errors.New("session: Registry, Keyring, Buffer, Table and Wheel are needed")
	}
	if c.Labels == nil {
		c.Labels = func(*registry.Device) string { return "" }
	}
	if c.Metrics == nil {
		c.Metrics = new(Metrics)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	d := &Deps{Config: c, rates: ratesOf(&c.Limits)}
	d.rings.New = func() any { return newRing(c.Limits.WindowFrames) }
	randomBytes(d.decoy[:])
	return d, nil
}
