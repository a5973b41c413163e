package gateway_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func TestHandshakeThenReadingIsAcknowledged(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	p := h.connect(c, 1)
	if p.welcome.GetSessionEpoch() == 0 || p.welcome.GetWindowFrames() == 0 || p.welcome.GetMaxFrameBytes() != 64<<10 {
		t.Fatalf("welcome = %v", p.welcome)
	}
	p.sendReading(1)
	p.wantAck(1)
	if got := h.table.Presence("dev-1"); !got.Online || got.Firmware != "test/1" || got.Epoch != p.welcome.GetSessionEpoch() {
		t.Errorf("presence = %+v", got)
	}
	if n := h.metrics.Rows.Load(); n != 1 {
		t.Errorf("%d rows appended", n)
	}
	// The same boot comes back: the hub remembers. Another one does not.
	if q := h.connect(c, 1); q.welcome.GetLastSeq() != 1 {
		t.Errorf("last seq = %d, want 1", q.welcome.GetLastSeq())
	}
	if q := h.connect(c, 2); q.welcome.GetLastSeq() != 0 {
		t.Errorf("last seq of a new boot = %d, want 0", q.welcome.GetLastSeq())
	}
}

// Every reason to refuse a credential gives the same bytes.
func TestRefusedCredentialsAreAlike(t *testing.T) {
	h := startHub(t, options{})
	good := h.create("known")
	rotated := h.create("rotated")
	h.update("rotated", func(d *registry.Device) {
		if err := d.Rotate(h.keys.ActiveID(), 0, time.Now()); err != nil {
			t.Fatal(err)
		}
	})
	h.create("mute")
	h.update("mute", func(d *registry.Device) { d.Disabled = true })
	if _, err := h.reg.Create(testContext(t), registry.NewDevice{ID: "legacy", Kind: registry.KindMQTT, KeyID: h.keys.ActiveID(),
		Gear: &registry.Gear{Broker: "barn", Profile: "tasmota", Name: "plug-1"}}); err != nil {
		t.Fatal(err)
	}
	legacy, _ := h.reg.Get("legacy")

	var wrong device.Secret
	for name, change := range map[string]func(p *peer) *devicev1.Hello{
		"unknown device": func(p *peer) *devicev1.Hello {
			return p.helloOf(device.Credential{ID: "nobody", Generation: 1, Secret: wrong}, 1)
		},
		"wrong secret": func(p *peer) *devicev1.Hello {
			return p.helloOf(device.Credential{ID: "known", Generation: 1, Secret: wrong}, 1)
		},
		"dead generation": func(p *peer) *devicev1.Hello { return p.helloOf(rotated, 1) },
		"future generation": func(p *peer) *devicev1.Hello {
			return p.helloOf(device.Credential{ID: "known", Generation: 7, Secret: good.Secret}, 1)
		},
		"disabled, wrong proof": func(p *peer) *devicev1.Hello {
			return p.helloOf(device.Credential{ID: "mute", Generation: 1, Secret: wrong}, 1)
		},
		"legacy gear": func(p *peer) *devicev1.Hello { return p.helloOf(h.credential(legacy), 1) },
		"unbound": func(p *peer) *devicev1.Hello {
			p.binding = nil
			return p.helloOf(good, 1)
		},
		"proof of another id": func(p *peer) *devicev1.Hello {
			hello := p.helloOf(good, 1)
			hello.DeviceId = "rotated"
			return hello
		},
	} {
		p := h.dial()
		hello := change(p)
		p.sendHello(hello)
		if closed := p.wantClose(4500); closed.Text != "unauthorized" {
			t.Errorf("%s: reason %q", name, closed.Text)
		}
	}
	if n := h.metrics.Handshakes[session.Unauthorized].Load(); n != 8 {
		t.Errorf("%d unauthorized, want 8", n)
	}
}

func TestDisabledIsToldToTheDeviceAlone(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	h.update("dev-1", func(d *registry.Device) { d.Disabled = true })
	p := h.dial()
	p.sendHello(p.helloOf(c, 1))
	p.wantClose(4501)
}

