package gateway_test

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// peer is a device on the wire: nothing is done that a test does not ask for.
type peer struct {
	t       testing.TB
	ws      *websocket.Conn
	binding []byte
	nonce   [device.NonceBytes]byte // the hub's
	hello   []byte                  // what was sent
	welcome *devicev1.Welcome
	script  device.Transcript
}

func (h *hub) dialer() *websocket.Dialer {
	return &websocket.Dialer{
		TLSClientConfig: &tls.Config{RootCAs: h.roots}, Subprotocols: []string{device.Protocol},
		HandshakeTimeout: patience,
	}
}

// dial opens the WebSocket and takes the challenge.
func (h *hub) dial() *peer {
	h.t.Helper()
	return h.dialWith(h.dialer(), "wss://"+h.addr+device.Path)
}

func (h *hub) dialWith(d *websocket.Dialer, url string) *peer {
	h.t.Helper()
	ws, resp, err := d.Dial(url, nil)
	if err != nil {
		if resp != nil {
			h.t.Fatalf("dial: %v: %s", err, resp.Status)
		}
		h.t.Fatalf("dial: %v", err)
	}
	h.t.Cleanup(func() { _ = ws.Close() })
	p := &peer{t: h.t, ws: ws}
	if c, ok := ws.NetConn().(*tls.Conn); ok {
		state := c.ConnectionState()
		p.binding, _ = state.ExportKeyingMaterial(device.ExporterLabel, nil, device.BindingBytes)
	}
	challenge := p.next().GetChallenge()
	if challenge == nil || len(challenge.GetHubNonce()) != device.NonceBytes || challenge.GetProtocol() != device.Protocol {
		h.t.Fatalf("challenge = %v", challenge)
	}
	copy(p.nonce[:], challenge.GetHubNonce())
	return p
}

// helloOf is a Hello with a good proof.
func (p *peer) helloOf(c device.Credential, boot byte) *devicev1.Hello {
	h := &devicev1.Hello{
		DeviceId: c.ID, Generation: c.Generation, DeviceNonce: make([]byte, device.NonceBytes),
		BindingType: devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER, BootId: make([]byte, device.BootIDBytes),
		Firmware: "test/1",
	}
	_, _ = rand.Read(h.DeviceNonce)
	h.BootId[0] = boot
	if p.binding == nil {
		h.BindingType = devicev1.BindingType_BINDING_TYPE_NONE
	}
	p.prove(h, c.Secret)
	return h
}

// prove fills in the proof for what h says.
func (p *peer) prove(h *devicev1.Hello, secret device.Secret) {
	t := device.Transcript{DeviceID: h.DeviceId, Generation: h.Generation, HubNonce: p.nonce}
	copy(t.DeviceNonce[:], h.DeviceNonce)
	copy(t.BootID[:], h.BootId)
	if h.BindingType == devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER {
		t.Binding = p.binding
	}
	proof := secret.DeviceProof(&t)
	h.DeviceProof, p.script = proof[:], t
}

func (p *peer) sendHello(h *devicev1.Hello) {
	p.t.Helper()
	p.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Hello{Hello: h}})
}

// connect is the whole handshake; the hub's proof is verified.
func (h *hub) connect(c device.Credential, boot byte) *peer {
	h.t.Helper()
	p := h.dial()
	p.handshake(c, boot)
	return p
}

func (p *peer) handshake(c device.Credential, boot byte) {
	p.t.Helper()
	p.sendHello(p.helloOf(c, boot))
	p.welcome = p.next().GetWelcome()
	if p.welcome == nil {
		p.t.Fatal("no welcome")
	}
	if !c.Secret.VerifyHub(&p.script, p.welcome.GetHubProof()) {
		p.t.Fatal("the hub's proof is wrong")
	}
}

func (p *peer) send(f *devicev1.DeviceFrame) {
	p.t.Helper()
	b, err := proto.Marshal(f)
	if err != nil {
		p.t.Fatal(err)
	}
	p.hello = b
	p.sendRaw(b)
}

func (p *peer) sendRaw(b []byte) {
	p.t.Helper()
	if err := p.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// reading is a Telemetry frame of one row, good unless at is zero.
func reading(seq uint64, at time.Time) *devicev1.DeviceFrame {
	return &devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Telemetry{Telemetry: &devicev1.Telemetry{
		Seq: seq, Series: []*devicev1.Series{{
			BaseTimeUnixNs: at.UnixNano(),
			Columns:        []*devicev1.Column{{Name: "celsius", Doubles: []float64{21.5}}},
		}},
	}}}
}

func (p *peer) sendReading(seq uint64) {
	p.t.Helper()
	p.send(reading(seq, time.Now()))
}

// next frame of the hub.
func (p *peer) next() *devicev1.HubFrame {
	p.t.Helper()
	f, err := p.read()
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return f
}

func (p *peer) read() (*devicev1.HubFrame, error) {
	_ = p.ws.SetReadDeadline(time.Now().Add(patience))
	_, b, err := p.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	f := new(devicev1.HubFrame)
	return f, proto.Unmarshal(b, f)
}

// wantAck reads until the Ack of seq; lower ones may come before it.
func (p *peer) wantAck(seq uint64) {
	p.t.Helper()
	for {
		f := p.next()
		ack := f.GetAck()
		if ack == nil || ack.GetSeq() > seq {
			p.t.Fatalf("got %v, want the Ack of %d", f, seq)
		}
		if ack.GetSeq() == seq {
			return
		}
	}
}

// wantClose reads until the close frame and returns it.
func (p *peer) wantClose(code int) *websocket.CloseError {
	p.t.Helper()
	for {
		_, err := p.read()
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != code {
			p.t.Fatalf("got %v, want close code %d", err, code)
		}
		return closed
	}
}

func (h *hub) get(change func(*http.Request)) *http.Response {
	h.t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://"+h.addr+device.Path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": device.Protocol,
	} {
		r.Header.Set(k, v)
	}
	change(r)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		h.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp
}
