// Package porttest finds ports for servers of tests that go and come back on
// the same one. Only tests import it.
package porttest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The ports are below those that systems take for outgoing connections and for
// port 0 (from 32768 on with Linux): nothing takes one while its server is
// away but who looks for it here.
const (
	first = 12_000
	ports = 20_000
	tries = 100
)

// Free is a loopback address, host:port, that nobody listens on now.
func Free(t testing.TB) string {
	t.Helper()
	var err error
	for range tries {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(ports)))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatalf("no port is free: %v", err)
	return ""
}
