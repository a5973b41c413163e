package client

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Bounds of the handshake.
const (
	handshakeTimeout = 10 * time.Second
	handshakeBytes   = 4 << 10
)

// prove runs the handshake: Challenge, Hello, Welcome. Nothing but the Hello
// leaves before the hub's proof is verified.
func (s *session) prove() error {
	deadline := time.Now().Add(handshakeTimeout)
	_ = s.ws.SetReadDeadline(deadline)
	_ = s.ws.SetWriteDeadline(deadline)
	s.ws.SetReadLimit(handshakeBytes)
	frame, err := s.read()
	if err != nil {
		return err
	}
	challenge := frame.GetChallenge()
	if challenge == nil || len(challenge.HubNonce) != device.NonceBytes || challenge.Protocol != device.Protocol {
		return fmt.Errorf("%w: no usable Challenge", ErrProtocol)
	}
	if err := s.hello(challenge); err != nil {
		return err
	}
	if frame, err = s.read(); err != nil {
		return err
	}
	welcome := frame.GetWelcome()
	if welcome == nil {
		return fmt.Errorf("%w: no Welcome after Hello", ErrProtocol)
	}
	if !s.credential.Secret.VerifyHub(&s.transcript, welcome.HubProof) {
		return ErrHubProof
	}
	return s.begin(welcome)
}

func (s *session) hello(challenge *devicev1.Challenge) error {
	c := s.c
	hello := &devicev1.Hello{
		DeviceId:       c.id,
		Generation:     s.credential.Generation,
		BindingType:    devicev1.BindingType_BINDING_TYPE_NONE,
		BootId:         c.bootID[:],
		Firmware:       c.cfg.Firmware,
		HeartbeatWishS: uint32(c.cfg.HeartbeatWish / time.Second),
	}
	s.transcript = device.Transcript{DeviceID: c.id, Generation: s.credential.Generation, BootID: c.bootID}
	copy(s.transcript.HubNonce[:], challenge.HubNonce)
	_, _ = rand.Read(s.transcript.DeviceNonce[:]) // it never fails
	hello.DeviceNonce = s.transcript.DeviceNonce[:]
	if !c.cfg.BindingNone {
		value, err := binding(s.ws)
		if err != nil {
			return err
		}
		s.transcript.Binding = value
		hello.BindingType = devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER
	}
	proof := s.credential.Secret.DeviceProof(&s.transcript)
	hello.DeviceProof = proof[:]
	data, err := proto.Marshal(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Hello{Hello: hello}})
	if err != nil {
		return fmt.Errorf("encode Hello: %w", err)
	}
	if err := s.ws.WriteMessage(websocket.BinaryMessage, data); err != nil {
		return s.writeError(err)
	}
	return nil
}

// begin takes what a proved hub says, and makes the session the client's.
func (s *session) begin(w *devicev1.Welcome) error {
	if w.HeartbeatIntervalS == 0 || w.HeartbeatIntervalS > 24*3600 {
		return fmt.Errorf("%w: heartbeat interval of %d s", ErrProtocol, w.HeartbeatIntervalS)
	}
	s.silence = time.Duration(w.HeartbeatIntervalS)*time.Second + pongTimeout
	// A hub that names no bound gets one frame at a time.
	s.windowFrames = max(int(w.WindowFrames), 1)
	s.windowBytes = int(w.WindowBytes)
	s.maxFrame = int(w.MaxFrameBytes)
	if s.maxFrame == 0 {
		s.maxFrame = MaxFrameBytes
	}
	s.c.promote(s.credential)
	c := s.c
	c.mu.Lock()
	mono := c.clock.mono()
	wrongClock := c.clock.learn(int64(w.ServerTimeUnixNs), mono)
	var done []settled
	if w.LastSeq <= c.window.last() {
		done = c.settleTo(w.LastSeq, nil)
	}
	c.window.restart()
	c.pausedUntil = time.Time{}
	c.session = s
	c.stats.Sessions++
	c.stats.Generation = s.credential.Generation
	c.date()
	s.describe = c.describe != nil && string(w.DescribeDigest) != string(c.describeDigest[:])
	c.mu.Unlock()
	if wrongClock && !c.cfg.ClockUnreliable {
		c.log.Warn("clock is not set or far off: using the hub's", "device", c.id)
	}
	c.reportAcks(done)
	c.executor.resume()
	return nil
}
