package client

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// states records the reasons of a client's state changes.
func states(cfg *Config) <-chan error {
	reasons := make(chan error, 256)
	cfg.OnStateChange = func(s State, err error) {
		if s == Waiting || s == Stopped {
			reasons <- err
		}
	}
	return reasons
}

func wantReason(t *testing.T, reasons <-chan error, want error) {
	t.Helper()
	select {
	case err := <-reasons:
		if !errors.Is(err, want) {
			t.Fatalf("connection ended with %v, want %v", err, want)
		}
	case <-time.After(patience):
		t.Fatalf("connection does not end; want %v", want)
	}
}

// An Ack, a command or a Throttle in the place of the Welcome gets nothing.
func TestHandshakeTakesNoOtherFrame(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	reasons := states(&cfg)
	ran := make(chan struct{}, 1)
	cfg.Commands = map[string]Handler{"x": {Run: func(context.Context, *Command) (Result, error) {
		ran <- struct{}{}
		return Result{}, nil
	}}}
	start(t, cfg)
	conn := hub.accept(t)
	conn.challenge()
	conn.command("c1", "x", "{}")
	wantReason(t, reasons, ErrProtocol)
	select {
	case <-ran:
		t.Fatal("a command ran before the hub's proof")
	default:
	}
}

func TestMiddlemanGetsNothing(t *testing.T) {
	hub := newPeer(t)
	evil := middleman(t, hub)
	cfg := hub.config()
	cfg.URL = strings.Replace(evil.URL, "https", "wss", 1)
	cfg.RootCAs = x509.NewCertPool()
	cfg.RootCAs.AddCert(evil.Certificate())
	reasons := states(&cfg)
	c := start(t, cfg)
	c.publish(t, 1)
	conn := hub.accept(t)
	conn.challenge()
	if conn.secret().VerifyDevice(&conn.transcript, conn.hello.DeviceProof) {
		t.Fatal("the hub cannot tell the middleman")
	}
	// Even with the true hub's own proof.
	proof := conn.secret().HubProof(&conn.transcript)
	conn.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Welcome{Welcome: &devicev1.Welcome{
		HubProof: proof[:], HeartbeatIntervalS: 25, WindowFrames: 9, MaxFrameBytes: MaxFrameBytes}}})
	wantReason(t, reasons, ErrHubProof)
	if c.Stats().FramesSent != 0 {
		t.Fatal("a reading went to the middleman")
	}
}

func TestWithoutBindingTheProofsStandAlone(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.BindingNone = true
	cfg.Firmware, cfg.HeartbeatWish = "fw 1.2", 7*time.Second
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	if h := conn.hello; h.BindingType != devicev1.BindingType_BINDING_TYPE_NONE || h.Firmware != "fw 1.2" || h.HeartbeatWishS != 7 {
		t.Fatalf("Hello %v", h)
	}
	eventually(t, "online", func() bool { return c.State() == Online })
}

func TestStopClassesEndRun(t *testing.T) {
	for code, want := range map[int]error{4500: ErrUnauthorized, 4501: ErrDisabled, 4502: ErrUnsupportedVersion, 4599: ErrRefused} {
		hub := newPeer(t)
		c := start(t, hub.config())
		conn := hub.accept(t)
		if code == 4501 {
			conn.welcome() // revoked while it is connected
		} else {
			conn.challenge()
		}
		conn.close(code, "")
		if err := c.wait(t); !errors.Is(err, want) {
			t.Errorf("code %d: Run returns %v, want %v", code, err, want)
		}
		if err := c.Publish(t.Context(), Reading(Int("n", 1))); !errors.Is(err, ErrClosed) {
			t.Errorf("code %d: Publish after the end: %v", code, err)
		}
	}
}

func TestPingIsAnswered(t *testing.T) {
	hub := newPeer(t)
	start(t, hub.config())
	hub.accept(t).welcome().wantQuiet()
}

