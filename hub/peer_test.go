package hub_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/hubtest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// peer is somebody on the wire who need not keep to any rule: it does what a
// test asks for and nothing else.
type peer struct {
	t       testing.TB
	ws      *websocket.Conn
	binding []byte
	nonce   [device.NonceBytes]byte // the hub's
	hello   []byte                  // the frame that was sent
	welcome *devicev1.Welcome
}

// dialPeer opens the WebSocket and takes the challenge. Its receive buffer is
// small, so that it is full soon where a test does not read.
func dialPeer(t testing.TB, h hubtest.Endpoint) *peer {
	t.Helper()
	d := &websocket.Dialer{
		TLSClientConfig: tlsFor(h), Subprotocols: []string{device.Protocol},
		HandshakeTimeout: hubtest.Patience, NetDialContext: dialSmall,
	}
	ws, _, err := d.DialContext(t.Context(), "wss://"+h.Addr+device.Path, nil)
	if err != nil {
		t.Fatalf("dial the hub: %v", err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	p := &peer{t: t, ws: ws}
	if secure, ok := ws.NetConn().(*tls.Conn); ok {
		state := secure.ConnectionState()
		if p.binding, err = state.ExportKeyingMaterial(device.ExporterLabel, nil, device.BindingBytes); err != nil {
			t.Fatalf("channel binding: %v", err)
		}
	}
	challenge := p.next().GetChallenge()
	if len(challenge.GetHubNonce()) != device.NonceBytes {
		t.Fatalf("got %v; want a challenge", challenge)
	}
	copy(p.nonce[:], challenge.GetHubNonce())
	return p
}

func tlsFor(h hubtest.Endpoint) *tls.Config {
	return &tls.Config{RootCAs: h.Roots, MinVersion: tls.VersionTLS12}
}

// dialSmall connects with a receive buffer of a few KiB. It is set before
// the handshake: a window must not shrink.
func dialSmall(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if failed := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		}); failed != nil {
			return failed
		}
		return err
	}}
	return d.DialContext(ctx, network, addr)
}

// connectPeer is dialPeer and a handshake that must succeed.
func connectPeer(t testing.TB, h hubtest.Endpoint, c device.Credential) *peer {
	t.Helper()
	p := dialPeer(t, h)
	p.sendHello(c, nil)
	if p.welcome = p.next().GetWelcome(); p.welcome == nil {
		t.Fatal("no welcome")
	}
	return p
}

// sendHello sends a Hello with a good proof; change, which may be nil, spoils
// it afterwards.
func (p *peer) sendHello(c device.Credential, change func(*devicev1.Hello)) {
	p.t.Helper()
	hello := &devicev1.Hello{
		DeviceId: c.ID, Generation: c.Generation, DeviceNonce: make([]byte, device.NonceBytes),
		BindingType: devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER, BootId: make([]byte, device.BootIDBytes),
		HeartbeatWishS: 5,
	}
	_, _ = rand.Read(hello.DeviceNonce)
	_, _ = rand.Read(hello.BootId)
	if p.binding == nil {
		hello.BindingType = devicev1.BindingType_BINDING_TYPE_NONE
	}
	script := device.Transcript{DeviceID: c.ID, Generation: c.Generation, HubNonce: p.nonce, Binding: p.binding}
	copy(script.DeviceNonce[:], hello.DeviceNonce)
	copy(script.BootID[:], hello.BootId)
	proof := c.Secret.DeviceProof(&script)
	hello.DeviceProof = proof[:]
	if change != nil {
		change(hello)
	}
	p.hello = p.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Hello{Hello: hello}})
}

// send sends a frame and returns its bytes.
func (p *peer) send(f *devicev1.DeviceFrame) []byte {
	p.t.Helper()
	b, err := p.trySend(f)
	if err != nil {
		p.t.Fatalf("send: %v", err)
	}
	return b
}

func (p *peer) trySend(f *devicev1.DeviceFrame) ([]byte, error) {
	b, err := proto.Marshal(f)
	if err != nil {
		return nil, err
	}
	return b, p.ws.WriteMessage(websocket.BinaryMessage, b)
}

// sendSeries sends one Telemetry frame.
func (p *peer) sendSeries(seq uint64, series ...*devicev1.Series) {
	p.t.Helper()
	if err := p.trySeries(seq, series...); err != nil {
		p.t.Fatalf("send seq %d: %v", seq, err)
	}
}

func (p *peer) trySeries(seq uint64, series ...*devicev1.Series) error {
	_, err := p.trySend(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Telemetry{Telemetry: &devicev1.Telemetry{Seq: seq, Series: series}}})
	return err
}

// oneReading is a series of one good row.
func oneReading(at time.Time) *devicev1.Series {
	return &devicev1.Series{
		BaseTimeUnixNs: at.UnixNano(), Columns: []*devicev1.Column{{Name: "celsius", Doubles: []float64{21.5}}},
	}
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
	_ = p.ws.SetReadDeadline(time.Now().Add(hubtest.Patience))
	_, b, err := p.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	f := new(devicev1.HubFrame)
	return f, proto.Unmarshal(b, f)
}

// closing reads until the connection ends: with a close frame, or nil.
func (p *peer) closing() *websocket.CloseError {
	p.t.Helper()
	for {
		_, err := p.read()
		var closed *websocket.CloseError
		switch {
		case err == nil:
		case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
			return closed
		case isTimeout(err):
			p.t.Fatal("the hub does not end the connection")
		default:
			return nil
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// wantClose reads until the close frame and checks its code.
func (p *peer) wantClose(code int) *websocket.CloseError {
	p.t.Helper()
	closed := p.closing()
	if closed == nil || closed.Code != code {
		p.t.Fatalf("got close %v; want %d", closed, code)
	}
	return closed
}

// get is an answer of the hub over HTTP, to an operator at an address that no
// test uses for anything else. token "": none.
func get(t testing.TB, h hubtest.Endpoint, path, token string) (status int, body string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: tlsFor(h), DisableKeepAlives: true, DialContext: dialFrom("127.0.0.9")}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatalf("get %s: %v", path, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("get %s: %v", path, err)
	}
	return answer.StatusCode, string(text)
}

// metric is one figure of /metrics, named as there: `name{label="value"}`.
func metric(t testing.TB, h hubtest.Endpoint, name string) float64 {
	t.Helper()
	code, text := get(t, h, "/metrics", h.Token)
	if code != http.StatusOK {
		t.Fatalf("/metrics answers %d: %.200s", code, text)
	}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok {
			line, key = value, key+"}"
			if key == name {
				return parseFigure(t, line)
			}
		} else if key, value, ok := strings.Cut(line, " "); ok && key == name {
			return parseFigure(t, strings.TrimSpace(value))
		}
	}
	t.Fatalf("/metrics has no %s", name)
	return 0
}

func parseFigure(t testing.TB, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantMetric waits until a figure of /metrics has grown by at least one.
func wantMetric(t testing.TB, h hubtest.Endpoint, name string, before float64) {
	t.Helper()
	hubtest.Eventually(t, name+" has grown", func() bool { return metric(t, h, name) >= before+1 })
}
