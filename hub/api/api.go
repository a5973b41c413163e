// Package api serves the operator API (proto/operator/v1) as Connect, gRPC,
// gRPC-Web and JSON over HTTP.
//
// A request passes, in this order: the gate (gate.go), which refuses foreign
// origins and wrong tokens before it reads a byte of the body, and bounds that
// (size.go); the guard
// (guard.go), which knows the message: role by the table in access.go, time
// limit, audit record, and the one table of errors in errors.go; and the
// handler, which sees and reaches only the devices of the operator's selector
// (scope.go).
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// Live knows where devices are. All methods may run at once; Presence and
// Watch answer from memory.
type Live interface {
	// Presence of a device on any node; the zero Presence: never seen.
	Presence(id string) registry.Presence
	// Watch calls f with the present states, then an event that is Synced,
	// then changes, until ctx ends or f returns an error.
	Watch(ctx context.Context, f func(live.Event) error) error
	// Renew hands a connected device its next credential; false: it is not
	// connected.
	Renew(id string, generation uint32, secret device.Secret) bool
}

// Keyring derives the secrets of devices.
type Keyring interface {
	ActiveID() string
	Secret(keyID, id string, generation uint32) (device.Secret, bool)
}

// Quarantine keeps the rows that the store refused.
type Quarantine interface {
	List(ctx context.Context, device string, after uint64, limit int) ([]jsbuffer.Quarantined, error)
	Get(ctx context.Context, id uint64) (jsbuffer.Quarantined, error)
	Count(ctx context.Context) (jsbuffer.Counts, error)
	Replay(ctx context.Context, s jsbuffer.Selection, to telemetry.Buffer) (uint64, error)
	Drop(ctx context.Context, s jsbuffer.Selection) (uint64, error)
}

// Tail shows entries as they become durable on any node: f gets them in
// order, and how many chunks were left out before them because f was too
// slow. It returns when ctx ends, or why it cannot go on.
type Tail interface {
	Tail(ctx context.Context, f func(entries []telemetry.Entry, missed uint64)) error
}

// Deps is what the API is made of. All fields are required unless they say
// otherwise.
type Deps struct {
	Registry   *registry.Registry
	Keyring    Keyring
	Live       Live
	Reader     telemetry.Reader
	Buffer     telemetry.Buffer // takes replayed rows
	Tail       Tail
	Quarantine Quarantine
	Commands   Commands
	Bridge     Bridge // nil: this hub has none
	// Status makes a new message at each call; devices and devices_online
	// are filled in here.
	Status func(context.Context) (*operatorv1.GetStatusResponse, error)
	// Endpoint is what devices dial and the CA that they trust, PEM.
	Endpoint func() (hubURL, caPEM string)
	// AllowedOrigins are exact origins ("https://host[:port]") of browsers
	// that may call, besides the hub's own; empty: none.
	AllowedOrigins []string
	// ClientAddr is the address behind a trusted proxy; nil: the peer's.
	ClientAddr func(*http.Request) netip.Addr
	Logger     *slog.Logger // nil: slog.Default()
}

func (d *Deps) check() error {
	if d.Registry == nil || d.Keyring == nil || d.Live == nil || d.Reader == nil || d.Buffer == nil ||
		d.Tail == nil || d.Quarantine == nil || d.Commands == nil || d.Status == nil || d.Endpoint == nil {
		return errors.New("api: Registry, Keyring, Live, Reader, Buffer, Tail, Quarantine, Commands, Status and Endpoint are needed")
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if d.ClientAddr == nil {
		d.ClientAddr = peerAddr
	}
	return nil
}

// Server is the API's http.Handler. It wants HTTP/2 for gRPC and nothing more
// than HTTP/1.1 for the others.
type Server struct {
	deps     Deps
	patience time.Duration // writeTimeout
	log      *slog.Logger
	origins  map[string]bool
	refuse   *connect.ErrorWriter
	mux      *http.ServeMux
	paths    []string
	attempts attempts
	calls    calls
	feed     feed
	searches chan struct{} // in the audit log, for refused commands; capacity maxRefusedSearches

	unsubscribe func()
	stopMending func()
	mended      chan struct{} // closed when new commands may be accepted
	mending     sync.WaitGroup
	closing     sync.Once
}

// New makes the API. Close it before its parts.
func New(deps Deps) (*Server, error) {
	if err := deps.check(); err != nil {
		return nil, err
	}
	s := &Server{deps: deps, patience: writeTimeout, log: deps.Logger, mux: http.NewServeMux(), origins: make(map[string]bool),
		searches: make(chan struct{}, maxRefusedSearches)}
	for _, origin := range deps.AllowedOrigins {
		s.origins[origin] = true
	}
	s.attempts.init(time.Now)
	s.calls.init()
	s.feed.init(deps.Tail, deps.Registry, s.log)
	options := connect.WithHandlerOptions(
		connect.WithInterceptors(&guard{s}),
		withBoundedGzip(),
		withStrictJSON(),
		connect.WithSendMaxBytes(maxResponseBytes),
		connect.WithCompressMinBytes(minCompressBytes),
	)
	s.refuse = connect.NewErrorWriter(options)
	s.mount(operatorv1connect.NewDeviceServiceHandler(&deviceService{s}, options))
	s.mount(operatorv1connect.NewTelemetryServiceHandler(&telemetryService{s}, options))
	s.mount(operatorv1connect.NewCommandServiceHandler(&commandService{s}, options))
	s.mount(operatorv1connect.NewQuarantineServiceHandler(&quarantineService{s}, options))
	s.mount(operatorv1connect.NewOperatorServiceHandler(&operatorService{s}, options))
	s.mount(operatorv1connect.NewBridgeServiceHandler(&bridgeService{s}, options))
	s.mount(operatorv1connect.NewHubServiceHandler(&hubService{s}, options))
	s.unsubscribe = deps.Registry.OnOperatorChange(func(old, new *registry.Operator) {
		if old != nil && (new == nil || new.Revision != old.Revision) {
			s.calls.end(old.Name, errRevoked)
		}
	})
	s.mended = make(chan struct{})
	s.beginMending()
	return s, nil
}

func (s *Server) mount(path string, handler http.Handler) {
	s.mux.Handle(path, handler)
	s.paths = append(s.paths, path)
}

// Paths are the prefixes that belong to the API, as patterns of an
// http.ServeMux.
func (s *Server) Paths() []string { return s.paths }

// Close ends every call, streams too, with UNAVAILABLE, and waits for them.
// Requests that come later are answered so.
func (s *Server) Close() {
	s.closing.Do(func() {
		s.unsubscribe()
		s.stopMending()
		s.calls.close(errShuttingDown)
		s.feed.close()
		s.mending.Wait()
	})
}
