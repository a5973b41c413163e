package client

import (
	"fmt"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// A credential is renewed in three durable steps, so that a crash between any
// two leaves one that works: the next one is saved beside the current one; it
// is proved; it takes the current one's place.

// pickCredential is the next credential, unless the hub has refused it.
func (c *Client) pickCredential() device.Credential {
	if next := c.credentials.Next; next != nil && *next != c.refusedNext {
		return *next
	}
	return c.credentials.Current
}

// renew saves the credential that the hub hands over, and ends the session
// with errRenewed for the next one to prove it.
func (s *session) renew(r *devicev1.Renew) error {
	c := s.c
	if c.store == nil {
		c.log.Warn("hub offers a renewed credential, but there is no place to keep it", "device", c.id)
		return nil
	}
	if r.Generation <= s.credential.Generation {
		return fmt.Errorf("%w: Renew to generation %d from %d", ErrProtocol, r.Generation, s.credential.Generation)
	}
	secret, err := s.credential.Secret.OpenRenewal(&s.transcript, r.Generation, r.Nonce, r.SealedSecret)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	next := device.Credential{ID: c.id, Generation: r.Generation, Secret: secret}
	if next == c.refusedNext {
		c.log.Warn("hub offers a credential again that it did not accept", "device", c.id, "generation", r.Generation)
		return nil
	}
	renewed := Credentials{Current: s.credential, Next: &next}
	if err := c.store.Save(renewed); err != nil {
		c.log.Error("renewed credential cannot be saved; keeping the one in use", "device", c.id, "error", err)
		return nil
	}
	c.credentials = renewed
	return errRenewed
}

// promote makes a next credential that the hub has accepted the current one,
// or forgets one that it has refused.
func (c *Client) promote(proved device.Credential) {
	if c.credentials.Next == nil {
		return
	}
	now := Credentials{Current: proved}
	if err := c.store.Save(now); err != nil {
		// Both stay; the next one is tried first.
		c.log.Error("proved credential cannot be saved as the current one", "device", c.id, "error", err)
		return
	}
	c.credentials = now
	c.log.Info("credential in use", "device", c.id, "generation", proved.Generation)
}
