package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// randomBytes fills b. crypto/rand ends the process where the system has no
// randomness.
func randomBytes(b []byte) { _, _ = rand.Read(b) }

// handshake has the device prove itself, enters it into the table and proves
// the hub. Its errors are those of the Conn and *Violation.
func (s *Session) handshake(ctx context.Context) error {
	p, outcome, err := s.admission()
	if err == nil {
		s.conn.Authenticated(s.deps.Limits.MaxFrameBytes)
		if err = s.attach(p.dev); err != nil {
			outcome = Refused
		}
	}
	s.deps.Metrics.Handshakes[outcome].Add(1)
	if err != nil {
		return err
	}
	s.welcome(&p)
	dev := p.dev
	if dev.Retiring != nil && dev.Clone().Proved(s.generation) {
		s.retireOlder(ctx)
	}
	// A rotation that the device was away for, or one since the look above.
	if now, ok := s.deps.Registry.Get(s.id); ok {
		s.offerNewest(now)
	}
	if s.deps.Commands != nil {
		s.deps.Commands.Connected(s.id, s.epoch)
	}
	return nil
}

// proven is a device that has proved itself, and what the hub's own proof
// needs: it is not kept beyond the handshake.
type proven struct {
	dev        *registry.Device
	wish       uint32 // heartbeat interval that it asks for, in s; 0: none
	secret     device.Secret
	transcript device.Transcript
}

// admission is the challenge and the device's answer to it.
func (s *Session) admission() (p proven, outcome Outcome, err error) {
	randomBytes(s.hubNonce[:])
	s.setReadDeadline(time.Now().Add(HandshakeTimeout))
	s.queue(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Challenge{Challenge: &devicev1.Challenge{
		HubNonce: s.hubNonce[:], ServerTimeUnixNs: uint64(time.Now().UnixNano()), Protocol: device.Protocol,
	}}})
	buf, err := s.conn.ReadFrame()
	if err != nil {
		return p, outcomeOf(err), err
	}
	hello, err := parseHello(buf.B)
	buf.Free()
	if err != nil {
		return p, outcomeOf(err), err
	}
	if p, err = s.verify(hello); err != nil {
		return p, outcomeOf(err), err
	}
	return p, Accepted, nil
}

func outcomeOf(err error) Outcome {
	var violation *Violation
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return TimedOut
	case !errors.As(err, &violation):
		return Aborted
	case violation.Code == CloseUnauthorized:
		return Unauthorized
	case violation.Code == CloseDisabled:
		return Disabled
	case violation.Code == CloseUnsupportedVersion:
		return Unsupported
	case violation.Code == CloseInternal:
		return Aborted
	}
	return Malformed
}

// parseHello decodes the first frame. What it refuses is refused for every
// device alike: nothing of the registry is known yet.
func parseHello(frame []byte) (*devicev1.Hello, error) {
	kind, body, err := splitFrame(frame)
	switch {
	case err != nil:
		return nil, err
	case kind == frameUnknown:
		return nil, &Violation{Code: CloseUnsupportedVersion, Reason: "this hub speaks " + device.Protocol}
	case kind != frameHello:
		return nil, forbidden("the first frame must be a Hello")
	}
	h := new(devicev1.Hello)
	if err := proto.Unmarshal(body, h); err != nil {
		return nil, forbidden("malformed Hello")
	}
	switch {
	case device.CheckID(h.GetDeviceId()) != nil:
		return nil, forbidden("malformed Hello: device_id")
	case h.GetGeneration() == 0:
		return nil, forbidden("malformed Hello: generation")
	case len(h.GetDeviceNonce()) != device.NonceBytes:
		return nil, forbidden("malformed Hello: device_nonce")
	case len(h.GetDeviceProof()) != device.ProofBytes:
		return nil, forbidden("malformed Hello: device_proof")
	case len(h.GetBootId()) != device.BootIDBytes:
		return nil, forbidden("malformed Hello: boot_id")
	case h.GetBindingType() != devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER &&
		h.GetBindingType() != devicev1.BindingType_BINDING_TYPE_NONE:
		return nil, forbidden("malformed Hello: binding_type")
	}
	return h, nil
}

func forbidden(reason string) *Violation { return &Violation{Code: CloseForbidden, Reason: reason} }

