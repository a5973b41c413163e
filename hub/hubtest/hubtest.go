// Package hubtest starts real hubs for tests: in the test's own process, or
// as a process of its own that can be killed.
package hubtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/porttest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// Patience is how long a test waits for something that must come.
const Patience = 3 * time.Minute

// Config is the config of a hub for tests: the embedded store, a free
// loopback port, a folder of its own.
func Config(t testing.TB) hub.Config {
	t.Helper()
	cfg := hub.DefaultConfig()
	cfg.Data = t.TempDir()
	cfg.Listen = "127.0.0.1:0"
	cfg.NodeName = "test-node"
	cfg.LogLevel = "warn"
	return cfg
}

// Hub is a running hub and an admin at it.
type Hub struct {
	Endpoint
	Hub *hub.Hub // nil for a process

	stop func() error
}

// Start runs a hub in this process until the test ends.
func Start(t testing.TB, cfg hub.Config) *Hub {
	t.Helper()
	running, err := hub.New(t.Context(), cfg, hub.Options{Version: "test", Logger: Logger(t, cfg)})
	if err != nil {
		t.Fatalf("start the hub: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- running.Run(ctx) }()
	h := &Hub{Hub: running}
	var result error
	stopped := false
	h.stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-ended
			h.Close()
		}
		return result
	}
	t.Cleanup(func() {
		if err := h.Stop(); err != nil {
			t.Errorf("stop the hub: %v", err)
		}
	})
	h.Endpoint = Connect(t, cfg.Data, running.AddrOperators().String())
	return h
}

// Stop ends the hub in order and returns what Run returned.
func (h *Hub) Stop() error { return h.stop() }

// Logger writes warnings and errors of a hub to the test's output.
func Logger(t testing.TB, cfg hub.Config) *slog.Logger {
	return hub.NewLogger(cfg, testWriter{t})
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	return w.t.Output().Write(p)
}

// Endpoint is a hub as an operator and its devices reach it.
type Endpoint struct {
	Addr  string // host:port
	URL   string // of the operator API
	Token string // of the first admin
	Roots *x509.CertPool

	Devices    operatorv1connect.DeviceServiceClient
	Telemetry  operatorv1connect.TelemetryServiceClient
	Quarantine operatorv1connect.QuarantineServiceClient
	Operators  operatorv1connect.OperatorServiceClient
	Status     operatorv1connect.HubServiceClient
	Commands   operatorv1connect.CommandServiceClient
	Bridges    operatorv1connect.BridgeServiceClient

	transport *http.Transport
}

// Connect makes the clients of the hub at addr whose data folder is dir.
func Connect(t testing.TB, dir, addr string) Endpoint {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatalf("read the admin token: %v", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatalf("read the CA: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	e := Endpoint{Addr: addr, URL: "https://" + addr, Token: strings.TrimSpace(string(token)), Roots: roots}
	return e.As(e.Token)
}

// As is the same hub with another operator's token.
func (e Endpoint) As(token string) Endpoint {
	e.Token = token
	e.transport = &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: e.Roots},
		ForceAttemptHTTP2: true,
	}
	c := &http.Client{Transport: e.transport}
	auth := connect.WithInterceptors(bearer(token))
	e.Devices = operatorv1connect.NewDeviceServiceClient(c, e.URL, auth)
	e.Telemetry = operatorv1connect.NewTelemetryServiceClient(c, e.URL, auth)
	e.Quarantine = operatorv1connect.NewQuarantineServiceClient(c, e.URL, auth)
	e.Operators = operatorv1connect.NewOperatorServiceClient(c, e.URL, auth)
	e.Status = operatorv1connect.NewHubServiceClient(c, e.URL, auth)
	e.Commands = operatorv1connect.NewCommandServiceClient(c, e.URL, auth)
	e.Bridges = operatorv1connect.NewBridgeServiceClient(c, e.URL, auth)
	return e
}

// Close frees the connections of the clients.
func (e Endpoint) Close() { e.transport.CloseIdleConnections() }

// bearer adds the token to unary calls and streams.
type bearer string

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		r.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, r)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, s connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, s)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// CreateDevice enrols a device and returns its credential.
func (e Endpoint) CreateDevice(t testing.TB, id string) device.Credential {
	t.Helper()
	answer, err := e.Devices.CreateDevice(t.Context(), connect.NewRequest(&operatorv1.CreateDeviceRequest{
		Device: &operatorv1.NewDevice{Id: id},
	}))
	if err != nil {
		t.Fatalf("create device %s: %v", id, err)
	}
	c, err := device.ParseCredential(answer.Msg.Credential)
	if err != nil {
		t.Fatalf("credential of device %s: %v", id, err)
	}
	return c
}

// Client is the config of the SDK for a device of this hub, with pauses that
// suit a test.
func (e Endpoint) Client(c device.Credential) client.Config {
	return client.Config{
		URL:          "wss://" + e.Addr + device.Path,
		Credentials:  client.NewMemoryStore(c),
		RootCAs:      e.Roots,
		MaxBatchAge:  20 * time.Millisecond,
		BackoffMin:   20 * time.Millisecond,
		BackoffMax:   500 * time.Millisecond,
		FlushTimeout: Patience / 2,
	}
}

// failedWait is for how long a test that has failed waits for a device to end.
// What it waits for to be acknowledged may be what the test has failed for.
const failedWait = 5 * time.Second

// Run runs a device until the test, or stop, ends it.
func Run(t testing.TB, cfg client.Config) (c *client.Client, stop func() error) {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatalf("make a device: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	var result error
	stopped := false
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-ended
		}
		return result
	}
	t.Cleanup(func() {
		if !t.Failed() || stopped {
			_ = stop()
			return
		}
		cancel()
		select {
		case <-ended:
		case <-time.After(failedWait):
			t.Log("a device has not ended, and is left behind")
		}
	})
	return c, stop
}

// Count is how many rows of the device's default measurement are stored.
func (e Endpoint) Count(t testing.TB, id string) uint64 {
	t.Helper()
	return e.CountOf(t, id, "")
}

// CountOf is how many rows of a measurement of the device are stored; gear has
// that of its kind.
func (e Endpoint) CountOf(t testing.TB, id, measurement string) uint64 {
	t.Helper()
	answer, err := e.Telemetry.Count(t.Context(), connect.NewRequest(&operatorv1.CountRequest{DeviceId: id, Measurement: measurement}))
	if err != nil {
		t.Fatalf("count rows of %s: %v", id, err)
	}
	return answer.Msg.Rows
}

// Eventually polls until ok returns true, and fails the test with what when
// it does not within Patience.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, Patience)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, t.Context().Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// FreeAddr is a loopback address that nobody listens on now, for a server
// that must come back on the same one.
func FreeAddr(t testing.TB) string {
	t.Helper()
	return porttest.Free(t)
}
