package firmwaresim

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"time"

	credential "github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
)

// strangerID is the device that strangers pretend to be, and whose way a
// middleman stands in.
const strangerID = "proof-stranger"

// Numbers of rows that no device of the fleet has sent: of somebody who has not
// proved himself, and of a device that has and speaks for another.
const (
	strangerRow = -1
	usurperRow  = -2
)

// strangerPatience is how long a stranger tries.
const strangerPatience = 10 * time.Second

// tryImpostor connects with an id that exists and a secret that is wrong: that
// of a fleet's device, and that of the stranger in turn.
func (r *proof) tryImpostor(ctx context.Context, f plannedFault) {
	c := r.stranger
	if f.pick%2 == 0 {
		c.ID = r.devices[f.pick/2%uint64(len(r.devices))].id
	}
	c.Secret[f.pick>>8%credential.SecretBytes] ^= 1 << (f.pick >> 16 % 8)
	r.tryStranger(ctx, client.Config{
		URL: r.hubURL, Credential: c, TLSConfig: secureConfig(r.hub.roots, 1),
		NetDialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.hub.addr)
		},
	}, "an impostor with a wrong secret")
}

// tryMiddleman lets the stranger's device, with its true credential, connect
// through somebody who terminates TLS with a certificate that it trusts.
func (r *proof) tryMiddleman(ctx context.Context) {
	certificate, err := forgedCertificate()
	if err != nil {
		r.find(promiseProofs, "forge a certificate: %v", err)
		return
	}
	m, err := startMiddleman(r.hub.addr, certificate, r.hub.roots)
	if err != nil {
		r.find(promiseProofs, "middleman: %v", err)
		return
	}
	defer m.close()
	trusted := r.hub.roots.Clone()
	trusted.AddCert(certificate.Leaf)
	r.tryStranger(ctx, client.Config{
		URL: "wss://" + m.listener.Addr().String() + credential.Path, Credential: r.stranger, TLSConfig: secureConfig(trusted, 1),
	}, "a device behind a middleman")
}

// tryStranger runs a device that must not get in, and must say nothing.
func (r *proof) tryStranger(ctx context.Context, config client.Config, who string) {
	config.FlushTimeout, config.DialTimeout = -1, 3*time.Second
	config.BackoffMin, config.BackoffMax = 50*time.Millisecond, time.Second
	var welcomed atomic.Bool
	config.OnStateChange = func(_ client.State, why error) {
		// The hub has sent its Welcome, with a proof for somebody else.
		welcomed.Store(welcomed.Load() || errors.Is(why, client.ErrHubProof))
	}
	c, err := client.New(config)
	if err != nil {
		r.find(promiseProofs, "%s: %v", who, err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, strangerPatience)
	defer cancel()
	_ = c.Publish(ctx, client.Reading(client.Int(fieldNumber, strangerRow)))
	err = c.Run(ctx)
	st := c.Stats()
	switch {
	case welcomed.Load():
		r.find(promiseProofs, "%s was welcomed by the hub", who)
	case st.Sessions > 0 || st.FramesSent > 0 || st.RowsAcked > 0:
		r.find(promiseProofs, "%s got in: %d sessions, %d frames sent, %d rows acknowledged", who, st.Sessions, st.FramesSent, st.RowsAcked)
	case errors.Is(err, client.ErrUnauthorized):
		r.count.strangersRefused.Add(1)
	case err != nil:
		r.find(promiseProofs, "%s was sent away with %v; want %v", who, err, client.ErrUnauthorized)
	default: // the hub was away all the time
		r.count.strangersUnheard.Add(1)
	}
}

// checkStranger looks for rows under the name of the stranger, which has sent
// none that the hub may take.
func (r *proof) checkStranger(ctx context.Context) error {
	c := &rowCheck{d: &provenDevice{id: strangerID, index: -1, ledger: new(rowLedger)}}
	if err := c.readStore(ctx, r.hub); err != nil {
		return err
	}
	r.judgeStranger(c)
	return nil
}

func (r *proof) judgeStranger(c *rowCheck) {
	r.strangerRows = c.stored
	if c.unknown > 0 {
		r.find(promiseProofs, "%d rows are stored under the name %s that were sent without a proof, or through a middleman", c.unknown, strangerID)
	}
	if others := c.stored - c.unknown; others > 0 {
		r.find(promiseOwnName, "%d rows are stored under the name %s that named another device", others, strangerID)
	}
}

// middleman terminates TLS and passes all on.
type middleman struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

func startMiddleman(hub string, certificate tls.Certificate, roots *x509.CertPool) (*middleman, error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return nil, err
	}
	m := &middleman{listener: listener}
	m.running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			m.running.Go(func() { m.carry(near, hub, roots) })
		}
	})
	return m, nil
}

func (m *middleman) carry(near net.Conn, hub string, roots *x509.CertPool) {
	far, err := tls.DialWithDialer(&net.Dialer{Timeout: 3 * time.Second}, "tcp", hub, secureConfig(roots, 1))
	if err != nil {
		_ = near.Close()
		return
	}
	m.mu.Lock()
	m.conns = append(m.conns, near, far)
	closed := m.closed
	m.mu.Unlock()
	var up sync.WaitGroup
	up.Go(func() { _, _ = io.Copy(far, near); _, _ = near.Close(), far.Close() })
	if !closed {
		_, _ = io.Copy(near, far)
	}
	_, _ = near.Close(), far.Close()
	up.Wait()
}

func (m *middleman) close() {
	_ = m.listener.Close()
	m.mu.Lock()
	m.closed = true
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.mu.Unlock()
	m.running.Wait()
}

func forgedCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "middleman"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(72 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
