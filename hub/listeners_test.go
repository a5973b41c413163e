package hub_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// With operator-listen devices have no way to the API, nor operators one to
// the devices' door; health is told at both.
func TestOperatorsHaveADoorOfTheirOwn(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.OperatorListen = "127.0.0.1:0"
	h := hubtest.Start(t, cfg)
	if h.Hub.Addr().String() == h.Hub.AddrOperators().String() {
		t.Fatal("both have one address")
	}
	if text, err := os.ReadFile(filepath.Join(cfg.Data, "operator.url")); err != nil || string(text) != h.URL+"\n" {
		t.Errorf("operator.url: %q, %v; want %s", text, err, h.URL)
	}
	devices := h.Endpoint
	devices.Addr, devices.URL = h.Hub.Addr().String(), "https://"+h.Hub.Addr().String()
	c, _ := hubtest.Run(t, devices.Client(h.CreateDevice(t, "dev-1")))
	hubtest.Eventually(t, "the device is online", func() bool { return c.State() == client.Online })
	for _, tt := range []struct {
		door *hubtest.Endpoint
		path string
		want int
	}{
		{&devices, "/metrics", 404},
		{&devices, "/tetherline.operator.v1.HubService/GetStatus", 404},
		{&devices, "/healthz", 200},
		{&devices, "/readyz", 200},
		{&h.Endpoint, device.Path, 404},
		{&h.Endpoint, "/metrics", 200},
		{&h.Endpoint, "/healthz", 200},
		{&h.Endpoint, "/readyz", 200},
	} {
		if got, body := get(t, *tt.door, tt.path, h.Token); got != tt.want {
			t.Errorf("%s%s answers %d %.80q; want %d", tt.door.Addr, tt.path, got, body, tt.want)
		}
	}
}

// The figures are for operators who may see all devices.
func TestMetricsNeedAToken(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	operator := func(name, selector string) string {
		answer, err := h.Operators.CreateOperator(t.Context(), connect.NewRequest(&operatorv1.CreateOperatorRequest{
			Name: name, Role: operatorv1.Role_ROLE_VIEWER, Selector: selector,
		}))
		if err != nil {
			t.Fatal(err)
		}
		return answer.Msg.Token
	}
	for token, want := range map[string]int{
		"": 401, "wrong": 403, h.Token: 200, operator("viewer", ""): 200, operator("bound", "site=a"): 403,
	} {
		if got, body := get(t, h.Endpoint, "/metrics", token); got != want || want != 200 && strings.Contains(body, "tetherline_") {
			t.Errorf("/metrics answers %d; want %d", got, want)
		}
	}
}

// Behind a proxy on this machine, and nowhere else, a device proves itself
// without channel binding, and its address is what the proxy says.
func TestProxyListener(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.ProxyListen, cfg.TrustedProxies = hubtest.FreeAddr(t), []string{"127.0.0.1/32"}
	h := hubtest.Start(t, cfg)
	credential := h.CreateDevice(t, "dev-1")
	behind := h.Client(credential)
	behind.URL, behind.BindingNone, behind.RootCAs = "ws://"+cfg.ProxyListen, true, nil
	c, stop := hubtest.Run(t, behind)
	if err := c.Publish(t.Context(), client.Reading(client.Int("n", 1))); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	direct := h.Client(credential)
	direct.BindingNone = true
	refused, err := client.New(direct)
	if err != nil {
		t.Fatal(err)
	}
	if err := refused.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "4500") {
		t.Errorf("without binding, past the proxy: %v", err)
	}

	// Who did it, in the audit log: the proxy's word counts on its own
	// listener alone.
	proxied := "http://" + cfg.ProxyListen
	wantAudited(t, h.Endpoint, proxied, http.DefaultClient, "203.0.113.7, 198.51.100.9", "198.51.100.9")
	transport := &http.Transport{TLSClientConfig: tlsFor(h.Endpoint)}
	defer transport.CloseIdleConnections()
	wantAudited(t, h.Endpoint, h.URL, &http.Client{Transport: transport}, "203.0.113.7", "127.0.0.1")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, proxied+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.Token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if answer.StatusCode != 200 || !strings.Contains(string(text), "tetherline_connections ") {
		t.Errorf("/metrics through the proxy: %s", answer.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}

// wantAudited makes a change with a forwarded address and looks it up.
func wantAudited(t testing.TB, h hubtest.Endpoint, url string, c *http.Client, forwarded, want string) {
	t.Helper()
	label := connect.NewRequest(&operatorv1.LabelDeviceRequest{Id: "dev-1", Set: map[string]string{"k": "v"}})
	label.Header().Set("Authorization", "Bearer "+h.Token)
	label.Header().Set("X-Forwarded-For", forwarded)
	if _, err := operatorv1connect.NewDeviceServiceClient(c, url).LabelDevice(t.Context(), label); err != nil {
		t.Fatal(err)
	}
	log, err := h.Operators.ListAudit(t.Context(), connect.NewRequest(&operatorv1.ListAuditRequest{PageSize: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if r := log.Msg.Records; len(r) != 1 || r[0].Method != "DeviceService/LabelDevice" || r[0].RemoteAddr != want {
		t.Errorf("audit record %v; want the address %s", r, want)
	}
}

// No version below TLS 1.2, on any door.
func TestOldTLSIsRefused(t *testing.T) {
	h := hubtest.Start(t, hubtest.Config(t))
	old := &tls.Config{RootCAs: h.Roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if c, err := tls.Dial("tcp", h.Addr, old); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 is accepted")
	}
}
