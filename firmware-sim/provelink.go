package firmwaresim

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// faultyLink is a way over TCP on which things can be made to go wrong:
// connections are reset, or nothing gets through while no connection ends, as
// behind a dead router. What was on its way then arrives when the link thaws,
// as with TCP; that is what toxiproxy's timeout does not do.
type faultyLink struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	target string
	pairs  map[*linkedPair]struct{}
	frozen chan struct{}             // closed when the link thaws; nil: it flows
	silent [directions]chan struct{} // as frozen, of one direction
	closed bool
}

// direction is one of the two of a link: that of who has dialled is up.
type direction int

const (
	up direction = iota
	down
	directions
)

// linkedPair is the two connections of one that goes through.
type linkedPair struct {
	near, far *net.TCPConn
	gone      chan struct{}
	once      sync.Once
}

func (p *linkedPair) close(reset bool) {
	p.once.Do(func() {
		close(p.gone)
		if reset {
			_ = p.near.SetLinger(0)
			_ = p.far.SetLinger(0)
		}
		_, _ = p.near.Close(), p.far.Close()
	})
}

// newFaultyLink opens a good way to target, host:port, until close.
func newFaultyLink(target string) (*faultyLink, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a link: %w", err)
	}
	l := &faultyLink{target: target, listener: listener, pairs: make(map[*linkedPair]struct{})}
	l.running.Go(l.accept)
	return l, nil
}

// addr is where one dials to get to the target.
func (l *faultyLink) addr() string { return l.listener.Addr().String() }

func (l *faultyLink) accept() {
	for {
		near, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			l.running.Go(func() { l.join(near.(*net.TCPConn)) })
		}
	}
}

func (l *faultyLink) join(near *net.TCPConn) {
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	far, err := net.Dial("tcp", target)
	if err != nil {
		_ = near.SetLinger(0)
		_ = near.Close()
		return
	}
	p := &linkedPair{near: near, far: far.(*net.TCPConn), gone: make(chan struct{})}
	l.mu.Lock()
	closed := l.closed
	l.pairs[p] = struct{}{}
	l.mu.Unlock()
	if closed {
		p.close(true)
	}
	var rising sync.WaitGroup
	rising.Go(func() { l.carry(p, up, p.near, p.far) })
	l.carry(p, down, p.far, p.near)
	rising.Wait()
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
}

// carry ends the pair when one side has ended, as far as the link lets that
// through.
func (l *faultyLink) carry(p *linkedPair, way direction, from, to *net.TCPConn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if !l.flows(p, way) {
			return
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			p.close(false)
			return
		}
	}
}

// flows waits until the link does in that direction; false: the pair is gone.
func (l *faultyLink) flows(p *linkedPair, way direction) bool {
	for {
		l.mu.Lock()
		wait := l.frozen
		if wait == nil {
			wait = l.silent[way]
		}
		l.mu.Unlock()
		if wait == nil {
			return true
		}
		select {
		case <-wait:
		case <-p.gone:
			return false
		}
	}
}

// silence lets nothing through in one direction until sound. No connection
// ends of it; a cut resets them, and what was held back never arrives.
func (l *faultyLink) silence(way direction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent[way] == nil {
		l.silent[way] = make(chan struct{})
	}
}

func (l *faultyLink) sound(way direction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent[way] != nil {
		close(l.silent[way])
		l.silent[way] = nil
	}
}

// lead has the link go to another target: connections of the moment are reset.
func (l *faultyLink) lead(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = target
	for p := range l.pairs {
		p.close(true)
	}
}

// cut resets the connections of the moment. A frozen link lets no reset
// through either.
func (l *faultyLink) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		return
	}
	for p := range l.pairs {
		p.close(true)
	}
}

// freeze lets nothing through until thaw.
func (l *faultyLink) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen == nil {
		l.frozen = make(chan struct{})
	}
}

func (l *faultyLink) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		close(l.frozen)
		l.frozen = nil
	}
}

// close ends the link and waits for what runs.
func (l *faultyLink) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.listener.Close()
	l.thaw()
	l.sound(up)
	l.sound(down)
	l.cut()
	l.running.Wait()
}
