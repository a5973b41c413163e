package session

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is a transport in memory: requirement 23 in small. The device's end
// are the channels.
type pipe struct {
	up       chan []byte // to the hub
	down     chan []byte // to the device
	pings    chan struct{}
	pongs    bool // the device answers pings; set before it is used
	activity Activity

	mu      sync.Mutex
	read    *time.Timer
	late    chan struct{} // closed when the read deadline has passed
	closed  chan struct{}
	code    CloseCode
	reason  string
	maxSize int
}

func newPipe() *pipe {
	return &pipe{
		up: make(chan []byte, 1000), down: make(chan []byte, 1000), pings: make(chan struct{}, 1000), pongs: true,
		late: make(chan struct{}), closed: make(chan struct{}), maxSize: MaxHelloBytes,
	}
}

func (p *pipe) Watch(a Activity) { p.activity = a }

func (p *pipe) ReadFrame() (*Buffer, error) {
	for {
		p.mu.Lock()
		late := p.late
		p.mu.Unlock()
		select {
		case <-late:
			return nil, os.ErrDeadlineExceeded
		default:
		}
		select {
		case b, ok := <-p.up:
			if !ok {
				return nil, io.ErrUnexpectedEOF
			}
			if b == nil { // a pong
				p.activity.Heard()
				if err := p.activity.Ponged(); err != nil {
					return nil, err
				}
				continue
			}
			if len(b) > p.maxSize {
				return nil, &Violation{Code: CloseTooBig}
			}
			buf := NewBuffer()
			buf.B = append(buf.B, b...)
			p.activity.Heard()
			return buf, nil
		case <-late:
			return nil, os.ErrDeadlineExceeded
		case <-p.closed:
			return nil, io.ErrUnexpectedEOF
		}
	}
}

func (p *pipe) WriteFrame(b []byte, deadline time.Time) error {
	select {
	case p.down <- append([]byte(nil), b...):
		return nil
	case <-p.closed:
		return io.ErrClosedPipe
	case <-time.After(time.Until(deadline)):
		return os.ErrDeadlineExceeded
	}
}

func (p *pipe) WritePing(time.Time) error {
	p.pings <- struct{}{}
	if p.pongs {
		p.up <- nil
	}
	return nil
}

func (p *pipe) WritePong([]byte, time.Time) error { return nil }

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.read != nil {
		p.read.Stop()
		p.read = nil
	}
	if t.IsZero() || t.After(time.Now()) { // a later deadline undoes one that has passed
		select {
		case <-p.late:
			p.late = make(chan struct{})
		default:
		}
	}
	if t.IsZero() {
		return nil
	}
	late := p.late
	if !t.After(time.Now()) {
		select {
		case <-late:
		default:
			close(late)
		}
		return nil
	}
	p.read = time.AfterFunc(time.Until(t), func() { close(late) })
	return nil
}

func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) Authenticated(maxFrame int)       { p.maxSize = maxFrame }
func (p *pipe) Binding() []byte                  { return make([]byte, device.BindingBytes) }
func (p *pipe) AllowsUnbound() bool              { return false }
func (p *pipe) RemoteAddr() string               { return "pipe" }

func (p *pipe) Close(code CloseCode, reason string, _ time.Duration) {
	p.mu.Lock()
	p.code, p.reason = code, reason
	p.mu.Unlock()
	p.Kill()
}

func (p *pipe) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
}

// world is everything a session needs, in memory and under control.
type world struct {
	t      *testing.T
	deps   *Deps
	master device.MasterKey
	wheel  *Wheel
	halt   func() // the wheel

	mu       sync.Mutex
	dev      *registry.Device
	behind   error // of Check
	memory   Memory
	live     *Session
	epoch    uint64
	pressure telemetry.Pressure
	full     bool // Append refuses
	held     bool // Durable waits for release
	pending  []func()
	entries  []uint64 // seqs appended
	onAttach func()
}

func (w *world) Secret(_, id string, g uint32) (device.Secret, bool) {
	return w.master.Secret(id, g), true
}

func (w *world) Get(id string) (*registry.Device, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dev, id == w.dev.ID
}

func (w *world) Check() error { return w.behind }

func (w *world) Update(_ context.Context, _ string, f func(*registry.Device) error) (*registry.Device, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dev.Clone()
	if err := f(d); err != nil {
		return nil, err
	}
	w.dev = d
	return d, nil
}

func (w *world) Attach(s *Session) (uint64, *Memory, error) {
	w.mu.Lock()
	older := w.live
	w.live = s
	w.epoch++
	epoch := w.epoch
	if w.onAttach != nil {
		w.onAttach()
	}
	w.mu.Unlock()
	if older != nil {
		older.Stop(CloseSuperseded, "")
	}
	return epoch, &w.memory, nil
}

func (w *world) Detach(s *Session, _ CloseCode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.live == s {
		w.live = nil
	}
}

