package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/gateway"
	"github.com/tetherline/tetherline/hub/session"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// frame is a WebSocket frame of a client; mask false breaks the rules.
func frame(first byte, payload []byte, mask bool) []byte {
	b := []byte{first}
	bit := byte(0)
	if mask {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, bit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(n))
	}
	if mask {
		b = append(b, 0, 0, 0, 0) // a mask of zeros
	}
	return append(b, payload...)
}

func TestHostileFramesAfterTheWelcome(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	bomb := func() []byte {
		b := frame(0x02, bytes.Repeat([]byte{1}, 1000), true)
		for range 100 {
			b = append(b, frame(0x00, bytes.Repeat([]byte{1}, 1000), true)...)
		}
		return b
	}
	for name, tt := range map[string]struct {
		bytes []byte
		code  int
	}{
		"text":               {frame(0x81, []byte("hello"), true), 1003},
		"not masked":         {frame(0x82, []byte("hello"), false), 1002},
		"reserved bit":       {frame(0xc2, []byte("hello"), true), 1002},
		"bad opcode":         {frame(0x83, nil, true), 1002},
		"long control frame": {frame(0x89, make([]byte, 126), true), 1002},
		"1 MB frame":         {frame(0x82, make([]byte, 1<<20), true), 1009},
		"a frame of 2^63":    {append([]byte{0x82, 0xff}, bytes.Repeat([]byte{0xff}, 12)...), 0},
		"fragment bomb":      {bomb(), 1009},
		"garbage":            {frame(0x82, []byte{0xff, 0xff, 0xff}, true), 4003},
		"a second hello":     {frame(0x82, []byte{0x0a, 0x00}, true), 4003},
		"two members":        {frame(0x82, []byte{0x12, 0x00, 0x1a, 0x00}, true), 4003},
		"no seq":             {frame(0x82, []byte{0x12, 0x00}, true), 4003},
		"update without id":  {frame(0x82, []byte{0x22, 0x00}, true), 4003},
		"bad close code":     {frame(0x88, []byte{0, 1}, true), 1002},
	} {
		t.Log(name)
		p := h.connect(c, 1)
		if _, err := p.ws.NetConn().Write(tt.bytes); err != nil {
			t.Logf("%s: write: %v", name, err)
		}
		if tt.code != 0 {
			p.wantClose(tt.code)
			continue
		}
		if _, err := p.read(); err == nil {
			t.Errorf("%s: not closed", name)
		}
	}
	eventually(t, "all are gone", func() bool { return h.gw.Connections() == 0 && h.metrics.Live.Load() == 0 })
}

// Fragments within the limit are one frame, and control frames may come in
// between.
func TestFragmentedFrameIsTaken(t *testing.T) {
	h := startHub(t, options{})
	p := h.connect(h.create("dev-1"), 1)
	p.sendReading(1)
	p.wantAck(1)
	whole := append([]byte(nil), p.hello...)
	whole = bytes.Replace(whole, []byte{0x08, 0x01}, []byte{0x08, 0x02}, 1) // seq 2
	nc := p.ws.NetConn()
	for _, b := range [][]byte{
		frame(0x02, whole[:3], true), frame(0x89, []byte("hi"), true), frame(0x00, nil, true), frame(0x80, whole[3:], true),
	} {
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	pong := make(chan string, 1)
	p.ws.SetPongHandler(func(s string) error { pong <- s; return nil })
	p.wantAck(2)
	if got := <-pong; got != "hi" {
		t.Errorf("pong = %q", got)
	}
}

// What comes with a member this hub does not know is ignored.
func TestUnknownFramesAreIgnored(t *testing.T) {
	h := startHub(t, options{})
	p := h.connect(h.create("dev-1"), 1)
	p.sendRaw([]byte{0x7a, 0x02, 0x01, 0x02})
	p.sendReading(1)
	p.wantAck(1)
	if n := h.metrics.Unknown.Load(); n != 1 {
		t.Errorf("%d unknown frames", n)
	}
}

// Connections on which nothing happens do not keep a device out, and are cut
// off.
func TestHalfOpenConnectionsDoNotShutOthersOut(t *testing.T) {
	h := startHub(t, options{listener: gateway.ListenerConfig{MaxStrangers: 20, MaxStrangersPerAddr: 20, Grace: 200 * time.Millisecond}})
	c := h.create("dev-1")
	var idle []net.Conn
	defer func() {
		for _, nc := range idle {
			_ = nc.Close()
		}
	}()
	for i := range 60 {
		nc, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, nc)
		if i%3 == 0 { // a slow handshake
			_, _ = nc.Write([]byte{0x16, 0x03, 0x01})
		}
	}
	eventually(t, "strangers are in", func() bool { return h.ln.Strangers() >= 20 })
	if n := h.ln.Strangers(); n > 20 {
		t.Fatalf("%d strangers, 20 allowed", n)
	}
	done := make(chan *peer, 1)
	go func() {
		p := h.dial()
		done <- p
	}()
	select {
	case p := <-done:
		p.handshake(c, 1)
	case <-time.After(patience):
		t.Fatal("a device was kept out")
	}
	if h.ln.Evicted.Load() == 0 {
		t.Error("nobody was cut off")
	}
}

func TestOneAddressHasItsShare(t *testing.T) {
	h := startHub(t, options{listener: gateway.ListenerConfig{MaxStrangers: 100, MaxStrangersPerAddr: 5}})
	for range 12 {
		nc, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
	}
	eventually(t, "the rest is refused", func() bool { return h.ln.Refused.Load() >= 7 })
	if n := h.ln.Strangers(); n != 5 {
		t.Errorf("%d strangers, want 5", n)
	}
}

