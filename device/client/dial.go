package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tetherline/tetherline/device"
)

// Buffers of a connection. The read buffer is held for the life of it; the
// write buffer only while a message is written, and all clients share them.
const (
	readBufferBytes  = 512
	writeBufferBytes = 8 << 10
)

var writeBuffers sync.Pool

// tlsConfig of the connection; nil for ws://.
func (cfg *Config) tlsConfig() (*tls.Config, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("client config: URL: %w", err)
	}
	if u.Scheme != "wss" {
		return nil, nil
	}
	base := cfg.TLSConfig
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		t = base.Clone()
		t.MinVersion = max(t.MinVersion, tls.VersionTLS12)
	}
	if cfg.RootCAs != nil {
		t.RootCAs = cfg.RootCAs
	}
	if t.ServerName == "" {
		t.ServerName = u.Hostname()
	}
	if t.ClientSessionCache == nil {
		t.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return t, nil
}

// dial opens the WebSocket connection. Errors are *DialError.
func (c *Client) dial(work context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(work, c.cfg.DialTimeout)
	defer cancel()
	// The dialer looks at ctx until TCP and TLS are up; closing the
	// connection ends its wait for the HTTP answer.
	var guards []func() bool
	defer func() {
		for _, stop := range guards {
			stop()
		}
	}()
	guard := func(conn net.Conn) net.Conn {
		guards = append(guards, context.AfterFunc(ctx, func() { conn.Close() }))
		return conn
	}
	d := websocket.Dialer{
		Subprotocols:    []string{device.Protocol},
		ReadBufferSize:  readBufferBytes,
		WriteBufferSize: writeBufferBytes,
		WriteBufferPool: &writeBuffers,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := c.cfg.NetDialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return guard(conn), nil
		},
		NetDialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := c.cfg.NetDialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			secure := tls.Client(conn, c.secureConfig())
			if err := secure.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return guard(secure), nil
		},
	}
	ws, resp, err := d.DialContext(ctx, c.cfg.URL, nil)
	if err != nil {
		dialErr := &DialError{Err: err}
		if resp != nil {
			dialErr.Status = resp.StatusCode
			dialErr.RetryAfter = retryAfter(resp)
		}
		return nil, dialErr
	}
	if ws.Subprotocol() != device.Protocol {
		return nil, &DialError{Err: errors.Join(
			fmt.Errorf("%w: subprotocol %q instead of %q", ErrProtocol, ws.Subprotocol(), device.Protocol), ws.Close())}
	}
	return ws, nil
}

// retryAfter of an answer with status 429 or 503, to maxRetrySlot; RFC 9110,
// section 10.2.3: seconds or a date.
func retryAfter(resp *http.Response) time.Duration {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return min(max(time.Duration(seconds)*time.Second, 0), maxRetrySlot)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), maxRetrySlot)
	}
	return 0
}

// binding is the TLS exporter of the connection, RFC 9266.
func binding(ws *websocket.Conn) ([]byte, error) {
	secure, ok := ws.NetConn().(*tls.Conn)
	if !ok {
		return nil, errors.New("channel binding needs TLS")
	}
	state := secure.ConnectionState()
	value, err := state.ExportKeyingMaterial(device.ExporterLabel, nil, device.BindingBytes)
	if err != nil {
		return nil, fmt.Errorf("channel binding: %w", err)
	}
	return value, nil
}
