package mqttbridge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// taking is a connection over in, and what is taken from it.
func taking(in io.Reader) (*packetConn, *[]string) {
	c := newPacketConn(readOnly{Reader: in})
	var taken []string
	c.let = true
	c.take = func(batch []*arrival) bool {
		for _, a := range batch {
			taken = append(taken, fmt.Sprintf("%s id=%d dup=%v retained=%v %d bytes", a.topic, a.id, a.dup, a.retained, len(a.payload)))
			if a.received.IsZero() || len(bytes.Trim(a.payload, "x")) > 0 {
				taken = append(taken, "which is wrong")
			}
		}
		return false
	}
	return c, &taken
}

// Messages of QoS 0 and 1 are taken, in their order and before what comes
// after them reaches the client, which gets all the rest.
func TestMessagesAreTakenFromTheClient(t *testing.T) {
	var wire []byte
	var want []string
	for i, size := range []int{0, 1, 200, 20_000, 70_000, profile.MaxPayloadBytes, profile.MaxPayloadBytes + 1, 3 << 20, 5} {
		for qos := range byte(2) {
			p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
			p.TopicName, p.Qos, p.MessageID, p.Payload = "a/topic", qos, uint16(1000+i), bytes.Repeat([]byte{'x'}, size)
			if i%2 == 1 {
				p.TopicName = "a/" + strings.Repeat("long/", 10_000)
			}
			id := uint16(0)
			p.Retain = i == 2
			if qos == 1 {
				p.Dup, id = i == 3, p.MessageID
			}
			var b bytes.Buffer
			if err := p.Write(&b); err != nil {
				t.Fatal(err)
			}
			wire = append(wire, b.Bytes()...)
			want = append(want, fmt.Sprintf("%s id=%d dup=%v retained=%v %d bytes", p.TopicName, id, p.Dup, p.Retain, min(size, profile.MaxPayloadBytes+1)))
		}
		wire = append(wire, 0x90, 3, byte(i), byte(i), 1) // a SUBACK
	}
	wire = append(wire, publishPacket(t, "exactly/once", 2, []byte("x"))...)
	for name, in := range map[string]io.Reader{
		"at once": bytes.NewReader(wire), "in halves": iotest.HalfReader(bytes.NewReader(wire)), "with the end": iotest.DataErrReader(bytes.NewReader(wire)),
	} {
		c, taken := taking(in)
		for i := range len(want) / 2 {
			packet, err := packets.ReadPacket(c)
			if err != nil {
				t.Fatalf("%s, packet %d: %v", name, i, err)
			}
			if _, ok := packet.(*packets.SubackPacket); !ok || !slices.Equal(*taken, want[:2*i+2]) {
				t.Fatalf("%s: the client reads %v after %d messages, of %d", name, packet, len(*taken), 2*i+2)
			}
		}
		packet, err := packets.ReadPacket(c)
		if p, ok := packet.(*packets.PublishPacket); !ok || p.Qos != 2 || p.TopicName != "exactly/once" {
			t.Errorf("%s: the client reads %v, %v; want the message of QoS 2", name, packet, err)
		}
		if _, err := packets.ReadPacket(c); !errors.Is(err, io.EOF) || len(*taken) != len(want) {
			t.Errorf("%s: %d messages, then %v", name, len(*taken), err)
		}
	}
	c, taken := taking(iotest.OneByteReader(bytes.NewReader(wire[:400])))
	if _, err := packets.ReadPacket(c); err != nil || len(*taken) != 2 {
		t.Errorf("byte by byte: %d messages, %v", len(*taken), err)
	}
}

// A PUBLISH that is wrong in itself ends the connection, and what came before
// it is taken.
func TestMessagesThatAreNone(t *testing.T) {
	good := string(publishPacket(t, "good", 1, []byte("x")))
	for what, tc := range map[string]struct {
		in   string
		want error
	}{
		"without a topic":            {"\x30\x01\x00", errNotMQTT},
		"empty":                      {"\x30\x00", errNotMQTT},
		"a topic beyond its packet":  {"\x30\x04\x00\x05abcde", errNotMQTT},
		"no room for its identifier": {"\x32\x04\x00\x01a\x07\x07", errNotMQTT},
		"a length of five bytes":     {"\x30\xff\xff\xff\xff\x01", errNotMQTT},
		"cut off in its topic":       {"\x30\x10\x00\x0aab", io.ErrUnexpectedEOF},
		"cut off before its topic":   {"\x30\x10\x00", io.ErrUnexpectedEOF},
		"cut off in its identifier":  {"\x32\x10\x00\x01a\x07", io.ErrUnexpectedEOF},
		"cut off in its payload":     {"\x32\x10\x00\x01a\x00\x07abc", io.ErrUnexpectedEOF},
		"cut off beyond the limit":   {"\x30\xff\xff\x7f\x00\x01a" + strings.Repeat("x", profile.MaxPayloadBytes+9), io.ErrUnexpectedEOF},
	} {
		c, taken := taking(strings.NewReader(good + tc.in))
		if n, err := c.Read(make([]byte, 100)); n != 0 || !errors.Is(err, tc.want) {
			t.Errorf("%s: read %d bytes, %v; want %v", what, n, err, tc.want)
		}
		if len(*taken) != 1 {
			t.Errorf("%s: %d messages were taken", what, len(*taken))
		}
	}
}

