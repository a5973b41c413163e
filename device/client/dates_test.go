package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"
)

// A device that does not know the time takes a certificate whose dates it
// cannot judge, and no other device does.
func TestDatesOfACertificateCountOnceThereIsATime(t *testing.T) {
	year1990 := func() time.Time { return time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC) }
	for name, test := range map[string]struct {
		change func(*Config)
		want   bool
	}{
		"a clock":             {func(*Config) {}, false},
		"no clock":            {func(c *Config) { c.Clock = year1990 }, true},
		"an unreliable clock": {func(c *Config) { c.ClockUnreliable = true }, true},
		"no binding":          {func(c *Config) { c.Clock, c.BindingNone = year1990, true }, false},
		"another CA":          {func(c *Config) { c.Clock, c.RootCAs = year1990, newPeer(t).roots() }, false},
		"another name":        {func(c *Config) { c.Clock, c.TLSConfig = year1990, &tls.Config{ServerName: "other.example"} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			hub := newPeer(t)
			expired := expiredCertificate(t)
			hub.server.TLS.Certificates = []tls.Certificate{expired}
			cfg := hub.config()
			cfg.RootCAs = x509.NewCertPool()
			cfg.RootCAs.AddCert(expired.Leaf)
			test.change(&cfg)
			reasons := states(&cfg)
			start(t, cfg)
			if test.want {
				hub.accept(t).welcome()
				return
			}
			var refused *tls.CertificateVerificationError
			for wait := time.After(patience); ; {
				select {
				case err := <-reasons:
					if errors.As(err, &refused) {
						return
					}
				case <-wait:
					t.Fatal("the certificate is not refused")
				}
			}
		})
	}
}

// expiredCertificate is for 127.0.0.1, and from the year 2020.
func expiredCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
