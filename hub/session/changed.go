package session

import (
	"context"
	"errors"
	"time"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Changed tells the session what its device has become: it ends where the
// device is disabled or its credential no longer works.
func (s *Session) Changed(dev *registry.Device) {
	switch {
	case dev.Disabled:
		s.Stop(CloseDisabled, "")
	case !dev.Accepts(s.generation, time.Now()):
		s.Stop(CloseRenewed, "")
	default:
		s.Relabel(dev)
		s.offerNewest(dev)
	}
}

// offerNewest hands over the newest credential to a device that has proved an
// older one, so that it is not locked out when that one's grace ends.
func (s *Session) offerNewest(dev *registry.Device) {
	s.mu.Lock()
	ready := s.open && !s.stopped
	s.mu.Unlock()
	if !ready || dev.Generation <= s.generation || !dev.Accepts(s.generation, time.Now()) {
		return
	}
	next, ok := s.deps.Keyring.Secret(dev.KeyID, s.id, dev.Generation)
	if !ok {
		return
	}
	if err := s.Renew(next, dev.Generation); err != nil {
		s.deps.Logger.Warn("credential could not be handed over", "device", s.id, "generation", dev.Generation, "error", err)
	}
}

// retireOlder makes it durable that the device has proved its newest
// credential. The welcome is on its way already. Where it fails, the older
// credential works on until the next connection or the end of its grace.
func (s *Session) retireOlder(ctx context.Context) {
	err := s.call(ctx, func(ctx context.Context) error {
		_, err := s.deps.Registry.Update(ctx, s.id, func(d *registry.Device) error {
			d.Proved(s.generation)
			return nil
		})
		return err
	})
	if err != nil {
		s.deps.Logger.Warn("superseded credential could not be retired", "device", s.id, "error", err)
	}
}

// Renew hands the device the secret of its next generation, sealed so that
// only who proved the present one on this connection can open it. It does so
// once for each generation.
func (s *Session) Renew(next device.Secret, generation uint32) error {
	s.mu.Lock()
	known := s.renewed >= generation
	s.renewed = max(s.renewed, generation)
	s.mu.Unlock()
	if known {
		return nil
	}
	secret, ok := s.deps.Keyring.Secret(s.keyID, s.id, s.generation)
	if !ok {
		return errors.New("the master key of the device's present credential is gone")
	}
	t := s.transcript()
	if s.bound && len(t.Binding) != device.BindingBytes {
		return ErrEnded
	}
	var nonce [device.RenewNonceBytes]byte
	randomBytes(nonce[:])
	err := s.Send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Renew{Renew: &devicev1.Renew{
		Generation: generation, Nonce: nonce[:], SealedSecret: secret.SealRenewal(&t, next, generation, nonce),
	}}})
	if err == nil {
		s.deps.Metrics.Renewals.Add(1)
	}
	return err
}
