package hub_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/hubtest"
)

// visit makes one request with a TLS session from the cache where there is
// one, and returns the state of the connection with its channel binding.
func visit(t *testing.T, h hubtest.Endpoint, config *tls.Config) (tls.ConnectionState, []byte) {
	t.Helper()
	c, err := tls.Dial("tcp", h.Addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	req, _ := http.NewRequest(http.MethodGet, h.URL+"/healthz", nil)
	req.Close = true
	if err := req.Write(c); err != nil {
		t.Fatal(err)
	}
	// The ticket comes after the handshake: read all there is.
	if answer, err := io.ReadAll(c); err != nil || !bytes.Contains(answer, []byte("200 OK")) {
		t.Fatalf("answer %q, error %v", answer, err)
	}
	state := c.ConnectionState()
	binding, err := state.ExportKeyingMaterial(device.ExporterLabel, nil, device.BindingBytes)
	if err != nil {
		t.Fatal(err)
	}
	return state, binding
}

// A device resumes its TLS session after the hub was restarted, with a
// channel binding of the new connection. In TLS 1.2, which would lose forward
// secrecy by keys on disk, it does not.
func TestSessionsResumeAfterARestart(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"1.3": tls.VersionTLS13, "1.2": tls.VersionTLS12} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := hubtest.Config(t)
			h := hubtest.Start(t, cfg)
			device := tlsFor(h.Endpoint)
			device.MaxVersion, device.ServerName = version, "localhost"
			device.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			first, one := visit(t, h.Endpoint, device)
			second, two := visit(t, h.Endpoint, device)
			if first.DidResume || !second.DidResume {
				t.Fatalf("resumed: %v and then %v; want false and true", first.DidResume, second.DidResume)
			}
			if err := h.Stop(); err != nil {
				t.Fatal(err)
			}
			h = hubtest.Start(t, cfg)
			third, three := visit(t, h.Endpoint, device)
			if want := version == tls.VersionTLS13; third.DidResume != want {
				t.Errorf("resumed after the restart: %v; want %v", third.DidResume, want)
			}
			if bytes.Equal(one, two) || bytes.Equal(two, three) {
				t.Error("two connections have one channel binding")
			}
		})
	}
}

// Keys that cannot be read cost a handshake and nothing else; nobody but the
// owner reads them.
func TestTicketKeysThatAreDamaged(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	path := filepath.Join(cfg.Data, "tickets.key")
	writeFile(t, path, []byte("half a li"))
	h := hubtest.Start(t, cfg)
	device := tlsFor(h.Endpoint)
	device.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	visit(t, h.Endpoint, device)
	if again, _ := visit(t, h.Endpoint, device); !again.DidResume {
		t.Error("the session is not resumed with new keys")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of keys has mode %v, error %v; want 0600", info.Mode(), err)
	}
}
