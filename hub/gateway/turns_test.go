package gateway_test

import (
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/gateway"
)

// firstFlight is what a TLS client says before it has heard anything.
func firstFlight(t testing.TB) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	go func() { _ = tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	defer func() { _ = server.Close() }()
	_ = server.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 8<<10)
	n, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// A turn to compute is nobody's to keep: not of those who say one thing and no
// more, nor of those who are gone, whenever that is.
func TestTurnsComeBack(t *testing.T) {
	h := startHub(t, options{
		listener: gateway.ListenerConfig{MaxComputing: 1},
		tls:      func(c *tls.Config) { c.GetConfigForClient = gateway.InTurn(nil) },
	})
	hello := firstFlight(t)
	for i := range 60 {
		nc, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		if _, err := nc.Write(hello); err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 1: // gone at once
			_ = nc.(*net.TCPConn).SetLinger(0)
			_ = nc.Close()
		case 2: // gone while it is answered
			_ = nc.SetReadDeadline(time.Now().Add(patience))
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				t.Fatalf("no answer: %v", err)
			}
			_ = nc.Close()
		}
	}
	p := h.connect(h.create("dev-1"), 1)
	p.sendReading(1)
	p.wantAck(1)
}

// No more handshakes compute at once than may.
func TestTurnsAreTaken(t *testing.T) {
	var turns turnCount
	h := startHub(t, options{
		listener: gateway.ListenerConfig{MaxComputing: 2},
		tls:      func(c *tls.Config) { c.GetConfigForClient = gateway.InTurn(turns.take) },
	})
	var dialling sync.WaitGroup
	for range 30 {
		dialling.Go(func() {
			c, err := tls.Dial("tcp", h.addr, &tls.Config{RootCAs: h.roots})
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		})
	}
	dialling.Wait()
	if turns.most.Load() > 2 || turns.all.Load() != 30 {
		t.Errorf("%d of %d handshakes at once; want 2 of 30", turns.most.Load(), turns.all.Load())
	}
}

// turnCount counts the handshakes that have a turn.
type turnCount struct{ now, most, all atomic.Int32 }

// take is for InTurn. Each turn goes on long enough for others to begin, where
// they may.
func (c *turnCount) take(*tls.ClientHelloInfo) (*tls.Config, error) {
	n := c.now.Add(1)
	for old := c.most.Load(); n > old && !c.most.CompareAndSwap(old, n); old = c.most.Load() {
	}
	for range 1000 {
		runtime.Gosched()
	}
	c.now.Add(-1)
	c.all.Add(1)
	return nil, nil
}

// Devices that are connected are served while strangers keep every turn busy,
// one of them at a time, and a device that comes back is let in among them.
func TestFloodDoesNotStarveTheConnected(t *testing.T) {
	var turns turnCount
	h := startHub(t, options{
		listener: gateway.ListenerConfig{MaxComputing: 1},
		tls:      func(c *tls.Config) { c.GetConfigForClient = gateway.InTurn(turns.take) },
	})
	connected, returning := h.connect(h.create("dev-1"), 1), h.create("dev-2")
	var flood sync.WaitGroup
	var strangers atomic.Int32
	var over atomic.Bool
	for range 20 {
		flood.Go(func() {
			for !over.Load() {
				if c, err := tls.Dial("tcp", h.addr, &tls.Config{RootCAs: h.roots}); err == nil {
					strangers.Add(1)
					_ = c.Close()
				}
			}
		})
	}
	defer flood.Wait()
	defer over.Store(true)
	eventually(t, "the flood is there", func() bool { return strangers.Load() >= 20 })
	seq, until := uint64(0), strangers.Load()+20
	for seq < 20 || strangers.Load() < until { // and so the flood goes on meanwhile
		seq++
		connected.sendReading(seq)
		connected.wantAck(seq)
	}
	back := h.connect(returning, 1)
	back.sendReading(1)
	back.wantAck(1)
	connected.sendReading(seq + 1)
	connected.wantAck(seq + 1)
	if most := turns.most.Load(); most != 1 {
		t.Errorf("%d strangers computed at once, where one may: nobody held them back from the devices", most)
	}
}
