package natsd

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// What is read as CONNECT is handed on as one that says the same, and no byte
// behind it is read.
func FuzzReadConnect(f *testing.F) {
	f.Add([]byte("\x10\x19\x00\x04MQTT\x04\xc2\x00\x00\x00\x00\x00\x03all\x00\x06all-pw\xc0\x00"))
	f.Add([]byte("\x10\x1a\x00\x06MQIsdp\x03\x26\x00\x3c\x00\x01c\x00\x03a/b\x00\x04gone"))
	f.Add([]byte("\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x10\x80\x80\x01"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		r := bytes.NewReader(packet)
		c, err := readConnect(r)
		if err != nil {
			return
		}
		if consumed := packet[:len(packet)-r.Len()]; len(packet) > len(consumed) {
			if _, err := readConnect(bytes.NewReader(consumed)); err != nil {
				t.Fatalf("more was read than the packet: %v", err)
			}
		}
		handed := c.as("id", "user", "password")
		again, err := readConnect(bytes.NewReader(handed))
		if err != nil {
			t.Fatalf("what is handed on cannot be read: %v: %q", err, handed)
		}
		if again.ClientID != "id" || again.User != "user" || string(again.Password) != "password" ||
			again.flags != c.flags|flagsOfIdentity || again.keepAlive != c.keepAlive ||
			!bytes.Equal(again.willTopic, c.willTopic) || !bytes.Equal(again.willMessage, c.willMessage) {
			t.Fatalf("%+v was handed on as %+v", c, again)
		}
	})
}

func TestConnectIsBounded(t *testing.T) {
	long := (&mqttConnect{flags: flagWill, willTopic: []byte("a"), willMessage: make([]byte, maxConnectBytes)}).as("id", "u", "p")
	if _, err := readConnect(bytes.NewReader(long)); !errors.Is(err, errMalformed) {
		t.Errorf("a CONNECT of %d bytes: %v", len(long), err)
	}
	short := (&mqttConnect{flags: flagWill, willTopic: []byte("a"), willMessage: make([]byte, maxConnectBytes-100)}).as("id", "u", "p")
	if _, err := readConnect(bytes.NewReader(short)); err != nil {
		t.Errorf("a CONNECT of %d bytes: %v", len(short), err)
	}
}

// No two pairs of user and client id are one session, and the server takes
// every name.
func FuzzSessionName(f *testing.F) {
	f.Add("a", "b~c", "a~b", "c")
	f.Add("a", "b", "a", "b")
	f.Add("", "x", "=", "x")
	f.Fuzz(func(t *testing.T, user1, id1, user2, id2 string) {
		one, two := sessionName(user1, id1), sessionName(user2, id2)
		if one == "" || two == "" {
			return
		}
		if (one == two) != (user1 == user2 && id1 == id2) {
			t.Errorf("%q %q and %q %q: %q and %q", user1, id1, user2, id2, one, two)
		}
		if strings.ContainsAny(one, " \t\r\n\f.*>\\/\x00") {
			t.Errorf("the server does not take %q", one)
		}
	})
}

// Packets are counted however the stream is cut.
func TestPacketsAreCounted(t *testing.T) {
	long := append([]byte{0x32, 0xc8, 0x01}, bytes.Repeat([]byte{0x30}, 200)...)
	stream := bytes.Join([][]byte{{0xc0, 0}, {0x30, 3, 0, 1, 'a'}, {0x40, 2, 0x30, 0x30}, long, {0x50, 2, 0x40, 0x40}, {0x3c, 2, 0x30, 0x30}, {0xe0, 0}}, nil)
	confirmed := []int{11, 11 + len(long) + 4}
	for size := 1; size <= len(stream); size++ {
		var p packets
		published, answered := 0, 0
		var places []int
		for at := 0; at < len(stream); at += size {
			in := p.begunIn(stream[at:min(at+size, len(stream))])
			published += in.published
			answered += in.answered
			for _, place := range in.confirmed {
				places = append(places, at+place)
			}
		}
		if published != 3 || answered != 2 || !slices.Equal(places, confirmed) {
			t.Errorf("in pieces of %d bytes: %d published, of them with an answer at %v, %d answers; want 3, %v, 2", size, published, places, answered, confirmed)
		}
	}
}
