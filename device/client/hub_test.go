package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childSpoolEnv); dir != "" {
		runSpoolChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// peer is the hub's end of the protocol on a real TLS socket. Tests script it
// frame by frame.
type peer struct {
	server *httptest.Server
	conns  chan *peerConn

	mu     sync.Mutex
	refuse func(w http.ResponseWriter) bool
}

type peerConn struct {
	t          *testing.T
	ws         *websocket.Conn
	hello      *devicev1.Hello
	transcript device.Transcript
	state      *tls.ConnectionState
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{conns: make(chan *peerConn, 16)}
	up := websocket.Upgrader{Subprotocols: []string{device.Protocol}}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		refuse := p.refuse
		p.mu.Unlock()
		if refuse != nil && refuse(w) {
			return
		}
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		p.conns <- &peerConn{t: t, ws: ws, state: r.TLS}
	}))
	p.server.Config.ErrorLog = nil
	p.server.StartTLS()
	t.Cleanup(func() {
		p.server.Close()
		for {
			select {
			case c := <-p.conns:
				c.ws.Close()
			default:
				return
			}
		}
	})
	return p
}

func (p *peer) setRefuse(f func(w http.ResponseWriter) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = f
}

func (p *peer) url() string { return strings.Replace(p.server.URL, "https", "wss", 1) }

func (p *peer) roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(p.server.Certificate())
	return roots
}

func testCredential(generation uint32) device.Credential {
	return device.Credential{ID: "dev-1", Generation: generation,
		Secret: device.MasterKey{7}.Secret("dev-1", generation)}
}

// config of a client of p that frames every Publish for itself and comes back
// at once.
func (p *peer) config() Config {
	return Config{
		URL: p.url(), RootCAs: p.roots(), Credentials: NewMemoryStore(testCredential(1)),
		MaxBatchAge: -1, BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond,
		FlushTimeout: -1,
	}
}

// running is a Client whose Run is under way.
type running struct {
	*Client
	cancel context.CancelFunc
	result chan error
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, c)
}

func run(t *testing.T, c *Client) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Client: c, cancel: cancel, result: make(chan error, 1)}
	go func() { r.result <- c.Run(ctx) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *running) stop(t *testing.T) error {
	t.Helper()
	r.cancel()
	return r.wait(t)
}

func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.result:
		r.result <- err
		return err
	case <-time.After(patience):
		t.Fatal("Run does not return")
		return nil
	}
}

func (r *running) publish(t *testing.T, values ...int64) {
	t.Helper()
	for _, v := range values {
		if err := r.Publish(t.Context(), Reading(Int("n", v))); err != nil {
			t.Fatal(err)
		}
	}
}

// accept is the next connection.
func (p *peer) accept(t *testing.T) *peerConn {
	t.Helper()
	select {
	case c := <-p.conns:
		c.t = t
		t.Cleanup(func() { c.ws.Close() })
		return c
	case <-time.After(patience):
		t.Fatal("no connection")
		return nil
	}
}

// challenge sends the Challenge and takes the Hello.
func (c *peerConn) challenge() {
	c.t.Helper()
	var nonce [device.NonceBytes]byte
	_, _ = rand.Read(nonce[:])
	c.challengeWith(nonce)
}

func (c *peerConn) challengeWith(nonce [device.NonceBytes]byte) {
	c.t.Helper()
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Challenge{Challenge: &devicev1.Challenge{
		HubNonce: nonce[:], ServerTimeUnixNs: uint64(time.Now().UnixNano()), Protocol: device.Protocol,
	}}})
	frame, _ := c.receive()
	c.hello = frame.GetHello()
	if c.hello == nil {
		c.t.Fatalf("got %v instead of a Hello", frame)
	}
	c.transcript = device.Transcript{
		DeviceID: c.hello.DeviceId, Generation: c.hello.Generation, HubNonce: nonce,
		DeviceNonce: [32]byte(c.hello.DeviceNonce), BootID: [16]byte(c.hello.BootId),
	}
	if c.hello.BindingType == devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER {
		value, err := c.state.ExportKeyingMaterial(device.ExporterLabel, nil, device.BindingBytes)
		if err != nil {
			c.t.Fatal(err)
		}
		c.transcript.Binding = value
	}
}

func (c *peerConn) secret() device.Secret {
	return device.MasterKey{7}.Secret(c.hello.DeviceId, c.hello.Generation)
}

// welcome runs the whole handshake. Changes are made to a generous Welcome.
func (c *peerConn) welcome(change ...func(*devicev1.Welcome)) *peerConn {
	c.t.Helper()
	c.challenge()
	if !c.secret().VerifyDevice(&c.transcript, c.hello.DeviceProof) {
		c.t.Fatal("the device's proof is wrong")
	}
	proof := c.secret().HubProof(&c.transcript)
	w := &devicev1.Welcome{
		HubProof: proof[:], ServerTimeUnixNs: uint64(time.Now().UnixNano()), SessionEpoch: 1,
		HeartbeatIntervalS: 25, WindowFrames: 64, WindowBytes: 1 << 20, MaxFrameBytes: MaxFrameBytes,
	}
	for _, f := range change {
		f(w)
	}
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Welcome{Welcome: w}})
	return c
}