// A request that trickles in is cut off by the server's own limit.
func TestSlowRequestIsCutOff(t *testing.T) {
	t.Parallel()
	h := startHub(t, options{})
	nc, err := tls.Dial("tcp", h.addr, &tls.Config{RootCAs: h.roots})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	if _, err := fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: x\r\n", device.Path); err != nil {
		t.Fatal(err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	var timeout net.Error
	if _, err := io.Copy(io.Discard, nc); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("still open")
	}
}

func TestStrangersAreLimited(t *testing.T) {
	h := startHub(t, options{gateway: gateway.Config{
		MaxHandshakes: 8, MaxHandshakesPerAddr: 2, AddrRate: 0.001, AddrBurst: 4,
	}})
	c := h.create("dev-1")
	first, second := h.dial(), h.dial()
	resp := h.get(func(*http.Request) {})
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("a third handshake of an address: %s", resp.Status)
	}
	// Devices that prove themselves cost nothing, however many.
	first.handshake(c, 1)
	for range 10 {
		h.connect(c, 1)
	}
	// Failures do.
	_ = second.ws.Close()
	eventually(t, "a free place", func() bool { return h.gwm.Handshakes.Load() == 0 })
	for range 3 {
		p := h.dial()
		p.sendHello(p.helloOf(device.Credential{ID: "nobody", Generation: 1}, 1))
		p.wantClose(4500)
		eventually(t, "a free place", func() bool { return h.gwm.Handshakes.Load() == 0 })
	}
	if resp := h.get(func(*http.Request) {}); resp.StatusCode != 429 {
		t.Fatalf("a fifth attempt: %s", resp.Status)
	}
	if n := h.gwm.Refusals[gateway.TooManyAttempts].Load(); n != 1 {
		t.Errorf("%d too many attempts", n)
	}
}

func TestForwardedAddressOnlyFromTrustedProxies(t *testing.T) {
	// 127.0.0.1 is not trusted here: every request counts for it.
	h := startHub(t, options{gateway: gateway.Config{MaxHandshakesPerAddr: 1}})
	d := h.dialer()
	ws, _, err := d.Dial("wss://"+h.addr+device.Path, http.Header{"X-Forwarded-For": {"192.0.2.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.Close() }()
	_, resp, err := d.Dial("wss://"+h.addr+device.Path, http.Header{"X-Forwarded-For": {"192.0.2.2"}})
	if err == nil || resp == nil || resp.StatusCode != 429 {
		t.Fatalf("a forged address was believed: %v", err)
	}
}

// A device that never reads is found by what is queued for it, and costs no
// more than that.
func TestDeviceThatNeverReadsIsClosed(t *testing.T) {
	h := startHub(t, options{limits: session.Limits{MaxQueuedBytes: 64 << 10}})
	h.connect(h.create("dev-1"), 1)
	big := &devicev1.HubFrame{Frame: &devicev1.HubFrame_Command{Command: &devicev1.Command{
		Id: "c", Name: "n", Payload: &devicev1.Command_Json{Json: strings.Repeat("x", 16<<10)},
	}}}
	eventually(t, "too slow to read", func() bool {
		for range 64 {
			if _, ok := h.table.Send("dev-1", big); !ok {
				return true
			}
		}
		return false
	})
	eventually(t, "the device is offline", func() bool { return !h.table.Presence("dev-1").Online })
	if got := h.table.Presence("dev-1").Reason; got != "too slow to read" {
		t.Errorf("reason = %q", got)
	}
	eventually(t, "the connection is gone", func() bool { return h.gw.Connections() == 0 })
}

// A peer that sends the upgrade and frames in one go, as no WebSocket client
// does, is refused without harm.
func TestFramesBeforeTheUpgrade(t *testing.T) {
	h := startHub(t, options{})
	nc, err := tls.Dial("tcp", h.addr, &tls.Config{RootCAs: h.roots})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	request := "GET " + device.Path + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tetherline.v1\r\n\r\n"
	if _, err := nc.Write(append([]byte(request), frame(0x82, make([]byte, 100), true)...)); err != nil {
		t.Fatal(err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	_, _ = bufio.NewReader(nc).ReadByte()
	eventually(t, "no place is taken", func() bool { return h.gw.Connections() == 0 && h.gwm.Handshakes.Load() == 0 })
}

// The close frame reaches a device that is still sending: the hub takes in
// what is under way before it closes, so that the connection is not reset.
func TestCloseFrameIsNotLostToAReset(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	const linger = 400 * time.Millisecond // of the 500 that the hub gives
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		p := h.connect(c, 1)
		p.ws.SetCloseHandler(func(int, string) error { return nil }) // no answer yet
		began := time.Now()
		nc := p.ws.NetConn()
		if _, err := nc.Write(frame(0x82, make([]byte, 100<<10), true)[:20]); err != nil {
			t.Fatal(err)
		}
		p.wantClose(1009)
		var err error
		for i := 0; i < 10 && err == nil; i++ {
			_, err = nc.Write(make([]byte, 1<<10))
		}
		if took := time.Since(began); took < linger {
			if err != nil {
				t.Errorf("the connection was reset after %v: %v", took, err)
			}
			return
		}
	}
	t.Fatal("the machine is too slow to tell")
}