func TestUnboundOnlyWhereAllowed(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	h.update("dev-1", func(d *registry.Device) { d.AllowUnbound = true })
	p := h.dial()
	p.binding = nil
	p.handshake(c, 1)
	// The same proof, right for a Hello without a binding, of a device that
	// has to bind.
	strict := h.create("dev-2")
	p = h.dial()
	p.binding = nil
	p.sendHello(p.helloOf(strict, 1))
	if closed := p.wantClose(4500); closed.Text != "unauthorized" {
		t.Errorf("without a binding: reason %q", closed.Text)
	}
}

func TestTLS12WithExtendedMasterSecretBinds(t *testing.T) {
	h := startHub(t, options{tls: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }})
	p := h.connect(h.create("dev-1"), 1)
	if p.binding == nil {
		t.Fatal("no binding")
	}
}

// A Hello that was good on one connection is worthless on another: where it
// covers the TLS channel, and where the hub's nonce alone tells the two apart.
func TestReplayedHelloIsRefused(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	h.update("dev-1", func(d *registry.Device) { d.AllowUnbound = true })
	for _, bound := range []bool{true, false} {
		first := h.dial()
		if !bound {
			first.binding = nil
		}
		first.handshake(c, 1)
		second := h.dial()
		second.sendRaw(first.hello)
		f, err := second.read()
		if closed := new(websocket.CloseError); !errors.As(err, &closed) || closed.Code != 4500 || closed.Text != "unauthorized" {
			t.Fatalf("bound %v: the hub answers a recorded Hello with %v, %v; want close code 4500", bound, f, err)
		}
	}
}

// A middleman that terminates TLS with a certificate the device trusts fails
// the device's proof, and the hub's.
func TestMiddlemanFailsBothProofs(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	target, err := url.Parse("https://" + h.addr)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}}
	defer transport.CloseIdleConnections()
	proxy.Transport = transport
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: proxy}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(tls.NewListener(inner, &tls.Config{Certificates: []tls.Certificate{h.cert}}))
	}()
	defer func() { _ = server.Close(); <-served }()

	p := h.dialWith(h.dialer(), "wss://"+inner.Addr().String()+device.Path)
	p.sendHello(p.helloOf(c, 1))
	p.wantClose(4500)

	// Even if the hub lets it in unbound, the device's own check fails.
	h.update("dev-1", func(d *registry.Device) { d.AllowUnbound = true })
	p = h.dialWith(h.dialer(), "wss://"+inner.Addr().String()+device.Path)
	hello := p.helloOf(c, 1)
	bound := p.script
	hello.BindingType = devicev1.BindingType_BINDING_TYPE_NONE // as the middleman would have it
	p.prove(hello, c.Secret)
	p.sendHello(hello)
	w := p.next().GetWelcome()
	if w == nil {
		t.Fatal("no welcome")
	}
	bound.DeviceNonce = p.script.DeviceNonce
	if c.Secret.VerifyHub(&bound, w.GetHubProof()) {
		t.Error("the hub's proof holds through a middleman")
	}
}

