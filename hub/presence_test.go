package hub_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// Two devices with one credential take the session from each other, but not
// at full speed; and when one of them goes, presence is that of the other.
func TestTwoDevicesWithOneCredential(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	credential := h.CreateDevice(t, "twin")
	var superseded atomic.Int64
	twin := func() (*client.Client, func() error) {
		cfg := h.Client(credential)
		cfg.BackoffMin, cfg.BackoffMax = 100*time.Millisecond, 10*time.Second
		cfg.FlushTimeout = -1
		cfg.OnStateChange = func(_ client.State, why error) {
			if errors.Is(why, client.ErrSuperseded) {
				superseded.Add(1)
			}
		}
		return hubtest.Run(t, cfg)
	}
	a, stopA := twin()
	hubtest.Eventually(t, "the first is online", func() bool { return a.State() == client.Online })
	b, stopB := twin()
	began := time.Now()
	hubtest.Eventually(t, "each has lost its session to the other", func() bool {
		for _, c := range []*client.Client{a, b} { // acknowledged rows must not make them bold
			_ = c.Publish(t.Context(), client.Reading(client.Int("n", 1)))
		}
		return superseded.Load() >= 8
	})
	if took := time.Since(began); took < time.Second { // seven waits of up to 1.6 s each, by chance
		t.Errorf("8 sessions were superseded within %v: they fight at full speed", took)
	}
	hubtest.Eventually(t, "one connection is counted", func() bool { return metric(t, h.Endpoint, "tetherline_connections") == 1 })
	_ = stopA()
	hubtest.Eventually(t, "the other one has the session, and is shown online", func() bool {
		return b.State() == client.Online && getDevice(t, h.Endpoint, "twin").Presence.GetOnline()
	})
	_ = stopB()
	hubtest.Eventually(t, "offline by the word of the last", func() bool {
		p := getDevice(t, h.Endpoint, "twin").Presence
		return !p.GetOnline() && p.GetReason() == "closed by the device"
	})
	if n := h.Hub.Online(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// The goodbye of an old session that comes late does not take the newer one
// offline.
func TestLateGoodbyeIsFenced(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	c := h.CreateDevice(t, "dev-1")
	old := connectPeer(t, h.Endpoint, c)
	newer := connectPeer(t, h.Endpoint, c)
	old.wantClose(4001)
	_ = old.ws.Close()
	if newer.welcome.GetSessionEpoch() <= old.welcome.GetSessionEpoch() {
		t.Errorf("epoch %d follows %d", newer.welcome.GetSessionEpoch(), old.welcome.GetSessionEpoch())
	}
	wantMetric(t, h.Endpoint, `tetherline_closes_total{code="superseded"}`, 0)
	p := getDevice(t, h.Endpoint, "dev-1").Presence
	if !p.GetOnline() || p.GetSessionEpoch() != newer.welcome.GetSessionEpoch() {
		t.Errorf("presence is %v; want online in epoch %d", p, newer.welcome.GetSessionEpoch())
	}
	newer.sendSeries(1, oneReading(time.Now()))
	newer.wantAck(1)
}

// Presence outlives the hub: after an orderly stop, and after SIGKILL, where
// the last words are missing.
func TestPresenceOutlivesTheHub(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.Listen = hubtest.FreeAddr(t)
	h := hubtest.StartProcess(t, cfg)
	quiet := h.Client(h.CreateDevice(t, "quiet"))
	c, stop := hubtest.Run(t, quiet)
	hubtest.Eventually(t, "online", func() bool { return c.State() == client.Online })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "offline", func() bool { return !getDevice(t, h.Endpoint, "quiet").Presence.GetOnline() })
	said := getDevice(t, h.Endpoint, "quiet").Presence
	credential := h.CreateDevice(t, "live")
	live := connectPeer(t, h.Endpoint, credential)
	began := getDevice(t, h.Endpoint, "live").Presence
	h.CreateDevice(t, "never")

	if err := h.Terminate(); err != nil {
		t.Fatal(err)
	}
	live.wantClose(1001)
	h.Start()
	wantStopped(t, h.Endpoint, began)
	wantSame(t, h.Endpoint, said)

	// Presence is saved behind the device's back: the kill may come first.
	live = connectPeer(t, h.Endpoint, credential)
	hubtest.Eventually(t, "online again", func() bool { return getDevice(t, h.Endpoint, "live").Presence.GetOnline() })
	h.Kill()
	live.closing()
	h.Start()
	wantStopped(t, h.Endpoint, began)
	wantSame(t, h.Endpoint, said)
	if p := getDevice(t, h.Endpoint, "never").Presence; p.GetSince() != nil || p.GetOnline() {
		t.Errorf("a device that never came has presence %v", p)
	}
}

// wantStopped: the device that was online when the hub ended is offline for
// that reason, last seen no earlier than it came.
func wantStopped(t testing.TB, h hubtest.Endpoint, before *operatorv1.Presence) {
	t.Helper()
	p := getDevice(t, h, "live").Presence
	if p.GetOnline() || p.GetReason() != "hub stopped" || p.GetSessionEpoch() < before.GetSessionEpoch() ||
		p.GetLastSeen().AsTime().Before(before.GetSince().AsTime()) || p.GetLastSeen().AsTime().After(time.Now()) {
		t.Errorf("presence after the hub was back: %v; before: %v", p, before)
	}
}

func wantSame(t testing.TB, h hubtest.Endpoint, want *operatorv1.Presence) {
	t.Helper()
	p := getDevice(t, h, "quiet").Presence
	if p.GetOnline() || p.GetReason() != want.GetReason() || !p.GetSince().AsTime().Equal(want.GetSince().AsTime()) ||
		!p.GetLastSeen().AsTime().Equal(want.GetLastSeen().AsTime()) {
		t.Errorf("presence of the device that had gone before: %v; want %v", p, want)
	}
}
