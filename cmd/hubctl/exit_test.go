package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// Each error has its exit code and says what to do.
func TestErrorsSayWhatToDo(t *testing.T) {
	p := newPeer(t)
	var refusal error
	answer(p, rpc.DeviceServiceGetDeviceProcedure, func(*operatorv1.GetDeviceRequest) (*operatorv1.GetDeviceResponse, error) {
		return nil, refusal
	})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()

	with := func(key, value string) map[string]string {
		env := p.env()
		env[key] = value
		return env
	}
	refuse := func(code connect.Code, text string) error { return connect.NewError(code, errors.New(text)) }
	for name, c := range map[string]struct {
		env     map[string]string
		refusal error
		args    string
		code    int
		want    []string
	}{
		"no token":      {env: with("TETHERLINE_TOKEN", ""), code: exitUnauthorized, want: []string{"no token was given", "admin.token"}},
		"wrong token":   {env: with("TETHERLINE_TOKEN", "wrong"), code: exitUnauthorized, want: []string{"does not accept the token of TETHERLINE_TOKEN"}},
		"role":          {refusal: refuse(connect.CodePermissionDenied, "needs role operator"), code: exitUnauthorized, want: []string{"needs role operator", "whoami"}},
		"not found":     {refusal: notFound("x"), code: exitNotFound, want: []string{`device "x" not found`, "hubctl device ls"}},
		"invalid":       {refusal: refuse(connect.CodeInvalidArgument, "id \x1b[31mred"), code: exitUsage, want: []string{`id \x1b[31mred`}},
		"unavailable":   {refusal: refuse(connect.CodeUnavailable, "draining"), code: exitUnreachable, want: []string{"draining"}},
		"hollow":        {code: exitError, want: []string{"answer is empty"}},
		"unimplemented": {args: "status", code: exitError, want: []string{"is it a Tetherline hub"}},
		"refused":       {env: with("TETHERLINE_HUB", "https://127.0.0.1:1"), code: exitUnreachable, want: []string{"nothing listens at 127.0.0.1:1", "is hubd running"}},
		"no CA":         {env: with("TETHERLINE_CA", ""), code: exitUnreachable, want: []string{"--ca FILE"}},
		"wrong CA":      {env: with("TETHERLINE_CA", strangerCA(t)), code: exitUnreachable, want: []string{"is not signed by the CA of TETHERLINE_CA"}},
		"wrong name":    {env: with("TETHERLINE_HUB", strings.Replace(p.server.URL, "127.0.0.1", "localhost", 1)), code: exitUnreachable, want: []string{"is for other names"}},
		"plain port":    {env: with("TETHERLINE_HUB", strings.Replace(plain.URL, "http:", "https:", 1)), code: exitUnreachable, want: []string{"does not speak TLS"}},
		"TLS port":      {env: with("TETHERLINE_HUB", strings.Replace(p.server.URL, "https:", "http:", 1)), code: exitUnreachable, want: []string{"speaks TLS", "use https://127.0.0.1:"}},
		"silent":        {env: with("TETHERLINE_HUB", "https://"+silent.Addr().String()), args: "--request-timeout 200ms device show x", code: exitUnreachable, want: []string{"no answer", "200ms"}},
		"not a CA":      {env: with("TETHERLINE_CA", write(t, t.TempDir()+"/x.pem", "none")), code: exitUsage, want: []string{"no PEM certificate"}},
		"http abroad":   {args: "--hub http://192.0.2.1 device show x", code: exitUsage, want: []string{"in the clear"}},
		"device url":    {args: "--hub wss://h:1/v1/device device show x", code: exitUsage, want: []string{"https://h:1"}},
		"token file":    {args: "--token @/nonexistent device show x", code: exitUsage, want: []string{"/nonexistent"}},
		"bad token":     {args: "--token two\x01words device show x", code: exitUsage, want: []string{"is not a token"}},
		"bad format":    {args: "-o xml device show x", code: exitUsage, want: []string{"table, json or csv"}},
		"bad command":   {args: "device shwo x", code: exitUsage, want: []string{`did you mean "show"`}},
		"no argument":   {args: "device show", code: exitUsage, want: []string{"hubctl device show --help"}},
		"bad flag":      {args: "device show x --nope", code: exitUsage, want: []string{"--nope"}},
	} {
		refusal = c.refusal
		env, args := c.env, c.args
		if env == nil {
			env = p.env()
		}
		if args == "" {
			args = "device show x"
		}
		got := runWith(t, env, "", strings.Split(args, " ")...)
		if got.code != c.code {
			t.Errorf("%s: code %d, want %d: %s", name, got.code, c.code, got.stderr)
		}
		wantContains(t, got.stderr, c.want...)
		if got.out != "" {
			t.Errorf("%s: stdout has %q", name, got.out)
		}
		if strings.Contains(got.stderr, peerToken) || strings.Contains(got.stderr, "two\x01words") {
			t.Errorf("%s: the token is in %q", name, got.stderr)
		}
	}
}

// strangerCA writes the certificate of an authority that signed nothing.
func strangerCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(t.TempDir(), "stranger.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

func TestStatusOfAHubThatIsNotReady(t *testing.T) {
	p := newPeer(t)
	always(p, rpc.HubServiceGetStatusProcedure, &operatorv1.GetStatusRequest{}, &operatorv1.GetStatusResponse{
		Version: "v1", Checks: []*operatorv1.GetStatusResponse_Check{{Name: "jetstream", Detail: "disk full"}, {Name: "store", Ok: true}},
		Buffer: &operatorv1.GetStatusResponse_Buffer{Bytes: 3 << 20, MaxBytes: 4 << 20},
	})
	got := p.hubctl("status").want(t, exitError)
	wantContains(t, got.out, "NOT READY", "FAILED, disk full", "3.0 MiB of 4.0 MiB (75%)", "0 pending")
	wantContains(t, p.hubctl("status", "-o", "json").want(t, exitError).out, `"ready": false`, `"rows_acknowledged": "0"`)
}

// Right after its start a hub does not know yet which commands are pending.
func TestStatusOfAHubThatStillReads(t *testing.T) {
	p := newPeer(t)
	always(p, rpc.HubServiceGetStatusProcedure, &operatorv1.GetStatusRequest{}, &operatorv1.GetStatusResponse{
		Ready: true, Checks: []*operatorv1.GetStatusResponse_Check{{Name: "commands", Detail: "not read yet"}}})
	wantContains(t, p.hubctl("status").want(t, exitOK).out, "unknown pending", "FAILED, not read yet")
}
