package mqtttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// CAFile is the PEM file of the CA of a broker with TLS.
func (b *Broker) CAFile() string { return filepath.Join(b.dir, caFile) }

// ClientCertFiles are the PEM files of a certificate that a broker with
// ClientCertTLS accepts.
func (b *Broker) ClientCertFiles() (cert, key string) {
	return filepath.Join(b.dir, clientCertFile), filepath.Join(b.dir, clientKeyFile)
}

// makeCertificates makes a CA and what it issues, and returns the config of
// clients.
func (b *Broker) makeCertificates(t testing.TB, clients bool) *tls.Config {
	t.Helper()
	ca := &pair{}
	ca.make(t, ca, &x509.Certificate{
		Subject: pkix.Name{CommonName: "CA of a test's broker"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	b.write(t, caFile, ca.certPEM())
	server := &pair{}
	server.make(t, ca, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost"},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	b.write(t, certFile, server.certPEM())
	b.write(t, keyFile, server.keyPEM(t))
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(ca.cert)
	if clients {
		client := &pair{}
		client.make(t, ca, &x509.Certificate{
			Subject:     pkix.Name{CommonName: "client"},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		b.write(t, clientCertFile, client.certPEM())
		b.write(t, clientKeyFile, client.keyPEM(t))
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{client.cert.Raw}, PrivateKey: client.key}}
	}
	return config
}

type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// make fills p with a certificate that issuer signs, for an hour around now.
func (p *pair) make(t testing.TB, issuer *pair, template *x509.Certificate) {
	t.Helper()
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := issuer.cert
	if issuer == p {
		parent = template
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &p.key.PublicKey, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
}

func (p *pair) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

func (p *pair) keyPEM(t testing.TB) []byte {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}
