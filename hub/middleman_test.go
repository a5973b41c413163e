package hub_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// middleman terminates TLS with a certificate that devices trust and speaks
// to the hub itself.
type middleman struct {
	addr string
	hub  hubtest.Endpoint
	// up and down may change what passes; nil: as it is. With answer set
	// nothing reaches the hub after the challenge.
	up     func(*devicev1.DeviceFrame)
	answer []*devicev1.HubFrame

	running sync.WaitGroup
	mu      sync.Mutex
	hellos  int
	others  int // frames of the device that are no Hello
}

func startMiddleman(t testing.TB, h hubtest.Endpoint, certificate tls.Certificate, m *middleman) *middleman {
	t.Helper()
	m.hub = h
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(ctx, w, r) })}
	m.running.Go(func() {
		_ = server.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}))
	})
	t.Cleanup(func() { cancel(); _ = server.Close(); m.running.Wait() })
	return m
}

func (m *middleman) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	m.running.Add(1)
	defer m.running.Done()
	near, err := (&websocket.Upgrader{Subprotocols: []string{device.Protocol}}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = near.Close() }()
	d := &websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: m.hub.Roots, MinVersion: tls.VersionTLS12}, Subprotocols: []string{device.Protocol}}
	far, _, err := d.DialContext(ctx, "wss://"+m.hub.Addr+device.Path, nil)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	defer context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })()
	if m.answer != nil {
		m.carryDown(far, near) // the challenge
	} else {
		m.running.Go(func() { m.carryDown(far, near) })
	}
	m.carryUp(near, far)
}

func (m *middleman) carryDown(far, near *websocket.Conn) {
	for {
		kind, b, err := far.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) && m.answer == nil {
			_ = near.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(closed.Code, closed.Text), time.Now().Add(time.Second))
		}
		if err != nil || near.WriteMessage(kind, b) != nil {
			return
		}
		if m.answer != nil {
			return // the challenge was all
		}
	}
}

func (m *middleman) carryUp(near, far *websocket.Conn) {
	for {
		_, b, err := near.ReadMessage()
		if err != nil {
			return
		}
		f := new(devicev1.DeviceFrame)
		_ = proto.Unmarshal(b, f)
		m.mu.Lock()
		if f.GetHello() != nil {
			m.hellos++
		} else {
			m.others++
		}
		m.mu.Unlock()
		if m.up != nil {
			m.up(f)
		}
		if m.answer != nil {
			for _, down := range m.answer {
				b, _ := proto.Marshal(down)
				_ = near.WriteMessage(websocket.BinaryMessage, b)
			}
			continue
		}
		b, _ = proto.Marshal(f)
		if far.WriteMessage(websocket.BinaryMessage, b) != nil {
			return
		}
	}
}

func (m *middleman) seen() (hellos, others int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hellos, m.others
}

// wary is a device that has a reading to tell and a relay to switch.
func wary(t testing.TB, cfg client.Config) (c *client.Client, errs chan error, switched chan struct{}) {
	t.Helper()
	errs, switched = make(chan error, 64), make(chan struct{}, 64)
	cfg.FlushTimeout = -1
	cfg.OnStateChange = func(_ client.State, why error) {
		if why != nil {
			select {
			case errs <- why:
			default:
			}
		}
	}
	cfg.Commands = map[string]client.Handler{"switch": {Run: func(context.Context, *client.Command) (client.Result, error) {
		switched <- struct{}{}
		return client.Result{}, nil
	}}}
	c, _ = hubtest.Run(t, cfg)
	if err := c.Publish(t.Context(), client.Reading(client.Int("n", 1))); err != nil {
		t.Fatal(err)
	}
	return c, errs, switched
}

// awaitDoubt waits until a wary device says that it does not deal with this
// hub, and why. It fails where the device takes it for its own.
func awaitDoubt(t testing.TB, name string, sdk *client.Client, errs <-chan error, want error) {
	t.Helper()
	timeout := time.After(hubtest.Patience)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-errs:
			if errors.Is(err, want) {
				return
			}
		case <-look.C:
			if st := sdk.Stats(); st.Sessions != 0 {
				t.Fatalf("%s: the device takes the hub for its own; want %q; %+v", name, want, st)
			}
		case <-timeout:
			t.Fatalf("%s: the device never says %q", name, want)
		}
	}
}

// Promise 7: a middleman with a certificate that the device trusts gets no
// reading out of it and no command into it, whatever he does to the frames.
func TestMiddlemanWithATrustedCertificate(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	h := hubtest.Start(t, cfg)
	answer, err := h.Devices.CreateDevice(t.Context(), connect.NewRequest(&operatorv1.CreateDeviceRequest{
		Device: &operatorv1.NewDevice{Id: "dev-1", AllowUnbound: true}, // the weakest that an operator may choose
	}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := device.ParseCredential(answer.Msg.Credential)
	if err != nil {
		t.Fatal(err)
	}
	forged := issueCertificate(t, stealCA(t, cfg.Data), time.Hour)
	command := &devicev1.HubFrame{Frame: &devicev1.HubFrame_Command{Command: &devicev1.Command{Id: "c-1", Name: "switch", Attempt: 1}}}
	welcome := &devicev1.HubFrame{Frame: &devicev1.HubFrame_Welcome{Welcome: &devicev1.Welcome{
		HubProof: make([]byte, device.ProofBytes), HeartbeatIntervalS: 25, WindowFrames: 64, WindowBytes: 1 << 20, MaxFrameBytes: 64 << 10,
	}}}
	for name, tt := range map[string]struct {
		m    *middleman
		want error
	}{
		"passes all on": {&middleman{}, client.ErrUnauthorized},
		"takes the binding out": {&middleman{up: func(f *devicev1.DeviceFrame) {
			if hello := f.GetHello(); hello != nil {
				hello.BindingType = devicev1.BindingType_BINDING_TYPE_NONE
			}
		}}, client.ErrUnauthorized},
		"plays the hub":               {&middleman{answer: []*devicev1.HubFrame{welcome, command}}, client.ErrHubProof},
		"commands before the welcome": {&middleman{answer: []*devicev1.HubFrame{command, welcome}}, client.ErrProtocol},
	} {
		m := startMiddleman(t, h.Endpoint, forged, tt.m)
		device := h.Client(c)
		device.URL = "wss://" + m.addr + "/"
		sdk, errs, switched := wary(t, device)
		awaitDoubt(t, name, sdk, errs, tt.want)
		hellos, others := m.seen()
		if hellos == 0 || others != 0 {
			t.Errorf("%s: saw %d Hellos and %d other frames; want a Hello and nothing else", name, hellos, others)
		}
		if len(switched) != 0 {
			t.Errorf("%s: the command was obeyed", name)
		}
		if st := sdk.Stats(); st.FramesSent != 0 || st.RowsAcked != 0 || st.Sessions != 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}
	if n := h.Count(t, "dev-1"); n != 0 {
		t.Errorf("%d rows are stored", n)
	}
	if getDevice(t, h.Endpoint, "dev-1").Presence.GetSince() != nil {
		t.Error("the device is shown as seen")
	}
}
