package firmwaresim

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// dialFunc opens a TCP connection.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// badLink makes connections that are slow and are cut after a while: a radio
// at the edge of its range.
type badLink struct {
	latency  time.Duration // of each write
	lifetime time.Duration // mean time until the link is cut

	mu  sync.Mutex
	rng *rand.Rand
}

func (l *badLink) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	life := time.Duration(l.rng.ExpFloat64() * float64(l.lifetime))
	l.mu.Unlock()
	slow := &slowConn{Conn: conn, latency: l.latency}
	slow.cut = time.AfterFunc(life, func() { _ = conn.Close() })
	return slow, nil
}

type slowConn struct {
	net.Conn
	latency time.Duration
	cut     *time.Timer
}

func (c *slowConn) Write(p []byte) (int, error) {
	time.Sleep(c.latency)
	return c.Conn.Write(p)
}

func (c *slowConn) Close() error {
	c.cut.Stop()
	return c.Conn.Close()
}
