package gateway

import (
	"crypto/tls"
	"net"
	"runtime"
)

// A TLS handshake computes for a good part of a millisecond between the
// ClientHello and the server's answer. Hundreds at once, in a storm of
// reconnects or a flood, would stand on every processor before the frames of
// devices that are connected. So they take turns: one processor is always
// free of them. What follows a handshake keeps that one busy too, so turns
// make a storm hardly slower.

// defaultComputing is one less than there are processors, and 1 at least.
func defaultComputing() int { return max(runtime.GOMAXPROCS(0)-1, 1) }

// InTurn is for tls.Config.GetConfigForClient of a server on a Listener: the
// handshake waits for its turn, and then get, unless it is nil, is asked. The
// turn ends when the handshake waits for the peer, or is over.
func InTurn(get func(*tls.ClientHelloInfo) (*tls.Config, error)) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if s := strangerOf(hello.Conn); s != nil {
			if err := s.takeTurn(); err != nil {
				return nil, err
			}
		}
		if get == nil {
			return nil, nil
		}
		return get(hello)
	}
}

// takeTurn waits for a turn. A connection that was closed meanwhile, perhaps
// for the last time, has none to end.
func (s *stranger) takeTurn() error {
	s.listener.turns <- struct{}{}
	s.turn.Store(true)
	if s.closed.Load() {
		s.endTurn()
		return net.ErrClosed
	}
	if s.listener.yields {
		runtime.Gosched() // else the next one runs before all that are ready
	}
	return nil
}

// endTurn does nothing where s has none.
func (s *stranger) endTurn() {
	if s.turn.Load() && s.turn.CompareAndSwap(true, false) {
		<-s.listener.turns
	}
}
