package mqttbridge

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestGatherEnough(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, tc := range []struct {
		what  string
		g     gather
		more  bool
		full  bool
		bytes int
		want  bool
	}{
		{"the first after a pause", gather{appended: at(-100), heard: at(100)}, false, false, 100, true},
		{"one in a steady flow", gather{appended: at(95), heard: at(100)}, false, false, 100, false},
		{"long enough in a steady flow", gather{appended: at(50), heard: at(100)}, false, false, 100, true},
		{"the next ones wait", gather{appended: at(50), heard: at(100)}, true, false, 100, false},
		{"quiet", gather{appended: at(80), heard: at(85)}, false, false, 100, true},
		{"much", gather{appended: at(95), heard: at(100)}, false, false, gatherBytes, true},
		{"nearly all that a broker sends ahead", gather{appended: at(95), heard: at(100)}, false, true, 100, true},
		{"the end", gather{appended: at(95), heard: at(100), hurry: true}, false, false, 100, true},
	} {
		if got := tc.g.enough(at(100), tc.more, tc.full, tc.bytes); got != tc.want {
			t.Errorf("%s: enough is %v", tc.what, got)
		}
		if wait := tc.g.wait(at(100)); !tc.want && !tc.more && (wait <= 0 || wait > gatherTime) {
			t.Errorf("%s: waits %v", tc.what, wait)
		}
	}
}

// What comes in a steady flow is read whole and in order, many messages at
// once, and not gathered while an answer is awaited.
func TestReaderGathers(t *testing.T) {
	const packets, most = 600, 60
	gathered := func() bool {
		slow, batches := readsGathered(t, packets, nil)
		t.Logf("%d batches for the first half of %d messages, %d in all", slow, packets, batches)
		return slow > 0 && slow <= most
	}
	if !eachOf(20, gathered) {
		t.Errorf("never %d batches or fewer for half of %d messages", most, packets)
	}
}

// What a look brings waits in the reader for what the next ones bring, and not
// where the broker may wait, an answer is awaited, or it has waited enough.
func TestReaderHolds(t *testing.T) {
	start := time.Now()
	for _, tc := range []struct {
		what   string
		change func(c *packetConn)
		want   bool
	}{
		{"in a steady flow", func(*packetConn) {}, true},
		{"one that was waited for", func(c *packetConn) { c.looked = false }, false},
		{"the flow has ended", func(c *packetConn) { c.steady = false }, false},
		{"an answer is awaited", func(c *packetConn) { c.urgent.Store(true) }, false},
		{"the broker may wait", func(c *packetConn) { c.fills = func(n int) bool { return n == 2 } }, false},
		{"the broker may have waited", func(c *packetConn) { c.full = true }, false},
		{"nobody knows whether it waits", func(c *packetConn) { c.fills = nil }, false},
		{"acknowledgements wait", func(c *packetConn) { c.acks = []byte{1} }, false},
		{"long enough", func(c *packetConn) { c.last = start.Add(holdTime) }, false},
		{"much", func(c *packetConn) { c.bytes = mostLooked }, false},
		{"nothing has come", func(c *packetConn) { c.batch = nil }, false},
	} {
		c := newPacketConn(nil)
		c.urgent, c.looked, c.steady, c.last = new(atomic.Bool), true, true, start.Add(holdTime-1)
		c.batch, c.fills = []*arrival{{received: start}, {received: c.last}}, func(int) bool { return false }
		if tc.change(c); c.holds() != tc.want {
			t.Errorf("%s: holds is %v", tc.what, !tc.want)
		}
	}
}

// What is held is whole and in order, and nothing of it stays when no more
// comes.
func TestReaderHoldsNothingBack(t *testing.T) {
	const packets = 600
	if _, batches := readsGathered(t, packets, func(int) bool { return false }); batches < 1 {
		t.Errorf("%d batches", batches)
	}
	near, far := tcpPair(t)
	c := newPacketConn(near)
	defer func() { _ = c.Close() }()
	var taken atomic.Int64
	c.urgent, c.let = new(atomic.Bool), true
	c.fills = func(int) bool { return false }
	c.take = func(batch []*arrival) bool { taken.Add(int64(len(batch))); return false }
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	for i := range packets {
		if _, err := far.Write([]byte{0x32, 6, 0, 1, 'a', byte(i >> 8), byte(i), 'x'}); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			time.Sleep(100 * time.Microsecond) // a steady flow
		}
		if i%200 == 199 {
			eventually(t, "all that has come is taken", func() bool { return taken.Load() == int64(i)+1 })
		}
	}
	_ = far.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

// tcpPair is both ends of a connection.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

// eachOf tries until something succeeds: a busy machine makes a flow unsteady.
func eachOf(tries int, try func() bool) bool {
	for range tries {
		if try() {
			return true
		}
	}
	return false
}

// readsGathered is in how many batches the first half of the messages of a
// steady flow was taken, and all of them.
func readsGathered(t *testing.T, packets int, fills func(int) bool) (slow, batches int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var urgent atomic.Bool
	go func() {
		far, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = far.Close() }()
		for i := range packets {
			if _, err := far.Write([]byte{0x32, 7, 0, 1, 'a', byte(i >> 8), byte(i), 'x', 'y'}); err != nil {
				return
			}
			time.Sleep(100 * time.Microsecond) // a steady flow
		}
	}()
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newPacketConn(near)
	defer func() { _ = c.Close() }()
	c.urgent, c.fills = &urgent, fills
	taken := 0
	c.let = true
	c.take = func(batch []*arrival) bool {
		for _, a := range batch {
			if int(a.id) != taken || string(a.payload) != "xy" {
				t.Errorf("message %d is %q after %d others", a.id, a.payload, taken)
			}
			taken++
		}
		if batches++; taken > packets/2 && urgent.CompareAndSwap(false, true) {
			slow = batches
		}
		return false
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || taken != packets {
		t.Errorf("%d messages of %d, then %v", taken, packets, err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	return slow, batches
}

// Over TLS a read brings one record, however many have come: they are read
// one after the other, and not one in each gathering. With one, the answer to
// a ping could come too late behind the messages that the hub's own broker
// sends ahead.
func TestReaderGathersRecords(t *testing.T) {
	const records = 600
	gathered := func() bool {
		batches := recordsGathered(t, records)
		t.Logf("%d records were taken in %d batches", records, batches)
		return batches <= records/4
	}
	if !eachOf(20, gathered) {
		t.Errorf("%d records were never taken in %d batches or fewer", records, records/4)
	}
}

// recordsGathered is in how many batches records of two messages were taken.
func recordsGathered(t *testing.T, records int) (batches int) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // for its certificate
	server.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		far, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = far.Close() }()
		for i := range records {
			first, second := byte(2*i>>8), byte(2*i)
			if _, err := far.Write([]byte{0x32, 6, 0, 1, 'a', first, second, 'x', 0x32, 6, 0, 1, 'a', first, second + 1, 'x'}); err != nil {
				return
			}
		}
	}()
	near, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	c := newPacketConn(near)
	defer func() { _ = c.Close() }()
	c.urgent = new(atomic.Bool)
	taken := 0
	c.let = true
	c.take = func(batch []*arrival) bool {
		for _, a := range batch {
			if int(a.id) != taken {
				t.Errorf("message %d after %d others", a.id, taken)
			}
			taken++
		}
		batches++
		return false
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || taken != 2*records {
		t.Errorf("%d messages of %d, then %v", taken, 2*records, err)
	}
	return batches
}
