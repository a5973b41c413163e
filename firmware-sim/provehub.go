package firmwaresim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// Bounds of waiting for a program; generous, for a loaded machine.
const (
	programStart = 90 * time.Second
	programStop  = 60 * time.Second
	callTimeout  = 10 * time.Second
)

// provenHub is the hub of a proof: a process, and an operator at it.
type provenHub struct {
	program
	data, addr string

	token     string
	ca        string // PEM
	roots     *x509.CertPool
	transport *http.Transport
	http      *http.Client
	devices   operatorv1connect.DeviceServiceClient
	telemetry operatorv1connect.TelemetryServiceClient
	shelf     operatorv1connect.QuarantineServiceClient
	commands  operatorv1connect.CommandServiceClient
	status    operatorv1connect.HubServiceClient

	lives     atomic.Int64 // starts so far
	disturbed atomic.Int64 // faults under way that keep it from being itself
	trouble   atomic.Int64 // Unix ns: when the last of them ended
	slowest   atomic.Int64 // ns from a start to ready
}

// newProvenHub starts a hub that stores in InfluxDB at store; nil: in its
// embedded store.
func newProvenHub(ctx context.Context, path, data string, log *boundedLog, store *provenStore, broken func(error)) (*provenHub, error) {
	addr, err := quietAddr()
	if err != nil {
		return nil, err
	}
	h := &provenHub{data: data, addr: addr}
	h.program = program{name: "the hub", path: path, env: cleanEnvironment(), log: log, onExit: broken, args: []string{
		"serve", "--data", data, "--listen", addr, "--node-name", "proof", "--log-level", "warn",
		"--heartbeat", proveHeartbeat.String(), "--buffer-bytes", strconv.Itoa(proveBuffer), "--address-rate", "100000",
	}}
	if store != nil {
		h.args = append(h.args, "--influx-url", "http://"+store.link.addr(), "--influx-org", "proof",
			"--influx-bucket", storeDatabase+"/autogen", "--influx-timeout", "5s")
	}
	if err := h.begin(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// quietAddr is a free loopback address, below the range that systems take for
// outgoing connections, so that it is free again after a kill.
func quietAddr() (string, error) {
	var err error
	for range 20 {
		var l net.Listener
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(12000+rand.IntN(20000)))
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}

// begin starts the process and returns when it is ready.
func (h *provenHub) begin(ctx context.Context) error {
	began := time.Now()
	if err := h.start(); err != nil {
		return err
	}
	if err := h.awaitReady(ctx, "its start"); err != nil {
		return err
	}
	if took := int64(time.Since(began)); took > h.slowest.Load() {
		h.slowest.Store(took)
	}
	h.lives.Add(1)
	return nil
}

// disturb notes that the hub is not itself until end is called.
func (h *provenHub) disturb() (end func()) {
	h.disturbed.Add(1)
	return func() {
		h.trouble.Store(time.Now().UnixNano())
		h.disturbed.Add(-1)
	}
}

// steadySince reports whether the hub has been itself from then on.
func (h *provenHub) steadySince(t time.Time) bool {
	return h.disturbed.Load() == 0 && h.trouble.Load() < t.UnixNano() && h.running()
}

// ready is nil where the hub is, and else says why not. It asks once.
func (h *provenHub) ready(ctx context.Context) error {
	if h.http == nil {
		if err := h.operator(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := h.get(ctx, "/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	return errors.New(strings.TrimSpace(string(text)))
}

// awaitReady waits, since when is for the error.
func (h *provenHub) awaitReady(ctx context.Context, since string) error {
	began := time.Now()
	for {
		err := h.ready(ctx)
		switch {
		case err == nil:
			return nil
		case h.begun(ctx) != nil:
			return h.begun(ctx)
		case time.Since(began) > programStart:
			return fmt.Errorf("the hub is not ready %v after %s: %w; its log ends:\n%s", programStart, since, err, h.log.end())
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

// operator becomes one, with what the first start has written.
func (h *provenHub) operator() error {
	token, err := os.ReadFile(filepath.Join(h.data, "admin.token"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(h.data, "ca.pem"))
	if err != nil {
		return err
	}
	h.token, h.ca = strings.TrimSpace(string(token)), string(ca)
	if h.roots, err = client.RootsFromPEM(h.ca); err != nil || h.token == "" {
		return errors.Join(err, errors.New("the hub is still writing its first files"))
	}
	h.transport = &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: h.roots},
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 3 * time.Second, PingTimeout: 3 * time.Second},
	}
	h.http = &http.Client{Transport: h.transport}
	auth := connect.WithInterceptors(bearer(h.token))
	h.devices = operatorv1connect.NewDeviceServiceClient(h.http, h.url(), auth)
	h.telemetry = operatorv1connect.NewTelemetryServiceClient(h.http, h.url(), auth)
	h.shelf = operatorv1connect.NewQuarantineServiceClient(h.http, h.url(), auth)
	h.commands = operatorv1connect.NewCommandServiceClient(h.http, h.url(), auth)
	h.status = operatorv1connect.NewHubServiceClient(h.http, h.url(), auth)
	return nil
}

func (h *provenHub) url() string { return "https://" + h.addr }

func (h *provenHub) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url()+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+h.token)
	return h.http.Do(request)
}

// call makes one call with a time limit.
func call[Q, A any](ctx context.Context, method func(context.Context, *connect.Request[Q]) (*connect.Response[A], error), q *Q) (*A, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := method(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}