func TestRetryAfterIsObeyed(t *testing.T) {
	hub := newPeer(t)
	var refused atomic.Int32
	hub.setRefuse(func(w http.ResponseWriter) bool {
		if refused.Add(1) > 1 {
			return false
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	var dialer countingDialer
	cfg := hub.config()
	cfg.NetDialContext = dialer.dial
	reasons := states(&cfg)
	start(t, cfg)
	hub.accept(t)
	var dial *DialError
	if err := <-reasons; !errors.As(err, &dial) || dial.Status != 503 || dial.RetryAfter != time.Second {
		t.Fatalf("reason %v", err)
	}
	if at := dialer.times(); at[1].Sub(at[0]) < time.Second {
		t.Fatalf("came back after %v", at[1].Sub(at[0]))
	}
}

func TestDrainSlotIsObeyed(t *testing.T) {
	hub := newPeer(t)
	var dialer countingDialer
	cfg := hub.config()
	cfg.NetDialContext = dialer.dial
	start(t, cfg)
	conn := hub.accept(t).welcome()
	drained := time.Now()
	conn.close(4000, "retry_ms=700")
	hub.accept(t)
	if at := dialer.times(); at[1].Sub(drained) < 700*time.Millisecond {
		t.Fatalf("came back after %v", at[1].Sub(drained))
	}
}

func TestRetrySlot(t *testing.T) {
	for reason, want := range map[string]time.Duration{
		"retry_ms=1234": 1234 * time.Millisecond, "draining 5": 5 * time.Millisecond, "9999999999999999999": maxRetrySlot,
	} {
		if got, ok := retrySlot(reason); !ok || got != want {
			t.Errorf("%q: %v %v", reason, got, ok)
		}
	}
	if _, ok := retrySlot("draining"); ok {
		t.Error("a slot without a number")
	}
}

func TestBackoffDoublesWithFullJitter(t *testing.T) {
	b := backoff{min: 500 * time.Millisecond, max: time.Minute}
	bound, below := b.min, 0
	for i := range 2000 {
		d := b.next()
		if d <= 0 || d > bound {
			t.Fatalf("wait %d is %v, bound %v", i, d, bound)
		}
		if d < bound/2 {
			below++
		}
		bound = min(2*bound, b.max)
	}
	if below < 800 || below > 1200 {
		t.Fatalf("%d of 2000 waits in the lower half: no full jitter", below)
	}
	if d := b.after(10 * time.Second); d < 10*time.Second || d > 12*time.Second {
		t.Fatalf("a wish of 10 s gives %v", d)
	}
}

func TestTheEndFlushesAndSaysGoodbye(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.FlushTimeout, cfg.MaxBatchAge = patience, time.Hour
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	eventually(t, "online", func() bool { return c.State() == Online })
	c.publish(t, 1, 2, 3)
	c.cancel()
	if tm, _ := conn.telemetry(1); len(tm.Series[0].TimeDeltaNs) != 3 {
		t.Fatalf("flushed %v", tm)
	}
	conn.ack(1)
	conn.wantClose(websocket.CloseNormalClosure)
	if err := c.wait(t); err != nil {
		t.Fatal(err)
	}
	if st := c.Stats(); st.RowsAcked != 3 || st.State != Stopped {
		t.Fatalf("%+v", st)
	}
}

// Rows in memory are worth a new connection while the end is being flushed.
func TestTheEndReconnectsForRowsInMemory(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.FlushTimeout = patience
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	c.publish(t, 1)
	conn.telemetry(1)
	c.cancel()
	conn.ws.Close()
	conn = hub.accept(t).welcome()
	conn.telemetry(1)
	conn.ack(1)
	conn.wantClose(websocket.CloseNormalClosure)
	c.wait(t)
}

func TestDescribeIsSentWhenItHasChanged(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.Firmware = "fw 2"
	cfg.Describe = &devicev1.Describe{Fields: []*devicev1.FieldDescription{{Name: "n", Unit: "1", Kind: devicev1.Kind_KIND_INT}}}
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	frame, _ := conn.receive()
	if d := frame.GetDescribe(); d == nil || d.Firmware != "fw 2" || len(d.Fields) != 1 {
		t.Fatalf("got %v, want the Describe", frame)
	}
	if cfg.Describe.Firmware != "" {
		t.Fatal("the caller's Describe was changed")
	}
	conn.ws.Close()
	conn = hub.accept(t).welcome(func(w *devicev1.Welcome) { w.DescribeDigest = c.describeDigest[:] })
	c.publish(t, 1)
	conn.telemetry(1) // and no Describe before it
}

// Every frame that the hub may not send ends the session as a fault of the
// hub, and a frame of a newer hub does not.
func TestFaultsOfTheHub(t *testing.T) {
	for name, frame := range map[string]*devicev1.HubFrame{
		"ack of what was not sent":     {Frame: &devicev1.HubFrame_Ack{Ack: &devicev1.Ack{Seq: 99}}},
		"reject of what was not sent":  {Frame: &devicev1.HubFrame_Reject{Reject: &devicev1.Reject{Seq: 99}}},
		"second welcome":               {Frame: &devicev1.HubFrame_Welcome{Welcome: &devicev1.Welcome{}}},
		"renew to an older generation": {Frame: &devicev1.HubFrame_Renew{Renew: &devicev1.Renew{Generation: 1}}},
		"renew that does not open":     {Frame: &devicev1.HubFrame_Renew{Renew: &devicev1.Renew{Generation: 2, Nonce: make([]byte, 12), SealedSecret: make([]byte, 48)}}},
	} {
		t.Run(name, func(t *testing.T) {
			hub := newPeer(t)
			cfg := hub.config()
			reasons := states(&cfg)
			start(t, cfg)
			conn := hub.accept(t).welcome()
			conn.send(&devicev1.HubFrame{}) // unknown: ignored
			conn.send(frame)
			wantReason(t, reasons, ErrProtocol)
		})
	}
}