// Topics are remembered, within a bound.
func TestTopicsAreRemembered(t *testing.T) {
	c := newPacketConn(nil)
	for i := range 3 * maxNames {
		for range 2 {
			if name := fmt.Sprint("gear-", i); c.topic([]byte(name)) != name {
				t.Fatalf("%s has become another", name)
			}
		}
	}
	if long := strings.Repeat("x", maxName+1); c.topic([]byte(long)) != long || c.known[long] != "" || len(c.known) > maxNames {
		t.Errorf("%d topics are remembered", len(c.known))
	}
	name := []byte("gear-1")
	if n := testing.AllocsPerRun(100, func() { _ = c.topic(name) }); n > 0 {
		t.Errorf("%v allocations for a known topic", n)
	}
}

// What is settled is acknowledged in its order, on the session that it came
// from; a broker that reads none of it loses the connection.
func TestAcknowledgements(t *testing.T) {
	near, far := net.Pipe()
	s := &link{conn: newPacketConn(near)}
	dead := &link{conn: newPacketConn(nil)}
	dead.conn.err = net.ErrClosed
	acknowledge([]*arrival{{session: s, id: 1}, {session: dead, id: 9}, {session: s}, {session: s, id: 515}, {session: s, id: 3}})
	got := make([]byte, 12)
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, []byte{0x40, 2, 0, 1, 0x40, 2, 2, 3, 0x40, 2, 0, 3}) {
		t.Errorf("acknowledged % x, %v", got, err)
	}
	many := make([]*arrival, 10_000)
	for i := range many {
		many[i] = &arrival{session: s, id: uint16(i + 1)}
	}
	eventually(t, "the connection ends", func() bool {
		acknowledge(many)
		s.conn.mu.Lock()
		defer s.conn.mu.Unlock()
		return s.conn.err != nil
	})
	if n := len(s.conn.unwritten); n > maxUnwritten+maxAcks {
		t.Errorf("%d bytes wait", n)
	}
	if _, err := far.Read(make([]byte, 1<<20)); err == nil {
		_, err = io.Copy(io.Discard, far)
		if err != nil {
			t.Error(err)
		}
	}
	eventually(t, "nothing is written any more", func() bool {
		s.conn.mu.Lock()
		defer s.conn.mu.Unlock()
		return !s.conn.writing
	})
}

// The reader is told when the broker may wait for acknowledgements: at three
// quarters of what it has ever sent ahead.
func TestInboxTellsOfAFullWindow(t *testing.T) {
	var i inbox
	i.init(1 << 20)
	s := &link{}
	var all []*arrival
	put := func(n int) (full bool) {
		var batch []*arrival
		for range n {
			batch = append(batch, &arrival{id: uint16(len(all) + len(batch) + 1)})
		}
		all = append(all, batch...)
		return i.put(s, batch)
	}
	settle := func(n int) {
		i.settled(all[:n])
		all = all[n:]
	}
	if i.fills(leastWindow-1) || !i.fills(leastWindow) {
		t.Errorf("%d messages do not fill a window of which nothing is known", leastWindow)
	}
	if put(leastWindow-1) || i.full() {
		t.Error("a few are enough to fill a window")
	}
	if !put(100-leastWindow+1) || !i.full() {
		t.Error("the most that there ever was does not fill it")
	}
	settle(26)
	if i.full() || i.fills(0) {
		t.Error("74 of 100 fill it")
	}
	if !i.fills(1) {
		t.Error("75 of 100 would not fill it")
	}
	settle(74)
	i.begun()
	all = nil
	if !put(leastWindow) {
		t.Error("another session goes by what the one before was sent")
	}
}
