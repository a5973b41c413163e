package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/gateway"
)

// listener is one bound address with the server behind it.
type listener struct {
	*gateway.Listener
	server    *http.Server
	purpose   string // for the log
	plaintext bool
	operators bool
}

// openListeners binds every address of the config. Nothing is served before
// Run.
func (h *Hub) openListeners(context.Context) error {
	type door struct {
		key, address, purpose         string
		devices                       http.Handler
		operators, plaintext, present bool
	}
	together := h.cfg.OperatorListen == ""
	for _, d := range []door{
		{"listen", h.cfg.Listen, "devices", h.gateway, together, false, true},
		{"operator-listen", h.cfg.OperatorListen, "operators", nil, true, false, !together},
		{"proxy-listen", h.cfg.ProxyListen, "a proxy on this machine", h.proxied, together, true, h.cfg.ProxyListen != ""},
	} {
		if !d.present {
			continue
		}
		if d.devices != nil && d.operators {
			d.purpose += " and operators"
		}
		inner, err := net.Listen("tcp", d.address)
		if err != nil {
			return bad(d.key, "%v", err)
		}
		bounds := gateway.ListenerConfig{}
		if d.plaintext {
			bounds.MaxStrangersPerAddr = h.cfg.MaxHandshakes * 2
			bounds.MaxStrangers = h.cfg.MaxHandshakes * 2
		}
		l := &listener{Listener: gateway.NewListener(inner, bounds), purpose: d.purpose, plaintext: d.plaintext, operators: d.operators}
		h.listeners = append(h.listeners, l)
		l.server = gateway.NewServer(h.handler(d.devices, d.operators), l.Listener, nil, h.log)
	}
	if err := h.openTLS(); err != nil {
		return err
	}
	return h.writeOperatorURL()
}

// openTLS loads or makes the certificate, now that the addresses are known.
func (h *Hub) openTLS() error {
	public, err := url.Parse(h.publicURL())
	if err != nil {
		return bad("public-url", "%v", err)
	}
	var own *authority
	if h.cfg.TLSCert == "" {
		if own, err = loadAuthority(h.cfg.Data); err != nil {
			return err
		}
		h.ca = own.pem
	} else if h.cfg.TLSCA != "" {
		if h.ca, err = os.ReadFile(h.cfg.TLSCA); err != nil {
			return bad("tls-ca", "%v", err)
		}
	}
	certs, err := newCertificates(h.cfg.TLSCert, h.cfg.TLSKey, own, certificateNames(h.cfg, public.Hostname()), h.log)
	if err != nil {
		return err
	}
	h.certs = certs
	serving, err := h.serverTLS(certs)
	if err != nil {
		return err
	}
	for _, l := range h.listeners {
		if !l.plaintext {
			l.server.TLSConfig = serving.Clone() // net/http changes it
		}
	}
	return nil
}

// serverTLS is the config of every TLS listener of the hub.
func (h *Hub) serverTLS(certs *certificates) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: certs.get,
		NextProtos:     []string{"h2", "http/1.1"},
	}
	outer := config.Clone()
	t, err := openTickets(h.cfg.Data, config, h.log)
	if err != nil {
		return nil, err
	}
	outer.GetConfigForClient = gateway.InTurn(t.get)
	return outer, nil
}

// handler routes what comes in on one listener.
func (h *Hub) handler(devices http.Handler, operators bool) http.Handler {
	mux := http.NewServeMux()
	if devices != nil {
		mux.Handle(device.Path, devices)
	}
	mux.HandleFunc("GET /healthz", h.serveHealth)
	mux.HandleFunc("GET /readyz", h.serveReady)
	if operators {
		for _, path := range h.api.Paths() {
			mux.Handle(path, h.knowing(h.api))
		}
		mux.Handle("GET /metrics", h.viewersOnly(h.metrics.handler()))
	}
	return mux
}

// knowing tells the listener of requests with an operator's token, so that a
// crowd of strangers does not push them out. next checks the token itself.
func (h *Hub) knowing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if strings.EqualFold(scheme, "Bearer") {
			if _, ok := h.registry.Authenticate(strings.TrimSpace(token)); ok {
				gateway.Known(r.Context())
			}
		}
		next.ServeHTTP(w, r)
	})
}

// serve runs the server of one listener until closeDoors ends it.
func (h *Hub) serve(l *listener) {
	h.background.Go(func() {
		var err error
		if l.plaintext {
			err = l.server.Serve(l.Listener)
		} else {
			err = l.server.ServeTLS(l.Listener, "", "")
		}
		if !errors.Is(err, http.ErrServerClosed) {
			h.fail(fmt.Errorf("serve %s: %w", l.Addr(), err))
		}
	})
}

// closeDoors takes no new connection, ends the calls of operators, and
// settles the sessions of devices.
func (h *Hub) closeDoors(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, doorsTimeout)
	defer cancel()
	var wait sync.WaitGroup
	for _, l := range h.listeners {
		wait.Go(func() {
			_ = l.Close()
			if l.server.Shutdown(ctx) != nil {
				_ = l.server.Close()
			}
		})
	}
	h.api.Close()
	failures := make([]error, 2)
	for i, g := range []*gateway.Gateway{h.gateway, h.proxied} {
		if g != nil {
			wait.Go(func() { failures[i] = g.Shutdown(ctx) })
		}
	}
	wait.Wait()
	err := errors.Join(failures...)
	if errors.Is(err, context.DeadlineExceeded) {
		// Devices on dead links, or a disk that does not answer: they send
		// again what was not acknowledged, and nothing is wrong with the end.
		h.log.Warn("sessions did not end in time", "error", err)
		return nil
	}
	return err
}

// publicURL is what devices dial.
func (h *Hub) publicURL() string {
	if h.cfg.PublicURL != "" {
		u, err := url.Parse(h.cfg.PublicURL)
		if err == nil && (u.Path == "" || u.Path == "/") {
			u.Path = device.Path
			return u.String()
		}
		return h.cfg.PublicURL
	}
	address := h.Addr().(*net.TCPAddr)
	host, _, _ := net.SplitHostPort(h.cfg.Listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		// Bound to every address: the host's name is the best guess.
		if name, err := os.Hostname(); err == nil && name != "" {
			host = name
		} else {
			host = "localhost"
		}
	}
	return "wss://" + net.JoinHostPort(host, fmt.Sprint(address.Port)) + device.Path
}

// endpoint is what devices are given: where to dial and what to trust.
func (h *Hub) endpoint() (hubURL, caPEM string) { return h.publicURL(), string(h.ca) }

// CAFile is the file of the CA that operators trust; "": the system's roots.
func (h *Hub) CAFile() string {
	if h.cfg.TLSCert != "" {
		return h.cfg.TLSCA
	}
	return filepath.Join(h.cfg.Data, "ca.pem")
}

// AdminTokenFile is the file of the first admin token.
func (h *Hub) AdminTokenFile() string { return filepath.Join(h.cfg.Data, adminTokenFile) }