// verify checks the device's proof. An unknown device, a wrong proof, a dead
// generation and a binding that may not be do the same work, a secret derived
// and a proof computed, and get the same answer. That a device is disabled is
// told to the device alone.
func (s *Session) verify(h *devicev1.Hello) (p proven, err error) {
	id, generation := h.GetDeviceId(), h.GetGeneration()
	dev, known := s.deps.Registry.Get(id)
	keyID, accepted := "", false
	if known {
		if keyID, accepted = dev.KeyOf(generation, time.Now()); !accepted {
			keyID = dev.KeyID
		}
		accepted = accepted && dev.Kind != registry.KindMQTT
	}
	secret, ok := s.deps.Keyring.Secret(keyID, id, generation)
	if !ok {
		accepted = false
		secret = s.deps.decoy.Secret(id, generation)
	}

	s.bound = h.GetBindingType() == devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER
	allowed := s.bound || s.conn.AllowsUnbound() || known && dev.AllowUnbound
	copy(s.deviceNonce[:], h.GetDeviceNonce())
	copy(s.boot[:], h.GetBootId())
	s.id, s.generation, s.keyID = id, generation, keyID
	t := s.transcript()
	if s.bound && len(t.Binding) != device.BindingBytes {
		allowed = false
	}

	proved := secret.VerifyDevice(&t, h.GetDeviceProof())
	if !known || !accepted || !allowed || !proved {
		return p, s.unauthorized()
	}
	if dev.Disabled {
		return p, &Violation{Code: CloseDisabled}
	}
	s.id = dev.ID // shares the registry's memory
	s.firmware = cut(h.GetFirmware(), MaxFirmwareBytes)
	return proven{dev: dev, wish: h.GetHeartbeatWishS(), secret: secret, transcript: t}, nil
}

// unauthorized turns a device away for good, unless this node may not know it
// only because it does not follow the registry at present: then it may come
// again.
func (s *Session) unauthorized() *Violation {
	if s.deps.Registry.Check() != nil {
		return &Violation{Code: CloseInternal, Reason: "this node does not follow the registry at present"}
	}
	return &Violation{Code: CloseUnauthorized}
}

// transcript of this handshake. It is made anew where it is needed, so that
// an idle session does not carry it.
func (s *Session) transcript() device.Transcript {
	t := device.Transcript{
		DeviceID: s.id, Generation: s.generation,
		HubNonce: s.hubNonce, DeviceNonce: s.deviceNonce, BootID: s.boot,
	}
	if s.bound {
		t.Binding = s.conn.Binding()
	}
	return t
}

// attach enters the session into the table, and then looks once more: a
// change that came before the table knew the session was told to nobody.
func (s *Session) attach(dev *registry.Device) error {
	s.Relabel(dev)
	epoch, memory, err := s.deps.Table.Attach(s)
	if err != nil {
		return err
	}
	s.epoch, s.memory, s.attached = epoch, memory, true
	s.deps.Metrics.Live.Add(1)
	now, ok := s.deps.Registry.Get(s.id)
	if !ok {
		return s.unauthorized()
	}
	s.Changed(now)
	return nil
}

// welcome queues the hub's proof. It is the first frame that a device gets
// after the challenge: others may Send only from here on.
func (s *Session) welcome(p *proven) {
	l := &s.deps.Limits
	s.interval = l.Heartbeat
	if p.wish != 0 {
		s.interval = min(max(time.Duration(p.wish)*time.Second, MinHeartbeat), MaxHeartbeat)
	}
	s.interval = s.interval.Round(time.Second)
	proof := p.secret.HubProof(&p.transcript)
	w := &devicev1.Welcome{
		HubProof: proof[:], ServerTimeUnixNs: uint64(time.Now().UnixNano()), SessionEpoch: s.epoch,
		HeartbeatIntervalS: uint32(s.interval / time.Second),
		WindowFrames:       uint32(l.WindowFrames), WindowBytes: uint32(l.WindowBytes),
		MaxFrameBytes: uint32(l.MaxFrameBytes), LastSeq: s.memory.begin(s.boot),
	}
	if len(p.dev.Describe) > 0 {
		digest := sha256.Sum256(p.dev.Describe)
		w.DescribeDigest = digest[:]
	}
	s.queue(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Welcome{Welcome: w}})
	s.mu.Lock()
	s.open = true
	s.mu.Unlock()
	s.setReadDeadline(time.Time{})
	s.heard.Store(s.deps.Wheel.now())
	s.deps.Wheel.add(s)
	s.deps.Logger.Info("device connected", "device", s.id, "epoch", s.epoch,
		"remote", s.conn.RemoteAddr(), "generation", s.generation, "firmware", s.firmware, "bound", s.bound)
}

// cut is s as valid UTF-8 of at most n bytes, in memory of its own.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return strings.Clone(s)
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n])
}
