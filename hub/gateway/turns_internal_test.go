package gateway

import (
	"errors"
	"net"
	"testing"
)

// A connection that is closed while it waits for its turn, as by the end of
// the server, does not keep it: nobody would end it.
func TestClosedWhileWaitingForATurn(t *testing.T) {
	l := NewListener(nil, ListenerConfig{MaxComputing: 1})
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	first, s := &stranger{Conn: near, listener: l}, &stranger{Conn: near, listener: l}
	if err := first.takeTurn(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.takeTurn() }()
	_ = s.Close()
	first.endTurn()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection has a turn: %v", err)
	}
	if n := len(l.turns); n != 0 {
		t.Errorf("%d turns are kept", n)
	}
}
