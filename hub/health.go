package hub

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// checkTimeout bounds one round of checks.
const checkTimeout = 3 * time.Second

// check is one part's own word on whether it works.
type check struct {
	name string
	// ready: devices should be sent elsewhere while it fails. The store is
	// none of these: the buffer stands in for it.
	ready bool
	run   func(ctx context.Context) error
}

func (h *Hub) checks() []check {
	checks := []check{
		{"nats", true, h.node.Health},
		{"registry", true, func(context.Context) error { return h.registry.Check() }},
		{"buffer", true, func(context.Context) error { return h.buffer.Health() }},
		{"store", false, h.checkStoreNow},
		{"quarantine", false, h.checkQuarantine},
		{"command store", false, func(context.Context) error { return h.commandStore.Check() }},
	}
	if h.bridge != nil {
		checks = append(checks, check{"mqtt bridge", false, h.checkMQTTBridge})
	}
	return checks
}

func (h *Hub) checkStoreNow(ctx context.Context) error {
	if err := h.pump.Health(); err != nil {
		return err
	}
	return h.store.Check(ctx)
}

func (h *Hub) checkQuarantine(ctx context.Context) error {
	counts, err := h.quarantine.Count(ctx)
	if err != nil {
		return err
	}
	if counts.Rows > 0 {
		return fmt.Errorf("%d rows wait for an operator: see hubctl quarantine ls", counts.Rows)
	}
	return nil
}

// serveHealth answers 200 while the process can answer at all.
func (h *Hub) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// serveReady answers 200 while devices may be sent here, else 503 with the
// names of the checks that fail.
func (h *Hub) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	var failing []string
	for _, c := range h.checks() {
		if c.ready && c.run(ctx) != nil {
			failing = append(failing, c.name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(failing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, "not ready: %s\n", strings.Join(failing, ", "))
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// viewersOnly lets requests with an operator's token through.
func (h *Hub) viewersOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "give a token of any role that is not bound to a selector: Authorization: Bearer <token>", http.StatusUnauthorized)
			return
		}
		operator, ok := h.registry.Authenticate(token)
		if !ok || !operator.Unbound() {
			http.Error(w, "this token may not read the metrics", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// status is the hub's part of HubService.GetStatus.
func (h *Hub) status(ctx context.Context) (*operatorv1.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	answer := &operatorv1.GetStatusResponse{
		Version: h.version, Node: h.node.Name(), Started: timestamppb.New(h.started), Now: timestamppb.Now(), Ready: true,
		Connections: uint64(max(h.live.Online(), 0)), ConnectionsPeak: uint64(max(h.live.Peak(), 0)),
		RowsAcknowledged: h.buffer.Stats.Rows.Load(), RowsStored: h.pump.Stats.Rows.Load(),
		RowsRejected: h.metrics.rejects(), Store: h.store.Name(), RowsPerSecond: h.metrics.rate.perSecond(),
	}
	for _, c := range h.checks() {
		one := &operatorv1.GetStatusResponse_Check{Name: c.name, Ok: true}
		if err := c.run(ctx); err != nil {
			one.Ok, one.Detail = false, err.Error()
			answer.Ready = answer.Ready && !c.ready
		}
		answer.Checks = append(answer.Checks, one)
	}
	pressure := h.buffer.Pressure()
	answer.Buffer = &operatorv1.GetStatusResponse_Buffer{
		Bytes: uint64(max(pressure.Bytes, 0)), MaxBytes: uint64(max(pressure.MaxBytes, 0)),
		Chunks: uint64(max(pressure.Chunks, 0)), Oldest: durationpb.New(pressure.Oldest),
	}
	if counts, err := h.quarantine.Count(ctx); err == nil {
		answer.RowsQuarantined = counts.Rows
	}
	return answer, nil
}
