// Package gateway lets devices in: it checks their HTTP requests, bounds what
// strangers may take before they have proved themselves, upgrades the
// connection to a WebSocket, and runs a session on it.
//
// The HTTP handler returns as soon as the connection is upgraded; the session
// reads on a goroutine of its own. net/http then frees its goroutine with the
// stack of the TLS handshake, the request and 8 KiB of buffers. Shutdown joins
// every session.
package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/session"
)

// Gateway is the http.Handler of device.Path. All methods may run at once.
type Gateway struct {
	cfg       Config
	origins   map[string]struct{}
	admission *admission
	upgrader  websocket.Upgrader

	mu       sync.Mutex
	sessions map[*session.Session]struct{}
	pending  int // upgrades under way
	stopping bool
	empty    chan struct{} // closed when stopping and nothing is left
}

// New makes a gateway; Shutdown ends it.
func New(cfg Config) (*Gateway, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, admission: newAdmission(&cfg), origins: make(map[string]struct{}),
		sessions: make(map[*session.Session]struct{}), empty: make(chan struct{}),
		upgrader: websocket.Upgrader{
			HandshakeTimeout: session.WriteTimeout,
			ReadBufferSize:   readBufferBytes,
			WriteBufferSize:  writeBufferBytes,
			WriteBufferPool:  new(sync.Pool),
			Subprotocols:     []string{device.Protocol},
			CheckOrigin:      func(*http.Request) bool { return true }, // check did
			// Compressed, a frame's size could not be bounded before it is
			// unpacked (SetReadLimit counts packed bytes), and the attack on
			// secrets beside chosen text (BREACH) would be open.
			EnableCompression: false,
		},
	}
	g.upgrader.Error = func(w http.ResponseWriter, r *http.Request, _ int, _ error) { g.refuse(w, r, UpgradeFailed) }
	for _, o := range cfg.AllowedOrigins {
		g.origins[o] = struct{}{}
	}
	return g, nil
}

// ServeHTTP upgrades the connection of a device and returns; the session goes
// on. Other requests get a plain HTTP answer.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if refusal, ok := g.check(r); !ok {
		g.refuse(w, r, refusal)
		return
	}
	addr, remote := g.clientAddr(r)
	addr = limitKey(addr)
	if refusal, ok := g.reserve(addr); !ok {
		g.refuse(w, r, refusal)
		return
	}
	ws, err := g.upgrader.Upgrade(w, r, nil)
	if err != nil {
		g.handshakeDone(addr, false)
		g.left(nil)
		return
	}
	g.cfg.Metrics.Upgrades.Add(1)
	c := newConn(g, ws, addr, remote)
	s := session.New(c, g.cfg.Deps)
	if !g.joined(s) {
		s.Stop(session.CloseShutdown, "")
	}
	go g.run(c, s)
}

// run is the goroutine of one session.
func (g *Gateway) run(c *conn, s *session.Session) {
	defer g.left(s)
	s.Run(context.Background())
	if !c.proved {
		g.handshakeDone(c.addr, false)
	}
}

// reserve a place for one more connection. When ok, handshakeDone and left
// must follow.
func (g *Gateway) reserve(addr netip.Addr) (Refusal, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		return Stopping, false
	}
	if len(g.sessions)+g.pending >= g.cfg.MaxSessions {
		return SessionsFull, false
	}
	if refusal, ok := g.admission.enter(addr, time.Now()); !ok {
		return refusal, false
	}
	g.cfg.Metrics.Handshakes.Add(1)
	g.cfg.Metrics.Sessions.Add(1)
	g.pending++
	return 0, true
}

// handshakeDone frees the place of a stranger, once for each.
func (g *Gateway) handshakeDone(addr netip.Addr, proved bool) {
	g.cfg.Metrics.Handshakes.Add(-1)
	g.admission.leave(addr, proved)
}

// joined turns a reserved place into a session's. It is false when the
// gateway is stopping.
func (g *Gateway) joined(s *session.Session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending--
	g.sessions[s] = struct{}{}
	return !g.stopping
}

// left frees the place of a session; nil: of an upgrade that failed.
func (g *Gateway) left(s *session.Session) {
	g.cfg.Metrics.Sessions.Add(-1)
	g.mu.Lock()
	defer g.mu.Unlock()
	if s == nil {
		g.pending--
	} else {
		delete(g.sessions, s)
	}
	if g.stopping && g.pending == 0 && len(g.sessions) == 0 {
		close(g.empty)
	}
}

// Connections is how many there are now, those in the handshake included.
func (g *Gateway) Connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions) + g.pending
}

// Shutdown takes no more devices (503) and stops every session: what was
// appended is acknowledged first. It returns when all are gone. When ctx ends
// before that, the rest is cut off, waited for, and reported. It is called
// once.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	g.stopping = true
	all := g.snapshot()
	if g.pending == 0 && len(all) == 0 {
		close(g.empty)
	}
	g.mu.Unlock()
	for _, s := range all {
		s.Stop(session.CloseShutdown, "")
	}
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	rest := g.snapshot()
	g.mu.Unlock()
	for _, s := range rest {
		s.Kill()
	}
	<-g.empty
	return fmt.Errorf("gateway: %d sessions had to be cut off: %w", len(rest), ctx.Err())
}

// snapshot of the sessions. mu is held.
func (g *Gateway) snapshot() []*session.Session {
	all := make([]*session.Session, 0, len(g.sessions))
	for s := range g.sessions {
		all = append(all, s)
	}
	return all
}
