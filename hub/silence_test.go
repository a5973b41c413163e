package hub_test

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/session"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// foundWithin is the promise: interval and pong timeout, and half a minute for
// a machine that is busy. The tests of hub/session have it to the second.
const foundWithin = session.MinHeartbeat + session.PongTimeout + 30*time.Second

// neverFound is after how long a silent hub is one that is never found out.
const neverFound = 4 * foundWithin

// muteLink makes a device's connections, which can fall silent in either
// direction as behind a dead router: nothing arrives, no end either.
type muteLink struct{ noUp, noDown atomic.Bool }

func (l *muteLink) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &muteConn{Conn: c, link: l, closed: make(chan struct{})}, nil
}

type muteConn struct {
	net.Conn
	link     *muteLink
	deadline atomic.Int64 // of reading, Unix ns
	once     sync.Once
	closed   chan struct{}
}

func (c *muteConn) Write(b []byte) (int, error) {
	if c.link.noUp.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *muteConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		switch {
		case !c.link.noDown.Load() || isTimeout(err):
			return n, err
		case err != nil: // the hub has closed, which the device cannot know
			select {
			case <-c.closed:
				return 0, net.ErrClosed
			case <-time.After(time.Until(time.Unix(0, c.deadline.Load()))):
				return 0, os.ErrDeadlineExceeded
			}
		}
	}
}

func (c *muteConn) SetReadDeadline(t time.Time) error {
	c.deadline.Store(t.UnixNano())
	return c.Conn.SetReadDeadline(t)
}

func (c *muteConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// presence follows a device's presence from its present state on.
func presence(t testing.TB, h hubtest.Endpoint, id string) <-chan *operatorv1.Presence {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := h.Devices.WatchPresence(ctx, connect.NewRequest(&operatorv1.WatchPresenceRequest{DeviceIds: []string{id}}))
	if err != nil {
		t.Fatal(err)
	}
	changes, done := make(chan *operatorv1.Presence, 256), make(chan struct{})
	go func() {
		defer close(done)
		for stream.Receive() {
			if stream.Msg().DeviceId == id {
				changes <- stream.Msg().Presence
			}
		}
	}()
	t.Cleanup(func() { cancel(); _ = stream.Close(); <-done })
	return changes
}

// awaitPresence waits for a state and returns it.
func awaitPresence(t testing.TB, changes <-chan *operatorv1.Presence, online bool, within time.Duration) *operatorv1.Presence {
	t.Helper()
	timeout := time.After(within)
	for {
		select {
		case p := <-changes:
			if p.GetOnline() == online && p.GetSince() != nil {
				return p
			}
		case <-timeout:
			t.Fatalf("the device is not shown with online=%v within %v", online, within)
		}
	}
}

// Promise 6, the hub's side: a device that is no longer heard is offline
// within interval and pong timeout, with the reason, and leaves nothing.
func TestBlackHoledDeviceIsFound(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	var l muteLink
	cfg := h.Client(h.CreateDevice(t, "lost"))
	cfg.HeartbeatWish, cfg.NetDialContext, cfg.FlushTimeout = session.MinHeartbeat, l.dial, -1
	changes := presence(t, h.Endpoint, "lost")
	before := metric(t, h.Endpoint, `tetherline_closes_total{code="heartbeat"}`)
	c, stop := hubtest.Run(t, cfg)
	awaitPresence(t, changes, true, hubtest.Patience)
	if err := c.Publish(t.Context(), client.Reading(client.Int("n", 1))); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "a row is acknowledged", func() bool { return c.Stats().RowsAcked == 1 })
	l.noUp.Store(true)
	silent := time.Now()
	p := awaitPresence(t, changes, false, foundWithin)
	t.Logf("offline %v after the last byte", time.Since(silent).Round(time.Millisecond))
	if p.GetReason() != "heartbeat missed" {
		t.Errorf("reason %q", p.GetReason())
	}
	if seen := p.GetLastSeen().AsTime(); seen.After(silent.Add(session.PongTimeout/2)) || seen.Before(silent.Add(-foundWithin)) {
		t.Errorf("last seen %v, but it fell silent at %v", seen, silent)
	}
	wantMetric(t, h.Endpoint, `tetherline_closes_total{code="heartbeat"}`, before)
	_ = stop()
	hubtest.Eventually(t, "no connection is left", func() bool {
		return metric(t, h.Endpoint, "tetherline_connections") == 0 && h.Hub.Online() == 0
	})
}

