package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	connectv1 "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
	"github.com/tetherline/tetherline/telemetry/sqlite"
	"github.com/tetherline/tetherline/telemetry/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One ticker a process, started by the server's package.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.init.0.func1"),
	)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// hub is the API on real parts, behind real TLS.
type hub struct {
	t          *testing.T
	registry   *registry.Registry
	keyring    *registry.Keyring
	live       *live.Table
	store      *sqlite.Store
	buffer     *jsbuffer.Buffer
	quarantine *jsbuffer.Quarantine
	commands   *commands.Dispatcher
	server     *api.Server
	http       *httptest.Server
	admin      string // token
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newHub(t *testing.T, change ...func(*api.Deps)) *hub {
	t.Helper()
	ctx, dir := testContext(t), t.TempDir()
	node := must(natsd.Start(ctx, natsd.Config{Dir: filepath.Join(dir, "nats"), Name: "test", Logger: quiet()}))(t)
	t.Cleanup(func() { closeIn(t, node.Stop) })
	h := &hub{t: t}
	h.registry = must(registry.Open(ctx, node.JetStream(), registry.Config{Logger: quiet()}))(t)
	t.Cleanup(h.registry.Close)
	h.keyring = must(h.registry.OpenKeyring(filepath.Join(dir, "master.key")))(t)
	h.startLive(node)
	h.store = must(sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "rows.db"), Logger: quiet()}))(t)
	t.Cleanup(func() { _ = h.store.Close() })
	h.quarantine = must(jsbuffer.OpenQuarantine(ctx, node.JetStream(), jsbuffer.QuarantineConfig{}))(t)
	h.buffer = must(jsbuffer.Open(ctx, node.JetStream(), node.Conn(), jsbuffer.Config{Quarantine: h.quarantine, Logger: quiet()}))(t)
	t.Cleanup(func() { closeIn(t, h.buffer.Close) })
	h.startCommands(node)
	h.serve(change)
	_, h.admin, _ = h.registry.CreateOperator(ctx, "root", registry.RoleAdmin, registry.Selector{})
	return h
}

func closeIn(t *testing.T, stop func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func (h *hub) startLive(node *natsd.Node) {
	h.live = must(live.New(testContext(h.t), live.Config{
		Conn: node.Conn(), JetStream: node.JetStream(), Registry: h.registry, Node: "test", Logger: quiet(),
	}))(h.t)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.live.Run(ctx) })
	h.t.Cleanup(func() { stop(); running.Wait() })
}

func (h *hub) startCommands(node *natsd.Node) {
	store := must(jsstore.New(testContext(h.t), jsstore.Config{Conn: node.Conn(), Logger: quiet()}))(h.t)
	h.commands = must(commands.New(commands.Config{
		Node: "test", Store: store, Devices: registered{h.registry}, Sender: h.live, Logger: quiet(),
	}))(h.t)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = h.commands.Run(ctx) })
	h.t.Cleanup(func() { stop(); running.Wait() })
}

// registered are the devices of the registry, for the dispatcher.
type registered struct{ *registry.Registry }

func (r registered) CheckDevice(_ context.Context, id string) error {
	d, ok := r.Get(id)
	if !ok {
		return fmt.Errorf("device %s: %w", id, commands.ErrUnknownDevice)
	}
	if d.Disabled {
		return &commands.DisabledError{Device: id, By: d.DisabledBy, Since: d.DisabledSince}
	}
	return nil
}

func (r registered) Registration(id string) string {
	if d, ok := r.Get(id); ok {
		return d.Created.String()
	}
	return ""
}

func (r registered) SelectDevices(_ context.Context, text string) ([]string, error) {
	selector, err := registry.ParseSelector(text)
	if err != nil {
		return nil, err
	}
	var ids []string
	for d := range r.All(selector, "") {
		ids = append(ids, d.ID)
	}
	return ids, nil
}

func (h *hub) serve(change []func(*api.Deps)) {
	deps := api.Deps{
		Registry: h.registry, Keyring: h.keyring, Live: h.live, Reader: h.store, Buffer: h.buffer,
		Tail: h.buffer, Quarantine: h.quarantine, Commands: h.commands, Logger: quiet(),
		Status: func(context.Context) (*operatorv1.GetStatusResponse, error) {
			return &operatorv1.GetStatusResponse{
				Version: "test", Node: "test", Ready: true, RowsAcknowledged: 77, RowsStored: 70, ConnectionsPeak: 9,
				Buffer: &operatorv1.GetStatusResponse_Buffer{Bytes: 5},
				Checks: []*operatorv1.GetStatusResponse_Check{{Name: "quarantine", Detail: "3 rows wait"}},
			}, nil
		},
		Endpoint: func() (string, string) { return "wss://hub.example/v1/device", "CA" },
	}
	for _, f := range change {
		f(&deps)
	}
	h.server = must(api.New(deps))(h.t)
	h.http = httptest.NewUnstartedServer(h.server)
	h.http.EnableHTTP2 = true
	h.http.Config.WriteTimeout = 3 * time.Second // as the hub has one, and shorter than what waits
	h.http.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	h.http.StartTLS()
	h.t.Cleanup(func() {
		h.server.Close()
		h.http.Client().CloseIdleConnections()
		h.http.Close()
	})
}

