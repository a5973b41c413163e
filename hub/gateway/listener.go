package gateway

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of ListenerConfig.
const (
	defaultMaxStrangers = 4096
	strangerGrace       = 5 * time.Second
)

// ListenerConfig bounds connections of strangers: in the TLS handshake, in a
// request of somebody who is not Known, or idle between requests. 0 means the
// default.
type ListenerConfig struct {
	MaxStrangers        int // 0: 4,096
	MaxStrangersPerAddr int // of one address, or one IPv6 /64; 0: half of MaxStrangers. Behind a proxy: MaxStrangers
	// Grace is how long a stranger is safe; 0: 5 s.
	Grace time.Duration
	// MaxComputing is how many TLS handshakes compute at once, with InTurn;
	// 0: one less than there are processors, and 1 at least.
	MaxComputing int
}

// Listener bounds the strangers on the listener below it, so that thousands of
// connections on which nothing happens neither use up the descriptors nor
// shut others out. When there are too many, the oldest goes where it has had
// its Grace; else the next one waits in the kernel's queue. Connections in a
// request of somebody who is Known, and WebSockets, are not counted.
type Listener struct {
	net.Listener
	max, maxPerAddr int
	grace           time.Duration
	turns           chan struct{} // holds one for each handshake that computes
	yields          bool          // they leave no processor free
	closed          chan struct{}
	closeOnce       sync.Once

	// Evicted counts strangers that were cut off, Refused those of an
	// address that had too many, and Speechless those whose connection ended
	// without a request, by their will or for being too slow.
	Evicted, Refused, Speechless atomic.Uint64

	mu        sync.Mutex
	strangers *list.List // of *stranger, the oldest first
	perAddr   map[netip.Addr]int
	freed     chan struct{} // has room for one word: a place is free
}

// stranger is an accepted connection. The listener's mu guards its place.
type stranger struct {
	net.Conn
	listener *Listener
	place    *list.Element // nil: not counted
	addr     netip.Addr
	since    time.Time
	spoke    bool // made a request, or was cut off

	// The reader's; see Read.
	bounded bool
	left    int // bytes that may still come

	turn   atomic.Bool // has one of the listener's turns
	closed atomic.Bool
}

// NewListener wraps inner.
func NewListener(inner net.Listener, cfg ListenerConfig) *Listener {
	if cfg.MaxStrangers <= 0 {
		cfg.MaxStrangers = defaultMaxStrangers
	}
	if cfg.MaxStrangersPerAddr <= 0 {
		cfg.MaxStrangersPerAddr = max(cfg.MaxStrangers/2, 1)
	}
	if cfg.Grace <= 0 {
		cfg.Grace = strangerGrace
	}
	if cfg.MaxComputing <= 0 {
		cfg.MaxComputing = defaultComputing()
	}
	return &Listener{
		Listener: inner, max: cfg.MaxStrangers, maxPerAddr: cfg.MaxStrangersPerAddr, grace: cfg.Grace,
		turns: make(chan struct{}, cfg.MaxComputing), yields: cfg.MaxComputing >= runtime.GOMAXPROCS(0),
		closed: make(chan struct{}), strangers: list.New(), perAddr: make(map[netip.Addr]int),
		freed: make(chan struct{}, 1),
	}
}

// Accept waits for the next connection, and for a place for it.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		s := &stranger{Conn: c, listener: l, addr: connKey(c)}
		if l.admit(s) {
			return s, nil
		}
		_ = c.Close()
	}
}

// Close also wakes an Accept that waits for a place.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Strangers is how many there are now.
func (l *Listener) Strangers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.strangers.Len()
}

// strangerOf is the accepted connection below c; nil: of no Listener.
func strangerOf(c net.Conn) *stranger {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	s, _ := c.(*stranger)
	return s
}

// ConnState is for http.Server.ConnState: a connection is a stranger's until
// it is a WebSocket or Known, and again when the request is over.
func (l *Listener) ConnState(c net.Conn, state http.ConnState) {
	s := strangerOf(c)
	if s == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateHijacked:
		l.uncount(s)
	case http.StateClosed:
		if !s.spoke {
			l.Speechless.Add(1)
		}
		l.uncount(s)
	case http.StateIdle:
		l.uncount(s)
		l.count(s)
		if l.strangers.Len() > l.max {
			l.evict(l.strangers.Front())
		}
	}
}

// admit finds a place for s. It is false where s has to be closed.
func (l *Listener) admit(s *stranger) bool {
	for {
		l.mu.Lock()
		if l.maxPerAddr < l.max && l.perAddr[s.addr] >= l.maxPerAddr && !l.evictOf(s.addr) {
			l.mu.Unlock()
			l.Refused.Add(1)
			return false
		}
		wait := time.Duration(0)
		if l.strangers.Len() >= l.max {
			oldest := l.strangers.Front()
			if wait = l.grace - time.Since(oldest.Value.(*stranger).since); wait <= 0 {
				l.evict(oldest)
			}
		}
		if l.strangers.Len() < l.max {
			l.count(s)
			l.mu.Unlock()
			return true
		}
		l.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-l.freed:
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// evictOf cuts off the oldest stranger of an address that has had its time.
// mu is held.
func (l *Listener) evictOf(a netip.Addr) bool {
	for e := l.strangers.Front(); e != nil; e = e.Next() {
		s := e.Value.(*stranger)
		if time.Since(s.since) < l.grace {
			return false
		}
		if s.addr == a {
			l.evict(e)
			return true
		}
	}
	return false
}

// evict cuts a stranger off; whoever serves it finds out. mu is held.
func (l *Listener) evict(e *list.Element) {
	s := e.Value.(*stranger)
	l.uncount(s)
	s.spoke = true
	l.Evicted.Add(1)
	_ = s.Conn.Close()
}

func (l *Listener) release(s *stranger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uncount(s)
}

func (l *Listener) count(s *stranger) {
	if s.place != nil {
		return
	}
	s.since = time.Now()
	s.place = l.strangers.PushBack(s)
	l.perAddr[s.addr]++
}

func (l *Listener) uncount(s *stranger) {
	if s.place == nil {
		return
	}
	l.strangers.Remove(s.place)
	s.place = nil
	if l.perAddr[s.addr]--; l.perAddr[s.addr] == 0 {
		delete(l.perAddr, s.addr)
	}
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// Close closes the connection and frees its place.
func (s *stranger) Close() error {
	s.closed.Store(true)
	s.endTurn()
	s.listener.release(s)
	return s.Conn.Close()
}
