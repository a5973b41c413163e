package mqttbridge

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Bounds of a connection to a broker.
const (
	connectTimeout = 10 * time.Second
	pingTimeout    = 10 * time.Second
	writeTimeout   = 10 * time.Second // of what is under way to the broker
)

// dialer is how a broker is reached.
type dialer struct {
	url      string
	user     string
	password func() (string, error) // read anew at each connect
	tls      func() (*tls.Config, error)
	dial     func(ctx context.Context, address string) (net.Conn, error)
	// endpoint says url, user, password and tls at each connect; nil: they
	// are above.
	endpoint func() (url, user, password string, config *tls.Config)
	// taken waits until what waits for a client in the broker is acknowledged;
	// nil: the broker keeps it when a subscription ends.
	taken func(ctx context.Context, clientID string) error

	keepAlive, pingTimeout time.Duration

	urgent *atomic.Bool // an answer is awaited: nothing is gathered
}

// newDialer of a broker of the config.
func newDialer(b *BrokerConfig, embedded *Embedded) (*dialer, error) {
	d := &dialer{
		url: b.URL, user: b.User, password: b.password, tls: b.tlsConfig, dial: dialTCP,
		keepAlive: cmp.Or(b.KeepAlive, DefaultKeepAlive), urgent: new(atomic.Bool),
	}
	d.pingTimeout = min(pingTimeout, d.keepAlive)
	if b.URL != EmbeddedURL {
		return d, nil
	}
	if embedded == nil {
		return nil, errors.New("url: the hub has no broker of its own; give it --mqtt-listen")
	}
	d.endpoint, d.taken = embedded.Endpoint, embedded.Taken
	if embedded.Dial != nil {
		d.dial = func(ctx context.Context, _ string) (net.Conn, error) { return embedded.Dial(ctx) }
	}
	return d, nil
}

// now is the dialer for one connection.
func (d *dialer) now() *dialer {
	if d.endpoint == nil {
		return d
	}
	e := *d
	var password string
	var config *tls.Config
	e.url, e.user, password, config = d.endpoint()
	e.password = func() (string, error) { return password, nil }
	e.tls = func() (*tls.Config, error) { return config, nil }
	return &e
}

// password reads the password file; "" where there is none.
func (b *BrokerConfig) password() (string, error) {
	if b.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(b.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password-file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// tlsConfig is nil for tcp://.
func (b *BrokerConfig) tlsConfig() (*tls.Config, error) {
	u, err := url.Parse(b.URL)
	if err != nil || u.Scheme != "ssl" {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if b.CA != "" {
		text, err := os.ReadFile(b.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca: %s holds no certificate in PEM", b.CA)
		}
	}
	if b.Cert != "" {
		pair, err := tls.LoadX509KeyPair(b.Cert, b.Key)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// open makes the network connection, TLS included, within connectTimeout.
func (d *dialer) open(ctx context.Context) (*packetConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	u, err := url.Parse(d.url)
	if err != nil {
		return nil, err
	}
	config, err := d.tls()
	if err != nil {
		return nil, err
	}
	conn, err := d.dial(ctx, u.Host)
	if err != nil {
		return nil, err
	}
	if config == nil {
		return d.packets(conn), nil
	}
	if config.ServerName == "" && !config.InsecureSkipVerify {
		config = config.Clone()
		config.ServerName = u.Hostname()
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return d.packets(secure), nil
}

func (d *dialer) packets(conn net.Conn) *packetConn {
	c := newPacketConn(conn)
	c.urgent = d.urgent
	return c
}

// options of a client for one connection: it neither reconnects nor stores
// anything, and calls handler for every message, in order; messages are
// acknowledged by Ack alone. The connection ends with ctx.
func (d *dialer) options(ctx context.Context, clientID string, handler mqtt.MessageHandler) (*mqtt.ClientOptions, error) {
	return d.optionsWith(ctx, clientID, handler, func(*packetConn) {})
}

// optionsWith is options, with opened called for the network connection before
// it is used.
func (d *dialer) optionsWith(ctx context.Context, clientID string, handler mqtt.MessageHandler, opened func(*packetConn)) (*mqtt.ClientOptions, error) {
	d = d.now()
	password, err := d.password()
	if err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions().AddBroker(d.url).SetClientID(clientID).SetUsername(d.user).SetPassword(password)
	o.SetProtocolVersion(4).SetCleanSession(false)
	o.SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false).SetStore(noStore{})
	o.SetOrderMatters(true).SetAutoAckDisabled(true).SetDefaultPublishHandler(handler)
	o.SetKeepAlive(d.keepAlive).SetPingTimeout(d.pingTimeout).SetConnectTimeout(connectTimeout).SetWriteTimeout(writeTimeout)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		conn, err := d.open(ctx)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		opened(conn)
		return conn, nil
	})
	return o, nil
}

// noStore keeps nothing: what comes in is kept by the broker until it is
// acknowledged, and what goes out is never sent again on another connection.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