func (c *peerConn) send(frame *devicev1.HubFrame) {
	c.t.Helper()
	data, err := proto.Marshal(frame)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, data); err != nil {
		c.t.Fatal(err)
	}
}

func (c *peerConn) ack(seq uint64) {
	c.t.Helper()
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Ack{Ack: &devicev1.Ack{Seq: seq}}})
}

func (c *peerConn) throttle(pause time.Duration, resume uint64) {
	c.t.Helper()
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Throttle{Throttle: &devicev1.Throttle{
		PauseMs: uint32(pause / time.Millisecond), ResumeSeq: resume}}})
}

func (c *peerConn) reject(seq uint64, code devicev1.RejectCode, at time.Time) {
	c.t.Helper()
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Reject{Reject: &devicev1.Reject{
		Seq: seq, Code: code, Detail: "test", ServerTimeUnixNs: uint64(at.UnixNano())}}})
}

// close the connection with a code.
func (c *peerConn) close(code int, reason string) {
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(patience))
	_ = c.ws.Close()
}

// receive is the next frame and its bytes.
func (c *peerConn) receive() (*devicev1.DeviceFrame, []byte) {
	c.t.Helper()
	frame, data, err := c.tryReceive(patience)
	if err != nil {
		c.t.Fatal(err)
	}
	return frame, data
}

func (c *peerConn) tryReceive(wait time.Duration) (*devicev1.DeviceFrame, []byte, error) {
	_ = c.ws.SetReadDeadline(time.Now().Add(wait))
	_, data, err := c.ws.ReadMessage()
	if err != nil {
		return nil, nil, err
	}
	frame := new(devicev1.DeviceFrame)
	return frame, data, proto.Unmarshal(data, frame)
}

// telemetry is the next frame, which must be Telemetry of that seq.
func (c *peerConn) telemetry(seq uint64) (*devicev1.Telemetry, []byte) {
	c.t.Helper()
	frame, data := c.receive()
	got := frame.GetTelemetry()
	if got == nil || got.Seq != seq {
		c.t.Fatalf("got %v, want Telemetry of seq %d", frame, seq)
	}
	return got, data
}

// update is the next frame, which must be a CommandUpdate.
func (c *peerConn) update() *devicev1.CommandUpdate {
	c.t.Helper()
	frame, _ := c.receive()
	if frame.GetCommandUpdate() == nil {
		c.t.Fatalf("got %v, want a CommandUpdate", frame)
	}
	return frame.GetCommandUpdate()
}

// wantQuiet sends a ping and checks that only its pong comes back: no frame is
// on its way. The connection cannot be read again afterwards without it.
func (c *peerConn) wantQuiet() {
	c.t.Helper()
	pong := make(chan struct{}, 1)
	c.ws.SetPongHandler(func(string) error { pong <- struct{}{}; return errPong })
	if err := c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	frame, _, err := c.tryReceive(patience)
	if !errors.Is(err, errPong) {
		c.t.Fatalf("got %v (%v), want silence", frame, err)
	}
}

var errPong = errors.New("pong")

// wantClose reads until the device closes, and wants that code.
func (c *peerConn) wantClose(code int) {
	c.t.Helper()
	frame, _, err := c.tryReceive(patience)
	if !websocket.IsCloseError(err, code) {
		c.t.Fatalf("got %v (%v), want close code %d", frame, err, code)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// middleman ends TLS itself and passes every message on: an attacker with a
// certificate that the device trusts.
func middleman(t *testing.T, hub *peer) *httptest.Server {
	up := websocket.Upgrader{Subprotocols: []string{device.Protocol}}
	var pipes sync.WaitGroup
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, _ := url.Parse(hub.url())
		u.Path = r.URL.Path
		d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: hub.roots()}, Subprotocols: []string{device.Protocol}}
		inner, _, err := d.Dial(u.String(), nil)
		if err != nil {
			return
		}
		outer, err := up.Upgrade(w, r, nil)
		if err != nil {
			inner.Close()
			return
		}
		pipe := func(from, to *websocket.Conn) {
			defer pipes.Done()
			defer from.Close()
			defer to.Close()
			for {
				kind, data, err := from.ReadMessage()
				if err != nil || to.WriteMessage(kind, data) != nil {
					return
				}
			}
		}
		pipes.Add(2)
		go pipe(inner, outer)
		go pipe(outer, inner)
	}))
	t.Cleanup(func() { s.Close(); pipes.Wait() })
	return s
}

func sameBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: got %x, want %x", what, got, want)
	}
}

// loopback refuses to be anything but a net.Dialer that counts.
type countingDialer struct {
	mu    sync.Mutex
	dials []time.Time
}

func (d *countingDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	d.dials = append(d.dials, time.Now())
	d.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (d *countingDialer) times() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]time.Time(nil), d.dials...)
}
