package mqttbridge

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// What is written goes out as it was, also when much has gathered behind a
// slow broker and little comes after it.
func TestPacketsAreWrittenAsTheyWere(t *testing.T) {
	near, far := net.Pipe()
	_ = far.SetReadDeadline(time.Now().Add(time.Minute))
	c := newPacketConn(near)
	write := func(b byte, n int) {
		t.Helper()
		if _, err := c.Write(bytes.Repeat([]byte{b}, n)); err != nil {
			t.Fatal(err)
		}
	}
	// taken waits until what was written is on its way.
	taken := func() {
		t.Helper()
		eventually(t, "it is on its way", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.unwritten) == 0
		})
	}
	want := func(b byte, n int) {
		t.Helper()
		got := make([]byte, n)
		if _, err := io.ReadFull(far, got); err != nil {
			t.Fatal(err)
		}
		if i := bytes.IndexFunc(got, func(r rune) bool { return r != rune(b) }); i >= 0 {
			t.Fatalf("byte %d of %d is %q, want %q", i, n, got[i], b)
		}
	}
	write('a', 1000)
	taken()
	for range 5 {
		write('b', maxUnwritten/4-1)
	}
	want('a', 1000)
	taken()
	write('c', 500)
	want('b', 5*(maxUnwritten/4-1))
	taken()
	write('d', 500)
	want('c', 500)
	want('d', 500)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
