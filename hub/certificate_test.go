package hub_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
)

// shown is the certificate that the hub presents now.
func shown(t testing.TB, h hubtest.Endpoint) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", h.Addr, tlsFor(h))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0]
}

// An own certificate is taken up when its files have changed, without a
// restart; one that does not load leaves the one before in place.
func TestOwnCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	ca := makeCA(t)
	cfg.TLSCA = filepath.Join(cfg.Data, "ca.pem") // where hubtest looks for it
	cfg.TLSCert, cfg.TLSKey = filepath.Join(cfg.Data, "own.pem"), filepath.Join(cfg.Data, "own.key")
	writeFile(t, cfg.TLSCA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}))
	first, second := issueCertificate(t, ca, time.Hour), issueCertificate(t, ca, 2*time.Hour)
	writePair(t, first, cfg.TLSCert, cfg.TLSKey)
	h := hubtest.Start(t, cfg)
	if got := shown(t, h.Endpoint); got.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Fatalf("presents %v; want its own certificate", got.Subject)
	}
	live := connectPeer(t, h.Endpoint, h.CreateDevice(t, "dev-1"))
	writeFile(t, cfg.TLSCert, []byte("half a file"))
	if got := shown(t, h.Endpoint); got.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Errorf("presents %v while the file is broken", got.Subject)
	}
	writePair(t, second, cfg.TLSCert, cfg.TLSKey)
	hubtest.Eventually(t, "the new certificate is presented", func() bool {
		return shown(t, h.Endpoint).SerialNumber.Cmp(second.Leaf.SerialNumber) == 0
	})
	live.sendSeries(1, oneReading(time.Now())) // a session that stands notices nothing
	live.wantAck(1)
}

// Devices trust the hub's own CA for years: it stays over restarts, while the
// certificate below it may change, and follows the names in the config.
func TestOwnCAStaysOverRestarts(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	h := hubtest.Start(t, cfg)
	ca, key := readFile(t, cfg.Data, "ca.pem"), readFile(t, cfg.Data, "ca.key")
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg.TLSNames = []string{"hub.example.org", "192.0.2.1"}
	h = hubtest.Start(t, cfg)
	if !bytes.Equal(ca, readFile(t, cfg.Data, "ca.pem")) || !bytes.Equal(key, readFile(t, cfg.Data, "ca.key")) {
		t.Error("the CA has changed")
	}
	for _, name := range []string{"hub.example.org", "192.0.2.1", "localhost", "127.0.0.1"} {
		if err := shown(t, h.Endpoint).VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.Data, "ca.key")); err != nil {
		t.Fatal(err)
	}
	wantNoStart(t, cfg, "restore ca.pem and ca.key together")
}

// wantNoStart fails unless the hub refuses to start with those words.
func wantNoStart(t testing.TB, cfg hub.Config, words ...string) {
	t.Helper()
	_, err := hub.New(t.Context(), cfg, hub.Options{Logger: hubtest.Logger(t, cfg)})
	if err == nil {
		t.Fatal("the hub starts")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the hub says %q; want %q in it", err, w)
		}
	}
}

// A master key that others can read, or that is gone, stops the start with
// what to do about it; nothing is made in its place.
func TestMasterKeyIsGuarded(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	h := hubtest.Start(t, cfg)
	h.CreateDevice(t, "dev-1")
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Data, "master.key")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	wantNoStart(t, cfg, "chmod 600", path)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	wantNoStart(t, cfg, "missing", path)
	if _, err := os.Stat(path); err == nil {
		t.Error("another key was made")
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	hubtest.Start(t, cfg) // what failed before has left nothing behind
}

// Devices trust ca.pem: when the file is lost, the one that takes its place
// has the same name and key, so that those who hold the old one go on.
func TestLostCACertificateLocksNobodyOut(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	first := hubtest.Start(t, cfg)
	roots := first.Roots
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.Data, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	second := hubtest.Start(t, cfg)
	conn, err := tls.Dial("tcp", second.Addr, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatalf("who trusts the lost certificate: %v", err)
	}
	_ = conn.Close()
}
