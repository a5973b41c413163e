package client

import (
	"errors"
	"slices"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// claim sends a Welcome with this proof.
func (c *peerConn) claim(proof []byte) {
	c.t.Helper()
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Welcome{Welcome: &devicev1.Welcome{
		HubProof: proof, HeartbeatIntervalS: 25, WindowFrames: 9, WindowBytes: 1 << 20, MaxFrameBytes: MaxFrameBytes,
	}}})
}

// A Welcome without the one right proof is no Welcome: the device says so,
// sends no reading, and keeps it for its own hub.
func TestNothingLeavesBeforeTheHubHasProvedItself(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	reasons := states(&cfg)
	c := start(t, cfg)
	c.publish(t, 1)
	for _, tt := range []struct {
		name  string
		proof func(c *peerConn, right []byte) []byte
	}{
		{"none", func(*peerConn, []byte) []byte { return nil }},
		{"zeros", func(*peerConn, []byte) []byte { return make([]byte, device.ProofBytes) }},
		{"its first byte", func(_ *peerConn, right []byte) []byte { return right[:1] }},
		{"all but its last byte", func(_ *peerConn, right []byte) []byte { return right[:len(right)-1] }},
		{"a byte too many", func(_ *peerConn, right []byte) []byte { return append(right, 0) }},
		{"a wrong first bit", func(_ *peerConn, right []byte) []byte { right[0] ^= 0x80; return right }},
		{"a wrong last bit", func(_ *peerConn, right []byte) []byte { right[len(right)-1] ^= 1; return right }},
		{"the device's own proof", func(c *peerConn, _ []byte) []byte { return c.hello.DeviceProof }},
		{"of another secret", func(c *peerConn, _ []byte) []byte {
			proof := device.MasterKey{8}.Secret(c.hello.DeviceId, c.hello.Generation).HubProof(&c.transcript)
			return proof[:]
		}},
	} {
		t.Log(tt.name)
		conn := hub.accept(t)
		conn.challenge()
		right := conn.secret().HubProof(&conn.transcript)
		conn.claim(tt.proof(conn, right[:]))
		conn.wantClose(websocket.ClosePolicyViolation)
		wantReason(t, reasons, ErrHubProof)
		if got := c.Stats(); got.Sessions != 0 || got.FramesSent != 0 {
			t.Fatalf("%s: a session with an impostor: %+v", tt.name, got)
		}
	}
	hub.accept(t).welcome().telemetry(1) // the reading is not lost
}

// Whoever has recorded a session, and plays the hub's part of it again, is not
// believed: the device's nonce is another one each time. Without a TLS channel
// in the proof it alone tells the two apart.
func TestRecordedWelcomeIsNotBelieved(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.BindingNone = true
	reasons := states(&cfg)
	c := start(t, cfg)
	first := hub.accept(t).welcome()
	eventually(t, "online", func() bool { return c.State() == Online })
	recorded := first.secret().HubProof(&first.transcript)
	first.close(websocket.CloseGoingAway, "")
	if err := <-reasons; errors.Is(err, ErrHubProof) {
		t.Fatal(err)
	}

	second := hub.accept(t)
	c.publish(t, 1)
	second.challengeWith(first.transcript.HubNonce)
	if slices.Equal(second.hello.DeviceNonce, first.hello.DeviceNonce) {
		t.Error("the device's nonce is the same on two connections")
	}
	second.claim(recorded[:])
	second.wantClose(websocket.ClosePolicyViolation)
	wantReason(t, reasons, ErrHubProof)
	if got := c.Stats(); got.Sessions != 1 || got.FramesSent != 0 {
		t.Errorf("a session with a recording: %+v", got)
	}
	hub.accept(t).welcome().telemetry(1)
}