// Promise 6, the device's side: a hub whose words no longer arrive is left
// within the same time, and what was published meanwhile is not lost.
func TestBlackHoledHubIsLeft(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	var l muteLink
	left := make(chan error, 16)
	cfg := h.Client(h.CreateDevice(t, "deaf"))
	cfg.HeartbeatWish, cfg.NetDialContext = session.MinHeartbeat, l.dial
	cfg.OnStateChange = leaving(left)
	c, _ := hubtest.Run(t, cfg)
	hubtest.Eventually(t, "online", func() bool { return c.State() == client.Online })
	l.noDown.Store(true)
	silent := time.Now()
	if err := c.Publish(t.Context(), client.Reading(client.Int("n", 1))); err != nil {
		t.Fatal(err)
	}
	wantHubSilent(t, left, silent)
	l.noDown.Store(false)
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "the row is stored once", func() bool { return h.Count(t, "deaf") == 1 })
}

// leaving tells why a device has left a hub that had welcomed it, as far as
// somebody listens. A busy machine may take several tries to come so far.
func leaving(left chan<- error) func(s client.State, why error) {
	var online atomic.Bool
	return func(s client.State, why error) {
		switch {
		case s == client.Online:
			online.Store(true)
		case s == client.Waiting && online.Load():
			select {
			case left <- why:
			default:
			}
		}
	}
}

func wantHubSilent(t testing.TB, left <-chan error, since time.Time) {
	t.Helper()
	select {
	case err := <-left:
		took := time.Since(since)
		t.Logf("left %v after the last byte: %v", took.Round(time.Millisecond), err)
		if !errors.Is(err, client.ErrHubSilent) || took > foundWithin {
			t.Errorf("left after %v with %v; want %v within %v", took, err, client.ErrHubSilent, foundWithin)
		}
	case <-time.After(neverFound):
		t.Fatalf("the hub is not left within %v", neverFound)
	}
}

// A hub that is halted and goes on is left and found again, and does not take
// the devices that waited for dead.
func TestHaltedHub(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.Listen = hubtest.FreeAddr(t)
	h := hubtest.StartProcess(t, cfg)
	left := make(chan error, 256)
	quick := h.Client(h.CreateDevice(t, "quick"))
	quick.HeartbeatWish, quick.DialTimeout = session.MinHeartbeat, 2*time.Second
	quick.OnStateChange = leaving(left)
	patient := h.Client(h.CreateDevice(t, "patient"))
	patient.HeartbeatWish = session.MaxHeartbeat
	a, _ := hubtest.Run(t, quick)
	b, _ := hubtest.Run(t, patient)
	hubtest.Eventually(t, "both are online", func() bool { return a.State() == client.Online && b.State() == client.Online })
	h.Signal(syscall.SIGSTOP)
	halted := time.Now()
	wantHubSilent(t, left, halted)
	for _, c := range []*client.Client{a, b} {
		if err := c.Publish(t.Context(), client.Reading(client.Int("n", 1))); err != nil {
			t.Fatal(err)
		}
	}
	h.Signal(syscall.SIGCONT)
	for _, c := range []*client.Client{a, b} {
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Stats().Sessions; n != 1 {
		t.Errorf("the patient device has had %d sessions; want 1", n)
	}
	hubtest.Eventually(t, "both rows are stored", func() bool { return h.Count(t, "quick") == 1 && h.Count(t, "patient") == 1 })
	hubtest.Eventually(t, "both are shown online", func() bool {
		return getDevice(t, h.Endpoint, "quick").Presence.GetOnline() && getDevice(t, h.Endpoint, "patient").Presence.GetOnline()
	})
}
