package hub_test

import (
	"runtime"
	"testing"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
)

// However a connection ends, its descriptor, its goroutines and its session
// end with it.
func TestNothingIsLeftOfConnections(t *testing.T) {
	h := hubtest.Start(t, hubtest.Config(t))
	good := h.CreateDevice(t, "dev-1")
	wrong := good
	wrong.Secret[0] ^= 1
	round := func() {
		dialPeer(t, h.Endpoint).ws.Close()                     // given up in the handshake
		connectPeer(t, h.Endpoint, good).ws.Close()            // lost
		dialTCP(t, h.Endpoint).Close()                         // before TLS
		dialTLS(t, h.Endpoint).Close()                         // before the request
		endWith(t, h.Endpoint, good, masked(0x82, nil), false) // forbidden, unread
		endWith(t, h.Endpoint, good, masked(0x81, nil), true)
		p := dialPeer(t, h.Endpoint)
		p.sendHello(wrong, nil)
		p.wantClose(4500)
		_ = p.ws.Close()
		c, stop := hubtest.Run(t, h.Client(good))
		hubtest.Eventually(t, "online", func() bool { return c.State() == client.Online })
		_ = stop()
	}
	round() // what is made once is made
	settled := func() (descs, routines int) {
		hubtest.Eventually(t, "no session is left", func() bool {
			return h.Hub.Online() == 0 && metric(t, h.Endpoint, "tetherline_handshakes_in_flight") == 0
		})
		return descriptors(t), runtime.NumGoroutine()
	}
	descs, routines := settled()
	for range 10 {
		round()
	}
	hubtest.Eventually(t, "descriptors and goroutines are as before", func() bool {
		d, r := settled()
		return d <= descs+2 && r <= routines+5
	})
}

// endWith sends bytes on a session, and reads the answer or goes away.
func endWith(t testing.TB, h hubtest.Endpoint, c device.Credential, bytes []byte, read bool) {
	t.Helper()
	p := connectPeer(t, h, c)
	if _, err := p.ws.NetConn().Write(bytes); err != nil {
		t.Fatal(err)
	}
	if read {
		p.closing()
	}
	_ = p.ws.Close()
}
