package hub_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/hubtest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// masked is a WebSocket frame of a client with a mask of zeros.
func masked(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// fragments is a message of n fragments that never ends.
func fragments(n int, payload []byte) []byte {
	b := masked(0x02, payload)
	for range n {
		b = append(b, masked(0x00, payload)...)
	}
	return b
}

// wantSteady fails unless the devices that keep to the rules go on having
// their rows acknowledged, on the sessions they began with.
func wantSteady(t testing.TB, honest *flock) {
	t.Helper()
	honest.awaitAcks(t, honest.acked())
	for _, g := range honest.gauges {
		if n := g.Stats().Sessions; n != 1 {
			t.Errorf("%s is on its session number %d: it was cut off", g.id, n)
		}
	}
}

// wantAllStored ends the publishing and fails unless just the published rows
// are in the embedded store.
func wantAllStored(t testing.TB, h hubtest.Endpoint, honest *flock) {
	t.Helper()
	honest.settle(t)
	for _, g := range honest.gauges {
		want := uint64(len(g.published()))
		hubtest.Eventually(t, "all rows of "+g.id+" are stored", func() bool { return h.Count(t, g.id) >= want })
		if n := h.Count(t, g.id); n != want {
			t.Errorf("%s: %d rows are stored, %d were published", g.id, n, want)
		}
	}
}

func TestHostileFramesEndTheirOwnSessionAlone(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	honest := newFlock(t, h.Endpoint, 3, nil)
	honest.publish(t, 5*time.Millisecond)
	honest.awaitAcks(t, []int{0, 0, 0})
	c := h.CreateDevice(t, "hostile")
	reading := []byte{0x12, 0x02, 0x08, 0x01} // Telemetry with seq 1 and no rows
	for _, tt := range []struct {
		name  string
		bytes []byte
		code  int
		label string // of the code in /metrics
	}{
		{"text", masked(0x81, []byte("hello")), 1003, "unsupported_data"},
		{"garbage", masked(0x82, []byte{0xff, 0xff, 0xff}), 4003, "forbidden"},
		{"not masked", append([]byte{0x82, byte(len(reading))}, reading...), 1002, "protocol_error"},
		{"compressed without having been asked", masked(0xc2, reading), 1002, "protocol_error"},
		{"1 MB", masked(0x82, make([]byte, 1<<20)), 1009, "too_big"},
		{"64 KiB and one byte", masked(0x82, make([]byte, 64<<10+1)), 1009, "too_big"},
		{"fragments of 1000 bytes", fragments(200, make([]byte, 1000)), 1009, "too_big"},
		{"fragments of one byte", fragments(100_000, []byte{0}), 1009, "too_big"},
		{"fragments of nothing", fragments(500_000, nil), 1009, "too_big"},
		{"a gap in seq", append(masked(0x82, reading), masked(0x82, []byte{0x12, 0x02, 0x08, 0x03})...), 4003, "forbidden"},
		{"pings", bytes.Repeat(masked(0x89, []byte("x")), 20_000), 4008, "rate_limit"},
	} {
		counter := fmt.Sprintf("tetherline_closes_total{code=%q}", tt.label)
		before := metric(t, h.Endpoint, counter)
		p := connectPeer(t, h.Endpoint, c)
		written := make(chan struct{})
		go func() { // the hub may have closed before it is through
			defer close(written)
			_, _ = p.ws.NetConn().Write(tt.bytes)
		}()
		closed := p.closing()
		if closed == nil || closed.Code != tt.code {
			t.Errorf("%s: closed with %v; want %d", tt.name, closed, tt.code)
		}
		_ = p.ws.Close()
		<-written
		wantMetric(t, h.Endpoint, counter, before)
		wantSteady(t, honest)
	}
	wantAllStored(t, h.Endpoint, honest)
}

// Compression is not negotiated, and the session works without it.
func TestCompressionOfferIsLeftOut(t *testing.T) {
	h := hubtest.Start(t, hubtest.Config(t))
	d := &websocket.Dialer{TLSClientConfig: tlsFor(h.Endpoint), Subprotocols: []string{device.Protocol}, EnableCompression: true}
	ws, answer, err := d.DialContext(t.Context(), "wss://"+h.Addr+device.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.Close() }()
	if got := answer.Header.Get("Sec-WebSocket-Extensions"); got != "" || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("%s with extensions %q", answer.Status, got)
	}
}

// A device that takes no byte of what it is told is cut off when what waits
// for it is at its bound.
func TestDeviceThatNeverReads(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.DeviceFrames, cfg.DeviceBytes = 1e6, 1e9
	h := hubtest.Start(t, cfg)
	honest := newFlock(t, h.Endpoint, 2, nil)
	honest.publish(t, 5*time.Millisecond)
	honest.awaitAcks(t, []int{0, 0})
	p := connectPeer(t, h.Endpoint, h.CreateDevice(t, "mute"))
	const counter = `tetherline_closes_total{code="too_slow"}`
	before := metric(t, h.Endpoint, counter)
	bad := &devicev1.Series{BaseTimeUnixNs: 1, Columns: []*devicev1.Column{{Name: strings.Repeat("\x01", 64), Ints: []int64{1}}}}
	stopped := make(chan uint64)
	go func() {
		for seq := uint64(1); ; seq++ { // each is answered by a Reject
			if p.trySeries(seq, bad) != nil {
				stopped <- seq
				return
			}
		}
	}()
	select {
	case n := <-stopped:
		t.Logf("cut off after %d frames", n)
	case <-time.After(hubtest.Patience):
		t.Fatal("is never cut off")
	}
	wantMetric(t, h.Endpoint, counter, before)
	wantSteady(t, honest)
	hubtest.Eventually(t, "is offline with its reason", func() bool {
		p := getDevice(t, h.Endpoint, "mute").Presence
		return !p.GetOnline() && p.GetReason() == "too slow to read"
	})
	wantAllStored(t, h.Endpoint, honest)
}