func TestBadFirstFrames(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	bad := func(change func(*devicev1.Hello)) func(*peer) []byte {
		return func(p *peer) []byte {
			hello := p.helloOf(c, 1)
			change(hello)
			b, err := proto.Marshal(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Hello{Hello: hello}})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	fixed := func(b []byte) func(*peer) []byte { return func(*peer) []byte { return b } }
	telemetry, err := proto.Marshal(reading(1, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		frame func(*peer) []byte
		code  int
	}{
		"garbage":               {fixed([]byte{0xff, 0xff, 0xff, 0x01}), 4003},
		"telemetry":             {fixed(telemetry), 4003},
		"empty":                 {fixed(nil), 4502},
		"unknown member":        {fixed([]byte{0x7a, 0x00}), 4502},
		"over 4 KiB":            {fixed(bytes.Repeat([]byte{0}, 5<<10)), 1009},
		"short nonce":           {bad(func(h *devicev1.Hello) { h.DeviceNonce = h.DeviceNonce[1:] }), 4003},
		"short proof":           {bad(func(h *devicev1.Hello) { h.DeviceProof = h.DeviceProof[1:] }), 4003},
		"no boot id":            {bad(func(h *devicev1.Hello) { h.BootId = nil }), 4003},
		"no generation":         {bad(func(h *devicev1.Hello) { h.Generation = 0 }), 4003},
		"bad id":                {bad(func(h *devicev1.Hello) { h.DeviceId = "../etc" }), 4003},
		"no binding type":       {bad(func(h *devicev1.Hello) { h.BindingType = 0 }), 4003},
		"hello in a newer form": {bad(func(h *devicev1.Hello) { h.BindingType = 77 }), 4003},
	} {
		p := h.dial()
		p.sendRaw(tt.frame(p))
		t.Log(name)
		p.wantClose(tt.code)
	}
	if h.gw.Connections() != 0 {
		eventually(t, "all are gone", func() bool { return h.gw.Connections() == 0 })
	}
}

func TestPlainAnswers(t *testing.T) {
	h := startHub(t, options{})
	set := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	for name, tt := range map[string]struct {
		change func(*http.Request)
		status int
		header string
	}{
		"wrong path":     {func(r *http.Request) { r.URL.Path = "/v1/other" }, 404, ""},
		"post":           {func(r *http.Request) { r.Method = http.MethodPost }, 405, "Allow"},
		"no upgrade":     {func(r *http.Request) { r.Header.Del("Upgrade"); r.Header.Del("Connection") }, 426, "Upgrade"},
		"version 8":      {set("Sec-WebSocket-Version", "8"), 426, "Sec-Websocket-Version"},
		"origin":         {set("Origin", "https://evil.example"), 403, ""},
		"null origin":    {set("Origin", "null"), 403, ""},
		"no subprotocol": {func(r *http.Request) { r.Header.Del("Sec-WebSocket-Protocol") }, 400, ""},
		"other protocol": {set("Sec-WebSocket-Protocol", "tetherline.v9, mqtt"), 400, ""},
		"bad key":        {set("Sec-WebSocket-Key", "short"), 400, ""},
	} {
		resp := h.get(tt.change)
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %s, want %d", name, resp.Status, tt.status)
		}
		if tt.header != "" && resp.Header.Get(tt.header) == "" {
			t.Errorf("%s: no header %s", name, tt.header)
		}
	}
	if n := h.gwm.Sessions.Load(); n != 0 {
		t.Errorf("%d places are taken by refused requests", n)
	}
}

func TestCompressionIsNotNegotiated(t *testing.T) {
	h := startHub(t, options{})
	d := h.dialer()
	d.EnableCompression = true
	ws, resp, err := d.Dial("wss://"+h.addr+device.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.Close() }()
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != "" {
		t.Errorf("extensions = %q", got)
	}
	if ws.Subprotocol() != device.Protocol {
		t.Errorf("subprotocol = %q", ws.Subprotocol())
	}
}

func TestRenewedCredentialIsHandedOver(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	p := h.connect(c, 1)
	d, err := h.reg.Rotate(testContext(t), "dev-1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	next := h.credential(d)
	if !h.table.Renew("dev-1", next.Generation, next.Secret) {
		t.Fatal("not handed over")
	}
	renew := p.next().GetRenew()
	secret, err := c.Secret.OpenRenewal(&p.script, renew.GetGeneration(), renew.GetNonce(), renew.GetSealedSecret())
	if err != nil || secret != next.Secret || renew.GetGeneration() != next.Generation {
		t.Fatalf("renewal: %v", err)
	}
	h.connect(next, 1)
	p.wantClose(4001)
	eventually(t, "the old credential dies", func() bool {
		d, _ := h.reg.Get("dev-1")
		return d.Retiring == nil
	})
	q := h.dial()
	q.sendHello(q.helloOf(c, 1))
	q.wantClose(4500)
}
