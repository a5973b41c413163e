package natsd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// ends of a TCP connection within this machine.
func ends(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialed.Close(); _ = accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// A client that sends all it has at once has no more of it in flight than the
// window; the rest comes as the server answers, all of it and in order.
func TestServerIsGivenAWindowOfAClientsMessages(t *testing.T) {
	const messages = 20 * mqttWindow
	client, down := ends(t)
	up, server := ends(t)
	m := &MQTT{ctx: t.Context()}
	c := &mqttClient{raw: down, down: down, up: up, inFlight: newWindow()}
	carried := make(chan struct{})
	go func() { defer close(carried); m.carry(c) }()

	var all errgroup.Group
	all.Go(func() error {
		var text []byte
		for i := range messages {
			text = binary.BigEndian.AppendUint16(append(text, 0x32, 5, 0, 1, 'a'), uint16(i+1)) // QoS 1
			text = append(text, 0x30, 3, 0, 1, 'b')                                             // QoS 0
		}
		_, err := client.Write(append(text, 0xe0, 0))
		return err
	})
	answers := 0
	all.Go(func() error {
		b := make([]byte, 4)
		for ; answers < messages; answers++ {
			if _, err := io.ReadFull(client, b); err != nil {
				return err
			}
			if n := int(binary.BigEndian.Uint16(b[2:])); n != answers+1 {
				t.Errorf("answer %d is for message %d", answers+1, n)
			}
		}
		return nil
	})

	var text []byte
	var in packets
	inFlight, given := 0, 0
	for buffer := make([]byte, 64<<10); given < messages; {
		n, err := server.Read(buffer)
		if err != nil {
			t.Fatalf("after %d messages: %v", given, err)
		}
		text = append(text, buffer[:n]...)
		begun := len(in.begunIn(buffer[:n]).confirmed)
		if inFlight, given = inFlight+begun, given+begun; inFlight > mqttWindow {
			t.Fatalf("%d messages in flight; want %d at most", inFlight, mqttWindow)
		}
		if inFlight < mqttWindow && given < messages {
			continue
		}
		var answer []byte
		for i := given - inFlight; i < given; i++ {
			answer = binary.BigEndian.AppendUint16(append(answer, 0x40, 2), uint16(i+1))
		}
		inFlight = 0
		if _, err := server.Write(answer); err != nil {
			t.Fatal(err)
		}
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(server)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, rest...)
	if want := messages*12 + 2; len(text) != want || text[want-2] != 0xe0 {
		t.Errorf("the server was given %d bytes; want %d, the last a DISCONNECT", len(text), want)
	}
	_ = server.Close()
	<-carried
}

// A client whose messages wait for their turn is cut off at once.
func TestClientThatWaitsForTheWindowIsCutOff(t *testing.T) {
	for name, cut := range map[string]func(c *mqttClient, server net.Conn){
		"by the hub":    func(c *mqttClient, server net.Conn) { c.cut(); _ = server.Close() },
		"by the server": func(_ *mqttClient, server net.Conn) { _ = server.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			client, down := ends(t)
			up, server := ends(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m := &MQTT{ctx: ctx}
			c := &mqttClient{raw: down, down: down, up: up, inFlight: newWindow()}
			carried := make(chan struct{})
			go func() { defer close(carried); m.carry(c) }()
			for range 2 * mqttWindow {
				if _, err := client.Write([]byte{0x32, 5, 0, 1, 'a', 0, 1}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.ReadFull(server, make([]byte, 7*mqttWindow)); err != nil {
				t.Fatal(err)
			}
			cut(c, server)
			<-carried
		})
	}
}

// A client is silent when it says nothing, and not while the hub lets its
// messages wait.
func TestClientThatWaitsForTheWindowIsNotSilent(t *testing.T) {
	client, down := ends(t)
	up, server := ends(t)
	for range 2 * mqttWindow {
		if _, err := client.Write([]byte{0x32, 5, 0, 1, 'a', 0, 1}); err != nil {
			t.Fatal(err)
		}
	}
	m := &MQTT{ctx: t.Context()}
	c := &mqttClient{raw: down, down: down, up: up, inFlight: newWindow(), patience: 100 * time.Millisecond}
	carried := make(chan struct{})
	go func() { defer close(carried); m.carry(c) }()
	half := make([]byte, 7*mqttWindow)
	if _, err := io.ReadFull(server, half); err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * c.patience) // what passes is the point
	if _, err := server.Write(bytes.Repeat([]byte{0x40, 2, 0, 1}, mqttWindow)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, half); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	// Now it is.
	if _, err := io.ReadAll(server); err != nil {
		t.Error(err)
	}
	_ = server.Close()
	<-carried
}
