package mqttbridge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

func TestGatherEnough(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, tc := range []struct {
		what             string
		g                gather
		unsettled, bytes int
		want             bool
	}{
		{"the first after a pause", gather{appended: at(-100), heard: at(100)}, 1, 100, true},
		{"one in a steady flow", gather{appended: at(95), heard: at(100)}, 1, 100, false},
		{"long enough in a steady flow", gather{appended: at(80), heard: at(100)}, 1, 100, true},
		{"quiet", gather{appended: at(90), heard: at(94)}, 1, 100, true},
		{"much", gather{appended: at(95), heard: at(100)}, 1, gatherBytes, true},
		{"nearly all that a broker sends ahead", gather{appended: at(95), heard: at(100)}, leastWindow, 100, true},
		{"the same of one that sends more ahead", gather{appended: at(95), heard: at(100), most: 100}, leastWindow, 100, false},
		{"and nearly all of that", gather{appended: at(95), heard: at(100), most: 100}, 75, 100, true},
		{"the end", gather{appended: at(95), heard: at(100), hurry: true}, 1, 100, true},
	} {
		if got := tc.g.enough(at(100), tc.unsettled, tc.bytes); got != tc.want {
			t.Errorf("%s: enough is %v", tc.what, got)
		}
		if wait := tc.g.wait(at(100)); !tc.want && (wait <= 0 || wait > gatherTime) {
			t.Errorf("%s: waits %v", tc.what, wait)
		}
	}
}

// What comes in a steady flow is read whole and in order, and so is the end.
func TestReaderGathers(t *testing.T) {
	near, far := net.Pipe()
	c := newPacketConn(near)
	c.urgent = new(atomic.Bool)
	packet := []byte{0x32, 7, 0, 1, 'a', 0, 1, 'x', 'y'}
	const packets = 500
	go func() {
		for i := range packets {
			_, _ = far.Write(packet)
			if i == packets/2 {
				c.urgent.Store(true)
			}
		}
		_ = far.Close()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, bytes.Repeat(packet, packets)) {
		t.Errorf("%d bytes of %d, %v", len(got), packets*len(packet), err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}
