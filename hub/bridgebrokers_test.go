package hub_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqttbridge"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// site is where gear and the bridge meet: a Mosquitto, or the hub's own broker,
// which is there as long as the hub runs.
type site struct {
	mosquitto *mqtttest.Broker // nil: the hub's own broker

	addr string // of the hub's own broker
	data string // folder of its hub
}

// onEachBroker runs a test on Mosquitto and on the hub's own broker: the
// bridge is the same on both.
func onEachBroker(t *testing.T, o mqtttest.MosquittoOptions, test func(t *testing.T, s *site)) {
	t.Run("mosquitto", func(t *testing.T) { test(t, &site{mosquitto: mqtttest.StartMosquitto(t, o)}) })
	t.Run("embedded", func(t *testing.T) { test(t, &site{addr: hubtest.FreeAddr(t)}) })
}

// onBothBrokers is onEachBroker, on both at once: for a test that mostly waits.
func onBothBrokers(t *testing.T, test func(t *testing.T, s *site)) {
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, s *site) {
		t.Parallel()
		test(t, s)
	})
}

func (s *site) embedded() bool { return s.mosquitto == nil }

// url is the broker in a config of the bridge.
func (s *site) url() string {
	if s.embedded() {
		return mqttbridge.EmbeddedURL
	}
	return s.mosquitto.URL
}

// serve has a hub run the broker, where it is the hub's own: with one user,
// for all gear, who may do everything.
func (s *site) serve(t testing.TB, cfg *hub.Config) {
	t.Helper()
	if !s.embedded() {
		return
	}
	s.data = cfg.Data
	cfg.MQTTListen, cfg.MQTTUsers = s.addr, filepath.Join(t.TempDir(), "users.yaml")
	writeFile(t, cfg.MQTTUsers, fmt.Appendf(nil, "- {user: gear, password-hash: %s, publish: ['#'], subscribe: ['#']}\n", weakHash(t, "gear")))
}

// bridge has a hub run the bridge to the broker, "barn", with what follows of
// its config, and the broker itself where it is the hub's own.
func (s *site) bridge(t testing.TB, cfg *hub.Config, rest string) {
	t.Helper()
	s.serve(t, cfg)
	bridgeTo(t, cfg, s.url(), rest)
}

// endpoint is the broker as gear reaches it. The hub's own is there when the
// hub has started.
func (s *site) endpoint(t testing.TB) mqtttest.Endpoint {
	t.Helper()
	if !s.embedded() {
		return s.mosquitto.Endpoint
	}
	return s.at(t, s.addr)
}

// at is the hub's own broker by another address.
func (s *site) at(t testing.TB, addr string) mqtttest.Endpoint {
	t.Helper()
	if !s.embedded() {
		return mqtttest.Endpoint{URL: "tcp://" + addr}
	}
	ca, err := os.ReadFile(filepath.Join(s.data, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return mqtttest.Endpoint{
		URL: "ssl://" + addr, User: "gear", Password: "gear",
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: "localhost"},
	}
}

// address of the broker, host:port.
func (s *site) address() string {
	if s.embedded() {
		return s.addr
	}
	return strings.TrimPrefix(s.mosquitto.URL, "tcp://")
}