func (w *world) Append(_ telemetry.Entry, seq uint64, to telemetry.Acker) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full {
		return telemetry.ErrFull
	}
	w.entries = append(w.entries, seq)
	durable := func() { to.Durable(seq) }
	if w.held {
		w.pending = append(w.pending, durable)
	} else {
		go durable()
	}
	return nil
}

func (w *world) Pressure() telemetry.Pressure {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pressure
}

// release makes the first n held entries durable.
func (w *world) release(n int) {
	w.mu.Lock()
	now := w.pending[:n]
	w.pending = w.pending[n:]
	w.mu.Unlock()
	for _, f := range now {
		f()
	}
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func newWorld(t *testing.T, limits Limits) *world {
	w := &world{t: t, dev: &registry.Device{ID: "dev-1", KeyID: "k", Generation: 1}, wheel: NewWheel()}
	deps, err := NewDeps(Config{
		Limits: limits, Registry: w, Keyring: w, Buffer: w, Table: w, Wheel: w.wheel,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.deps = deps
	w.turn()
	t.Cleanup(func() { w.halt() })
	return w
}

// turn has the wheel turn until halt.
func (w *world) turn() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.wheel.Run(ctx) }()
	w.halt = func() { stop(); <-done }
}

// client is a device on a pipe.
type client struct {
	*pipe
	t       *testing.T
	session *Session
	welcome *devicev1.Welcome
	done    chan CloseCode
}

func (w *world) start(p *pipe) *client {
	c := &client{pipe: p, t: w.t, session: New(p, w.deps), done: make(chan CloseCode, 1)}
	go func() { c.done <- c.session.Run(context.Background()) }()
	return c
}

// connect does the handshake.
func (w *world) connect(p *pipe, wish uint32) *client {
	w.t.Helper()
	c := w.start(p)
	c.hello(w, wish)
	c.welcome = c.next().GetWelcome()
	if c.welcome == nil {
		w.t.Fatal("no welcome")
	}
	return c
}

// hello answers the challenge with a good proof.
func (c *client) hello(w *world, wish uint32) {
	c.t.Helper()
	challenge := c.next().GetChallenge()
	tr := device.Transcript{DeviceID: "dev-1", Generation: 1, Binding: c.Binding(), BootID: [16]byte{1}}
	copy(tr.HubNonce[:], challenge.GetHubNonce())
	_, _ = rand.Read(tr.DeviceNonce[:])
	proof := w.master.Secret("dev-1", 1).DeviceProof(&tr)
	c.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Hello{Hello: &devicev1.Hello{
		DeviceId: "dev-1", Generation: 1, DeviceNonce: tr.DeviceNonce[:], DeviceProof: proof[:], BootId: tr.BootID[:],
		BindingType: devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER, HeartbeatWishS: wish,
	}}})
}

func (c *client) send(f *devicev1.DeviceFrame) {
	c.t.Helper()
	b, err := proto.Marshal(f)
	if err != nil {
		c.t.Fatal(err)
	}
	c.up <- b
}

func (c *client) reading(seqs ...uint64) {
	c.t.Helper()
	for _, seq := range seqs {
		c.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Telemetry{Telemetry: &devicev1.Telemetry{
			Seq: seq, Series: []*devicev1.Series{{BaseTimeUnixNs: time.Now().UnixNano(),
				Columns: []*devicev1.Column{{Name: "v", Doubles: []float64{1}}}}},
		}}})
	}
}

func (c *client) empty(seq uint64) {
	c.t.Helper()
	c.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Telemetry{Telemetry: &devicev1.Telemetry{Seq: seq}}})
}

func (c *client) next() *devicev1.HubFrame {
	c.t.Helper()
	select {
	case b := <-c.down:
		f := new(devicev1.HubFrame)
		if err := proto.Unmarshal(b, f); err != nil {
			c.t.Fatal(err)
		}
		return f
	case <-time.After(time.Minute):
		c.t.Fatal("the hub says nothing")
		return nil
	}
}

// silent fails if the hub says anything now.
func (c *client) silent() {
	c.t.Helper()
	select {
	case b := <-c.down:
		f := new(devicev1.HubFrame)
		_ = proto.Unmarshal(b, f)
		c.t.Fatalf("the hub says %v", f)
	default:
	}
}

func (c *client) wantAck(seq uint64) {
	c.t.Helper()
	for {
		f := c.next()
		if f.GetAck() == nil || f.GetAck().GetSeq() > seq {
			c.t.Fatalf("got %v, want the Ack of %d", f, seq)
		}
		if f.GetAck().GetSeq() == seq {
			return
		}
	}
}

func (c *client) wantEnd(code CloseCode) {
	c.t.Helper()
	select {
	case got := <-c.done:
		if got != code {
			c.t.Fatalf("ended with %v %q, want %v", got, c.reason, code)
		}
	case <-time.After(time.Hour):
		c.t.Fatalf("did not end, want %v", code)
	}
}

// leave ends the session.
func (c *client) leave() {
	c.Kill()
	<-c.done
}
