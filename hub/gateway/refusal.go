package gateway

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/gorilla/websocket"

	"github.com/tetherline/tetherline/device"
)

// Refusal is why a request gets no WebSocket.
type Refusal uint8

// The refusals.
const (
	WrongPath Refusal = iota
	WrongMethod
	NoUpgrade
	WrongVersion
	BadOrigin
	NoSubprotocol
	TooManyAttempts
	AddressFull
	HandshakesFull
	SessionsFull
	Stopping
	UpgradeFailed

	NumRefusals = int(UpgradeFailed) + 1
)

// refusals is the one table of plain HTTP answers.
var refusals = [NumRefusals]struct {
	name   string
	status int
	text   string
	retry  int // seconds in Retry-After; 0: none
}{
	WrongPath:       {"wrong_path", http.StatusNotFound, "devices connect to " + device.Path, 0},
	WrongMethod:     {"wrong_method", http.StatusMethodNotAllowed, "use GET with a WebSocket upgrade", 0},
	NoUpgrade:       {"no_upgrade", http.StatusUpgradeRequired, "this is a WebSocket endpoint: send a WebSocket upgrade request over HTTP/1.1", 0},
	WrongVersion:    {"wrong_version", http.StatusUpgradeRequired, "use WebSocket version 13 (RFC 6455)", 0},
	BadOrigin:       {"bad_origin", http.StatusForbidden, "this origin is not allowed; devices send no Origin header", 0},
	NoSubprotocol:   {"no_subprotocol", http.StatusBadRequest, "offer the subprotocol " + device.Protocol + " in Sec-WebSocket-Protocol", 0},
	TooManyAttempts: {"too_many_attempts", http.StatusTooManyRequests, "too many failed attempts from this address", 5},
	AddressFull:     {"address_full", http.StatusTooManyRequests, "too many handshakes under way from this address", 2},
	HandshakesFull:  {"handshakes_full", http.StatusServiceUnavailable, "too many handshakes under way", 2},
	SessionsFull:    {"sessions_full", http.StatusServiceUnavailable, "this hub is full", 30},
	Stopping:        {"stopping", http.StatusServiceUnavailable, "this hub is stopping", 5},
	UpgradeFailed:   {"upgrade_failed", http.StatusBadRequest, "not a valid WebSocket handshake", 0},
}

func (r Refusal) String() string { return refusals[r].name }

// Metrics are the counters of a gateway.
type Metrics struct {
	Refusals   [NumRefusals]atomic.Uint64
	Upgrades   atomic.Uint64
	Handshakes atomic.Int64 // under way now
	Sessions   atomic.Int64 // connections now, those in the handshake included
}

func (g *Gateway) refuse(w http.ResponseWriter, req *http.Request, r Refusal) {
	g.cfg.Metrics.Refusals[r].Add(1)
	answer := &refusals[r]
	h := w.Header()
	switch r {
	case WrongMethod:
		h.Set("Allow", http.MethodGet)
	case NoUpgrade, WrongVersion:
		if req.ProtoMajor == 1 { // HTTP/2 knows no such header
			h.Set("Upgrade", "websocket")
			h.Set("Connection", "Upgrade")
		}
		h.Set("Sec-WebSocket-Version", "13")
	}
	if answer.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(answer.retry))
	}
	http.Error(w, answer.text, answer.status)
}

// check is what is wrong with a request, before anything is reserved for it.
func (g *Gateway) check(r *http.Request) (Refusal, bool) {
	switch {
	case r.URL.Path != device.Path:
		return WrongPath, false
	case r.Method != http.MethodGet:
		return WrongMethod, false
	case r.ProtoMajor != 1 || !websocket.IsWebSocketUpgrade(r):
		return NoUpgrade, false
	case r.Header.Get("Sec-Websocket-Version") != "13":
		return WrongVersion, false
	case !g.allowedOrigin(r):
		return BadOrigin, false
	}
	for _, p := range websocket.Subprotocols(r) {
		if p == device.Protocol {
			return 0, true
		}
	}
	return NoSubprotocol, false
}

// allowedOrigin compares exactly: a page of any other origin would connect
// with its visitor's network position.
func (g *Gateway) allowedOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	_, ok := g.origins[origins[0]]
	return ok && len(origins) == 1
}
