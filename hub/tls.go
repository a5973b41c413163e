package hub

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// reloadInterval is how often, at most, a handshake looks whether the
// certificate on disk has changed, or whether a self-made one is due.
const reloadInterval = 5 * time.Second

// certificates serves the hub's certificate and follows its changes. Its get
// method may run at once from many handshakes.
type certificates struct {
	load func() (*tls.Certificate, stamp, error) // reads or makes the certificate
	now  func() stamp                            // of what load would read
	log  *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	stamp   stamp
	checked time.Time
}

// stamp tells one state of the certificate's source from another.
type stamp struct {
	cert, key time.Time
	due       bool
}

// newCertificates serves the files certFile and keyFile, or, when they are
// empty, certificates issued by ca for names.
func newCertificates(certFile, keyFile string, ca *authority, names []string, log *slog.Logger) (*certificates, error) {
	c := &certificates{log: log}
	if certFile != "" {
		c.now = func() stamp { return stamp{cert: modified(certFile), key: modified(keyFile)} }
		c.load = func() (*tls.Certificate, stamp, error) {
			at := c.now()
			pair, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				return nil, stamp{}, fmt.Errorf("load tls-cert and tls-key: %w", err)
			}
			return &pair, at, nil
		}
	} else {
		c.now = func() stamp {
			return stamp{due: c.current != nil && time.Until(c.current.Leaf.NotAfter) < certLifetime/2}
		}
		c.load = func() (*tls.Certificate, stamp, error) {
			cert, err := ca.issue(names)
			return cert, stamp{}, err
		}
	}
	var err error
	c.current, c.stamp, err = c.load()
	c.checked = time.Now()
	return c, err
}

// get is for tls.Config.GetCertificate. When a changed certificate cannot be
// loaded it goes on with the one before, and says so in the log.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < reloadInterval {
		return c.current, nil
	}
	c.checked = time.Now()
	if c.now() == c.stamp {
		return c.current, nil
	}
	cert, at, err := c.load()
	if err != nil {
		c.log.Error("certificate has changed but does not load; going on with the one before", "error", err)
		return c.current, nil
	}
	c.log.Info("certificate reloaded", "not_after", cert.Leaf.NotAfter)
	c.current, c.stamp = cert, at
	return c.current, nil
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// pinned is the config of a client within this process: it takes the
// certificate that is shown now, whoever has issued it, and no other.
func (c *certificates) pinned() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does what is left out
		VerifyConnection: func(state tls.ConnectionState) error {
			shown, err := c.get(nil)
			if err != nil {
				return err
			}
			if len(state.PeerCertificates) == 0 || !bytes.Equal(state.PeerCertificates[0].Raw, shown.Certificate[0]) {
				return errors.New("the server does not show the hub's own certificate")
			}
			return nil
		},
	}
}
