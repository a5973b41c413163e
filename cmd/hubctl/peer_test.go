package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const peerToken = "operator-token-of-the-peer"

// peer is the other end of the operator API: a real server with TLS and
// HTTP/2 on loopback that answers by a script.
type peer struct {
	t      *testing.T
	mux    *http.ServeMux
	server *httptest.Server
	ca     string // file

	mu    sync.Mutex
	calls []string // procedures
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{t: t, mux: http.NewServeMux()}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.server.EnableHTTP2 = true
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	p.ca = filepath.Join(t.TempDir(), "ca.pem")
	write(t, p.ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})))
	return p
}

func (p *peer) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls = append(p.calls, r.URL.Path)
	p.mu.Unlock()
	if r.ProtoMajor != 2 {
		p.t.Errorf("%s came over %s, want HTTP/2", r.URL.Path, r.Proto)
	}
	if r.Header.Get("Authorization") != "Bearer "+peerToken {
		_ = connect.NewErrorWriter().Write(w, r, connect.NewError(connect.CodeUnauthenticated, nil))
		return
	}
	p.mux.ServeHTTP(w, r)
}

func (p *peer) called() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// answer scripts a unary method.
func answer[Req, Res any](p *peer, procedure string, f func(*Req) (*Res, error)) {
	p.mux.Handle(procedure, connect.NewUnaryHandler(procedure, func(_ context.Context, req *connect.Request[Req]) (*connect.Response[Res], error) {
		res, err := f(req.Msg)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(res), nil
	}))
}

// always scripts a unary method that gives the same answer each time.
func always[Req, Res any](p *peer, procedure string, _ *Req, res *Res) {
	answer(p, procedure, func(*Req) (*Res, error) { return res, nil })
}

// streams scripts a method that answers with a stream.
func streams[Req, Res any](p *peer, procedure string, f func(context.Context, *Req, func(*Res)) error) {
	p.mux.Handle(procedure, connect.NewServerStreamHandler(procedure, func(ctx context.Context, req *connect.Request[Req], stream *connect.ServerStream[Res]) error {
		return f(ctx, req.Msg, func(res *Res) { _ = stream.Send(res) })
	}))
}

// result is what a run of hubctl gave.
type result struct {
	code        int
	out, stderr string
}

// hubctl runs the program against the peer.
func (p *peer) hubctl(args ...string) result {
	p.t.Helper()
	return runWith(p.t, p.env(), "", args...)
}

func (p *peer) env() map[string]string {
	return map[string]string{
		"TETHERLINE_HUB": p.server.URL, "TETHERLINE_TOKEN": peerToken, "TETHERLINE_CA": p.ca,
		"XDG_CONFIG_HOME": p.t.TempDir(), "TZ": "UTC",
	}
}

func runWith(t *testing.T, env map[string]string, stdin string, args ...string) result {
	t.Helper()
	return runContext(t, t.Context(), env, stdin, args...)
}

func runContext(t *testing.T, ctx context.Context, env map[string]string, stdin string, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	code := run(ctx, args, strings.NewReader(stdin), &out, &stderr, func(key string) string { return env[key] })
	return result{code: code, out: out.String(), stderr: stderr.String()}
}

// want checks the code and hands the result on.
func (r result) want(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.out, r.stderr)
	}
	return r
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func wantContains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
