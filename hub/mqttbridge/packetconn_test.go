package mqttbridge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// readOnly is a connection that brings bytes and nothing else.
type readOnly struct {
	net.Conn
	io.Reader
}

func (r readOnly) Read(p []byte) (int, error) { return r.Reader.Read(p) }

func publishPacket(t testing.TB, topic string, qos byte, payload []byte) []byte {
	t.Helper()
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID, p.Payload = topic, qos, 7, payload
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is too large is cut to one byte more than is allowed, and what comes
// behind it is read as if nothing had been.
func TestLargePacketsAreCut(t *testing.T) {
	sizes := []int{0, 1, 127, 128, 16_383, 16_384, profile.MaxPayloadBytes, profile.MaxPayloadBytes + 1, profile.MaxPayloadBytes + 2, 10 << 20}
	var wire []byte
	for _, size := range sizes {
		for qos := range byte(2) {
			wire = append(wire, publishPacket(t, "a/topic", qos, bytes.Repeat([]byte{'x'}, size))...)
		}
	}
	for _, in := range []io.Reader{bytes.NewReader(wire), iotest.OneByteReader(bytes.NewReader(wire[:200_000])), iotest.DataErrReader(bytes.NewReader(wire))} {
		c := newPacketConn(readOnly{Reader: in})
		for _, size := range sizes {
			for qos := range byte(2) {
				packet, err := packets.ReadPacket(c)
				if errors.Is(err, io.ErrUnexpectedEOF) && size > 16_384 {
					return // the slow reader has not got that far
				}
				if err != nil {
					t.Fatalf("payload of %d bytes: %v", size, err)
				}
				p := packet.(*packets.PublishPacket)
				if p.TopicName != "a/topic" || p.Qos != qos || qos == 1 && p.MessageID != 7 || len(p.Payload) != min(size, profile.MaxPayloadBytes+1) {
					t.Fatalf("payload of %d bytes: read %s, QoS %d, id %d, %d bytes", size, p.TopicName, p.Qos, p.MessageID, len(p.Payload))
				}
			}
		}
		if _, err := packets.ReadPacket(c); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: %v", err)
		}
	}
}

func TestBytesThatAreNoMQTT(t *testing.T) {
	for _, in := range []string{
		"\x90\xff\xff\xff\x7f",     // a SUBACK of 256 MiB
		"\x30\xff\xff\xff\xff\x01", // a length of five bytes
		"HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x", 100),
	} {
		c := newPacketConn(readOnly{Reader: strings.NewReader(in)})
		for {
			_, err := packets.ReadPacket(c)
			if err != nil {
				break // at the latest where it ends
			}
		}
	}
}

// Writes do not wait for the network, up to a bound; Close sends what is left.
func TestWritesAreGathered(t *testing.T) {
	near, far := net.Pipe()
	c := newPacketConn(near)
	for i := range 1000 {
		if n, err := c.Write([]byte{byte(i), byte(i >> 8)}); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	got, err := io.ReadAll(far)
	if err != nil || len(got) != 2000 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for i := range 1000 {
		if got[2*i] != byte(i) || got[2*i+1] != byte(i>>8) {
			t.Fatalf("bytes of write %d: % x", i, got[2*i:2*i+2])
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A peer that reads nothing neither blocks Close nor grows memory.
func TestWritesToAPeerThatReadsNothing(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	c := newPacketConn(near)
	blocked := make(chan error, 1)
	go func() {
		for {
			if _, err := c.Write(make([]byte, 4096)); err != nil {
				blocked <- err
				return
			}
		}
	}()
	c.mu.Lock()
	for len(c.unwritten) < maxUnwritten {
		c.mu.Unlock()
		time.Sleep(time.Millisecond) // between polls; the test's own timeout bounds it
		c.mu.Lock()
	}
	if len(c.unwritten) > maxUnwritten+4096 {
		t.Errorf("%d bytes wait", len(c.unwritten))
	}
	c.mu.Unlock()
	_ = c.Close()
	if err := <-blocked; err == nil {
		t.Error("a write after Close succeeded")
	}
}