// clients of the API with one token.
type clients struct {
	devices    connectv1.DeviceServiceClient
	telemetry  connectv1.TelemetryServiceClient
	quarantine connectv1.QuarantineServiceClient
	operators  connectv1.OperatorServiceClient
	hub        connectv1.HubServiceClient
	commands   connectv1.CommandServiceClient
	bridge     connectv1.BridgeServiceClient
}

func (h *hub) as(token string, options ...connect.ClientOption) clients {
	options = append(options, connect.WithInterceptors(bearer(token)))
	c, url := h.http.Client(), h.http.URL
	return clients{
		devices:    connectv1.NewDeviceServiceClient(c, url, options...),
		telemetry:  connectv1.NewTelemetryServiceClient(c, url, options...),
		quarantine: connectv1.NewQuarantineServiceClient(c, url, options...),
		operators:  connectv1.NewOperatorServiceClient(c, url, options...),
		hub:        connectv1.NewHubServiceClient(c, url, options...),
		commands:   connectv1.NewCommandServiceClient(c, url, options...),
		bridge:     connectv1.NewBridgeServiceClient(c, url, options...),
	}
}

// bearer puts a token on every call.
type bearer string

func (b bearer) set(h http.Header) { h.Set("Authorization", "Bearer "+string(b)) }

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		b.set(req.Header())
		return next(ctx, req)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		b.set(conn.RequestHeader())
		return conn
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (h *hub) token(name string, role registry.Role, selector string) string {
	h.t.Helper()
	sel := must(registry.ParseSelector(selector))(h.t)
	_, token, err := h.registry.CreateOperator(testContext(h.t), name, role, sel)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// boundID is the id of a bound operator's key.
func (h *hub) boundID(operator, key string) string {
	h.t.Helper()
	o, ok := h.registry.Operator(operator)
	if !ok {
		h.t.Fatalf("no operator %s", operator)
	}
	return api.BoundID(o, key)
}

func (h *hub) device(id, site string) *registry.Device {
	h.t.Helper()
	return must(h.registry.Create(testContext(h.t), registry.NewDevice{
		ID: id, KeyID: h.keyring.ActiveID(), Labels: map[string]string{"site": site},
	}))(h.t)
}

// peer is the hub's end of a connected device.
type peer struct {
	mu      sync.Mutex
	renewed []device.Secret
	stopped []session.CloseCode
}

func (p *peer) Send(*devicev1.HubFrame) error { return nil }
func (p *peer) LastHeard() time.Time          { return time.Now() }

func (p *peer) Stop(code session.CloseCode, _ string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = append(p.stopped, code)
}

func (p *peer) Renew(next device.Secret, _ uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewed = append(p.renewed, next)
	return nil
}

func (p *peer) secrets() []device.Secret {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]device.Secret(nil), p.renewed...)
}

func (p *peer) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.stopped) > 0
}

func (h *hub) connectDevice(id string) *peer {
	h.t.Helper()
	p := new(peer)
	if _, _, err := h.live.Enter(id, p, "127.0.0.1:1", "fw 1"); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// rows of one device, a second apart, ending now.
func rows(t testing.TB, id string, n int) telemetry.Batch {
	t.Helper()
	all := make([]telemetry.Row, n)
	start := time.Now().Add(-time.Duration(n) * time.Second).Truncate(time.Second)
	for i := range all {
		all[i] = telemetry.Row{Device: id, Measurement: "telemetry", Time: start.Add(time.Duration(i) * time.Second).UnixNano(),
			Fields: []telemetry.Field{
				{Name: "temp", Value: telemetry.DoubleValue(float64(i))}, {Name: "state", Value: telemetry.StringValue(fmt.Sprint("s", i))},
			}}
	}
	msg := must(wire.Encode(1, all))(t)
	return telemetry.NewBatch([]telemetry.Entry{{Device: id, Received: time.Now().UnixNano(), Rows: n, Telemetry: msg}})
}

func (h *hub) stored(id string, n int) {
	h.t.Helper()
	if err := h.store.Write(testContext(h.t), rows(h.t, id, n)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) quarantined(id string, n int) {
	h.t.Helper()
	if err := h.quarantine.Put(testContext(h.t), rows(h.t, id, n), "the store's words"); err != nil {
		h.t.Fatal(err)
	}
}

func req[T any](m *T) *connect.Request[T] { return connect.NewRequest(m) }

func wantCode(t testing.TB, what string, err error, want connect.Code) {
	t.Helper()
	if err == nil || connect.CodeOf(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 2 min: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
