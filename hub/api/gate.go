package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
)

// Refusals of the gate.
var (
	errNoToken      = errors.New(`a token is needed: "authorization: Bearer <operator token>"`)
	errWrongToken   = errors.New("wrong operator token")
	errTooManyWrong = errors.New("too many wrong tokens from this address; wait and try again")
	errTooManyCalls = fmt.Errorf("this operator has %d calls and streams under way already, the most that it may have: "+
		"end streams that nobody looks at, or give each program an operator, and so a token, of its own", maxCalls)
	errTooManyWaiting = fmt.Errorf("%d calls of this operator wait for the ends of their commands already, the most that may; this command was not accepted: "+
		"send it without wait and follow many commands by one WatchCommands, or give each program an operator, and so a token, of its own", maxWaiting)
	errRevoked      = errors.New("the operator's token has been revoked")
	errShuttingDown = errors.New("the hub is shutting down; try again")
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.admitOrigin(w, r) {
		return
	}
	addr := s.deps.ClientAddr(r)
	one, err := s.authenticate(w, r, addr)
	if err != nil {
		s.turnAway(w, r, err)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	one.under, one.cancel = ctx, cancel
	if err := s.calls.begin(one); err != nil {
		cancel(err)
		s.turnAway(w, r, err)
		return
	}
	defer s.calls.done(one)
	// The token may have been revoked after it was looked up and before the
	// call stood in the table.
	if now, ok := s.deps.Registry.Operator(one.operator.Name); !ok || now.Revision != one.operator.Revision {
		s.turnAway(w, r, errRevoked)
		return
	}
	_ = one.conn.SetReadDeadline(time.Now().Add(readTimeout))
	body := bounded(r)
	r = r.WithContext(context.WithValue(ctx, callKey{}, one))
	r.Body = body
	s.mux.ServeHTTP(w, r)
	s.auditUnheard(r, one, body)
}

// authenticate finds out who calls.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, addr netip.Addr) (*call, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, errNoToken
	}
	scheme, token, _ := strings.Cut(header, " ")
	if strings.EqualFold(scheme, "Bearer") {
		if operator, ok := s.deps.Registry.Authenticate(strings.TrimSpace(token)); ok {
			return &call{operator: operator, addr: addr.String(), under: r.Context(), patience: s.patience, conn: http.NewResponseController(w)}, nil
		}
	}
	ok, wait := s.attempts.spend(addr)
	if !ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		return nil, errTooManyWrong
	}
	s.log.Warn("wrong operator token", "remote_addr", addr.String(), "path", clip(r.URL.Path, 128))
	return nil, errWrongToken
}

// turnAway answers without having read the body, in the caller's protocol.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	// What is left of the body is not worth reading.
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	refusal := connect.NewError(codeOf(err), err)
	if s.refuse.IsSupported(r) {
		_ = s.refuse.Write(w, r, refusal)
		return
	}
	status := http.StatusUnauthorized
	switch refusal.Code() {
	case connect.CodeResourceExhausted:
		status = http.StatusTooManyRequests
	case connect.CodeUnavailable:
		status = http.StatusServiceUnavailable
	}
	http.Error(w, err.Error(), status)
}

// admitOrigin refuses pages of other sites (403) and answers the preflight of
// those that are allowed. Programs send no Origin.
func (s *Server) admitOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || isOwnOrigin(origin, r) {
		return true
	}
	if !s.origins[origin] {
		s.log.Warn("refused a page of another origin", "origin", clip(origin, 128), "remote_addr", s.deps.ClientAddr(r).String())
		http.Error(w, "this origin may not use the hub; the operator can allow it by the key allowed-origins", http.StatusForbidden)
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Retry-After")
	if r.Method != http.MethodOptions {
		return true
	}
	h.Set("Access-Control-Allow-Methods", http.MethodPost)
	h.Set("Access-Control-Allow-Headers",
		"Authorization, Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, Grpc-Timeout, X-Grpc-Web, X-User-Agent")
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return false
}

// isOwnOrigin reports whether a page is the hub's own, as the browser dialled
// it. Without TLS the hub stands behind a proxy that has it.
func isOwnOrigin(origin string, r *http.Request) bool {
	return origin == "https://"+r.Host || r.TLS == nil && origin == "http://"+r.Host
}

// peerAddr is the address of the TCP peer.
func peerAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// clip bounds what goes into a log.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
