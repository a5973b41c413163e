package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/gateway"
	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One ticker a process, started by the server's package.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.init.0.func1"),
	)
}

const patience = 90 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// hub is what stands behind a gateway, all of it real.
type hub struct {
	t       testing.TB
	node    *natsd.Node
	reg     *registry.Registry
	keys    *registry.Keyring
	buffer  *jsbuffer.Buffer
	table   *live.Table
	metrics *session.Metrics
	gw      *gateway.Gateway
	gwm     *gateway.Metrics
	ln      *gateway.Listener
	addr    string
	roots   *x509.CertPool
	cert    tls.Certificate

	shutdown func() error
}

type options struct {
	limits   session.Limits
	gateway  gateway.Config // Deps and Metrics are filled in
	listener gateway.ListenerConfig
	commands session.Commands
	tls      func(*tls.Config)
}

func startHub(t testing.TB, o options) *hub {
	t.Helper()
	ctx := testContext(t)
	quiet := slog.New(slog.DiscardHandler)
	h := &hub{t: t, metrics: new(session.Metrics), gwm: new(gateway.Metrics)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	var err error
	h.node, err = natsd.Start(ctx, natsd.Config{Dir: filepath.Join(dir, "nats"), Name: "node-a", Logger: quiet})
	must(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.node.Stop(ctx); err != nil {
			t.Errorf("stop NATS: %v", err)
		}
	})
	h.reg, err = registry.Open(ctx, h.node.JetStream(), registry.Config{Logger: quiet})
	must(err)
	t.Cleanup(h.reg.Close)
	h.keys, err = h.reg.OpenKeyring(filepath.Join(dir, "master.key"))
	must(err)
	quarantine, err := jsbuffer.OpenQuarantine(ctx, h.node.JetStream(), jsbuffer.QuarantineConfig{})
	must(err)
	h.buffer, err = jsbuffer.Open(ctx, h.node.JetStream(), h.node.Conn(), jsbuffer.Config{Quarantine: quarantine, Logger: quiet})
	must(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.buffer.Close(ctx); err != nil {
			t.Errorf("close buffer: %v", err)
		}
	})
	h.table, err = live.New(ctx, live.Config{
		Conn: h.node.Conn(), JetStream: h.node.JetStream(), Registry: h.reg, Node: h.node.Name(), Logger: quiet,
	})
	must(err)
	wheel := session.NewWheel()
	runCtx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.table.Run(runCtx) })
	running.Go(func() { wheel.Run(runCtx) })
	t.Cleanup(func() { stop(); running.Wait() })

	deps, err := session.NewDeps(session.Config{
		Limits: o.limits, Registry: h.reg, Keyring: h.keys, Buffer: h.buffer, Table: h.table, Wheel: wheel,
		Commands: o.commands, Metrics: h.metrics, Logger: quiet,
	})
	must(err)
	o.gateway.Deps, o.gateway.Metrics, o.gateway.Logger = deps, h.gwm, quiet
	h.gw, err = gateway.New(o.gateway)
	must(err)
	h.serve(o)
	return h
}

func (h *hub) serve(o options) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.addr = inner.Addr().String()
	h.ln = gateway.NewListener(inner, o.listener)
	h.cert, h.roots = selfSigned(h.t)
	config := &tls.Config{Certificates: []tls.Certificate{h.cert}, MinVersion: tls.VersionTLS12}
	if o.tls != nil {
		o.tls(config)
	}
	server := gateway.NewServer(h.gw, h.ln, config, slog.New(slog.DiscardHandler))
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.ServeTLS(h.ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
			h.t.Errorf("serve: %v", err)
		}
	}()
	var once sync.Once
	h.shutdown = func() (err error) {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			err = h.gw.Shutdown(ctx)
			_ = server.Close()
			<-served
		})
		return err
	}
	h.t.Cleanup(func() {
		if err := h.shutdown(); err != nil {
			h.t.Errorf("shutdown: %v", err)
		}
	})
}

// create makes a device and returns its credential.
func (h *hub) create(id string) device.Credential {
	h.t.Helper()
	d, err := h.reg.Create(testContext(h.t), registry.NewDevice{ID: id, KeyID: h.keys.ActiveID()})
	if err != nil {
		h.t.Fatal(err)
	}
	return h.credential(d)
}

func (h *hub) credential(d *registry.Device) device.Credential {
	secret, ok := h.keys.Secret(d.KeyID, d.ID, d.Generation)
	if !ok {
		h.t.Fatalf("no key %s", d.KeyID)
	}
	return device.Credential{ID: d.ID, Generation: d.Generation, Secret: secret}
}

func (h *hub) update(id string, change func(*registry.Device)) {
	h.t.Helper()
	_, err := h.reg.Update(testContext(h.t), id, func(d *registry.Device) error { change(d); return nil })
	if err != nil {
		h.t.Fatal(err)
	}
}

// eventually polls until ok, or fails.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// selfSigned is a certificate for 127.0.0.1, and the pool that trusts it.
func selfSigned(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}
