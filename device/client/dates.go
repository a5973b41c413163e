package client

import (
	"crypto/tls"
	"crypto/x509"
)

// secureConfig is the TLS config for the next connection. A device that does
// not know the time cannot judge the dates of a certificate, and would never
// reach the hub that has it: it leaves them out. The channel binding makes up
// for that, since the hub's proof then covers this very connection; without it
// the dates count.
func (c *Client) secureConfig() *tls.Config {
	c.mu.Lock()
	known := c.clock.known()
	c.mu.Unlock()
	if known || c.cfg.BindingNone || c.tls.InsecureSkipVerify {
		return c.tls
	}
	return withoutDates(c.tls)
}

// withoutDates is a config that checks chain and name as t does, but as of the
// day on which the certificate was issued.
func withoutDates(t *tls.Config) *tls.Config {
	d := t.Clone()
	d.InsecureSkipVerify = true // VerifyConnection does it, on a resumed connection too
	d.VerifyConnection = func(s tls.ConnectionState) error {
		leaf := s.PeerCertificates[0]
		between := x509.NewCertPool()
		for _, cert := range s.PeerCertificates[1:] {
			between.AddCert(cert)
		}
		chains, err := leaf.Verify(x509.VerifyOptions{
			Roots: t.RootCAs, Intermediates: between, DNSName: t.ServerName, CurrentTime: leaf.NotBefore,
		})
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
		}
		if t.VerifyConnection == nil {
			return nil
		}
		s.VerifiedChains = chains
		return t.VerifyConnection(s)
	}
	return d
}
