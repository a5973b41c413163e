package natsd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// A client id of any characters works, belongs to its user alone, and brings
// nobody else's session or messages.
func TestMQTTClientIDsAreEachUsersOwn(t *testing.T) {
	ids := []string{"x", "a.b", "*", ">", "#", "+", "a b", "$SYS", "$JS.API.>", "a/../b", "ä", "=2E", "~", "a~b", strings.Repeat("i", 256), "\t\n"}
	// "a~b" with "c" and "a" with "b~c" would be one id, were they put together plainly.
	names := []string{"a", "a~b", "*", "tl.>"}
	b := startBroker(t, t.TempDir(), usersOf(everything, names...))
	for _, id := range append(ids, "b~c", "c") {
		var clients []mqtt.Client
		for _, name := range names {
			c := b.Dial(t, id, as(name), mqtttest.Persistent)
			clients = append(clients, c)
			if subs := c.(interface {
				OptionsReader() mqtt.ClientOptionsReader
			}).OptionsReader(); subs.ClientID() != id {
				t.Fatalf("client id %q; want %q", subs.ClientID(), id)
			}
		}
		for i, c := range clients {
			topic := fmt.Sprint("own/", i)
			own := mqtttest.Subscribe(t, c, topic, 1)
			mqtttest.Publish(t, c, topic, 1, false, id)
			if m := mqtttest.Next(t, own); string(m.Payload()) != id {
				t.Errorf("user %q with id %q got %q", names[i], id, m.Payload())
			}
			if !c.IsConnectionOpen() {
				t.Errorf("user %q with id %q was replaced by another user", names[i], id)
			}
		}
		for _, c := range clients {
			c.Disconnect(0)
		}
	}
	if err := mqtttest.Wait(t, mqtt.NewClient(b.Options(strings.Repeat("i", 257), as("a"))).Connect()); err == nil {
		t.Error("a client id of 257 bytes is taken")
	}
}

func usersOf(rights natsd.MQTTRights, names ...string) users {
	u := users{}
	for _, name := range names {
		u[name] = rights
	}
	return u
}

// The same user with the same id takes its session over, as MQTT wants it.
func TestMQTTSessionIsTakenOver(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything})
	lost := make(chan error, 1)
	b.Dial(t, "c", as("all"), func(o *mqtt.ClientOptions) {
		o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	})
	b.Dial(t, "c", as("all"))
	select {
	case <-lost:
	case <-time.After(mqtttest.Patience):
		t.Error("two connections with one session")
	}
}

// MQTT users see nothing of the hub, and the hub nothing of them, whatever
// topics they use; nor do they reach what the server keeps of MQTT.
func TestMQTTStaysApartFromTheHub(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything})
	ctx := testContext(t)
	conn, js := b.node.Conn(), b.node.JetStream()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "TELEMETRY", Subjects: []string{"tl.>"}, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "registry", MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan *nats.Msg, 1000)
	if _, err := conn.ChanSubscribe(">", heard); err != nil {
		t.Fatal(err)
	}
	w := newWitness(t, b)
	for _, topic := range []string{"tl/x", "tl.x", "$KV/registry/a", "$JS/API/STREAM/DELETE/TELEMETRY", "$JS/API/STREAM/DELETE/$MQTT_msgs",
		"$JS/API/STREAM/PURGE/$MQTT_rmsgs", "$MQTT/msgs/forged/a", "$MQTT/rmsgs/forged/b", "$MQTT/sess/forged", "$SYS/REQ/SERVER/PING", "_INBOX/x", "$SYS/ACCOUNT/x"} {
		for _, retained := range []bool{false, true} {
			mqtttest.Publish(t, w.c, topic, 1, retained, "{}")
		}
	}
	want := []string{"tl/x", "tl/x", "tl.x", "tl.x", "_INBOX/x", "_INBOX/x"}
	if got := w.since(t); !slices.Equal(got, want) {
		t.Errorf("MQTT clients saw %q; want %q", got, want)
	}
	for i := range 10 {
		if _, err := js.Publish(ctx, fmt.Sprint("tl.", i), []byte("secret")); err != nil {
			t.Fatal(err)
		}
		if _, err := bucket.Put(ctx, fmt.Sprint("device", i), []byte("secret")); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.since(t); len(got) != 0 {
		t.Errorf("MQTT clients saw the hub's own: %q", got)
	}
	if info, err := stream.Info(ctx); err != nil || info.State.Msgs != 10 {
		t.Errorf("the hub's stream holds %v, %v; want its own 10", info, err)
	}
	if names, err := js.AccountInfo(ctx); err != nil || names.Streams != 2 {
		t.Errorf("the hub's account has %v streams, %v; want its own 2", names.Streams, err)
	}
	for len(heard) > 0 {
		if m := <-heard; !strings.HasPrefix(m.Subject, "tl.") && !strings.HasPrefix(m.Subject, "$KV.") && !strings.HasPrefix(m.Subject, "_INBOX.") && !strings.HasPrefix(m.Subject, "$JS.") {
			t.Errorf("the hub heard %q of an MQTT client", m.Subject)
		}
	}
	fresh := b.Dial(t, "fresh", as("all"))
	for _, filter := range []string{"forged/#", "+/+/forged"} {
		select {
		case m := <-mqtttest.Subscribe(t, fresh, filter, 1):
			t.Errorf("a forged message is there: %q", m.Topic())
		default:
		}
	}
	if w.since(t); !w.c.IsConnectionOpen() {
		t.Error("the broker has lost its streams")
	}
}

// subscribeKept subscribes until a retained message comes: the server answers
// a publisher before new subscriptions find what it retains.
func subscribeKept(t *testing.T, c mqtt.Client, filter string) (<-chan mqtt.Message, mqtt.Message) {
	t.Helper()
	for range 60 {
		messages := mqtttest.Subscribe(t, c, filter, 1)
		select {
		case m := <-messages:
			if !m.Retained() {
				t.Fatalf("a message on %q that is not retained", m.Topic())
			}
			return messages, m
		case <-time.After(time.Second):
		}
	}
	t.Fatalf("nothing is retained for %q", filter)
	return nil, nil
}

// Topics with the server's wildcards are topics, no wildcards: neither live
// nor retained messages of others come by them.
func TestMQTTServerWildcardsInTopics(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything, "u": {Publish: []string{"+/state", "+/+"}, Subscribe: []string{"+/state"}}})
	owner := b.Dial(t, "owner", as("all"))
	mqtttest.Publish(t, owner, "a/state", 1, true, "of a")
	own, m := subscribeKept(t, owner, "a/state")
	if string(m.Payload()) != "of a" {
		t.Fatalf("retained message %q", m.Payload())
	}
	u := b.Dial(t, "u", as("u"))
	for _, topic := range []string{"*/state", "a/*", "*/*", "a/>"} {
		for _, qos := range []byte{0, 1, 2} {
			mqtttest.Publish(t, u, topic, qos, true, "forged")
			mqtttest.Publish(t, u, topic, qos, true, "")
		}
	}
	mqtttest.Publish(t, owner, "a/state", 1, false, "end")
	if m := mqtttest.Next(t, own); string(m.Payload()) != "end" {
		t.Errorf("%q came on a/state", m.Payload())
	}
	kept := mqtttest.Subscribe(t, b.Dial(t, "late", as("all")), "a/state", 1)
	if m := mqtttest.Next(t, kept); string(m.Payload()) != "of a" {
		t.Errorf("the retained message is %q; want it as its owner left it", m.Payload())
	}
}

// A will and a retained message need the right to publish like any message.
func TestMQTTWillAndRetainedNeedTheirRight(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything, "u": {Publish: []string{"u/#"}}})
	w := newWitness(t, b)
	u := b.Dial(t, "u", as("u"))
	mqtttest.Publish(t, u, "other/kept", 1, true, "forged")
	mqtttest.Publish(t, u, "other/kept", 0, true, "forged")
	mqtttest.Publish(t, u, "u/kept", 1, true, "own")
	if got := w.since(t); !slices.Equal(got, []string{"u/kept"}) {
		t.Errorf("published %q; want u/kept alone", got)
	}
	late := b.Dial(t, "late", as("all"))
	kept, m := subscribeKept(t, late, "+/kept")
	if m.Topic() != "u/kept" {
		t.Errorf("%q is retained", m.Topic())
	}
	for _, topic := range []string{"other/gone", "u/gone"} {
		var conn net.Conn
		c := mqtt.NewClient(b.Options("dying", as("u"), func(o *mqtt.ClientOptions) {
			o.SetWill(topic, "gone", 1, true)
			o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
				var err error
				conn, err = net.Dial("tcp", b.mqtt.Addr().String())
				return conn, err
			})
		}))
		if err := mqtttest.Wait(t, c.Connect()); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		c.Disconnect(0)
		eventually(t, "the client is gone", func() bool { return b.mqtt.Clients() == 3 })
	}
	// The server publishes a will some time after the end of the connection.
	var wills []string
	eventually(t, "a will is published", func() bool {
		wills = w.since(t)
		return len(wills) > 0
	})
	if !slices.Equal(wills, []string{"u/gone"}) {
		t.Errorf("the wills on %q are published; want u/gone alone", wills)
	}
	select {
	case m := <-kept:
		t.Errorf("%q is retained too", m.Topic())
	default:
	}
}

// A message larger than the server takes ends that connection and nothing
// else.
func TestMQTTLargeMessages(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything})
	w := newWitness(t, b)
	for _, qos := range []byte{0, 1, 2} {
		c := mqtt.NewClient(b.Options("large", as("all")))
		if err := mqtttest.Wait(t, c.Connect()); err != nil {
			t.Fatal(err)
		}
		c.Publish("a", qos, false, bytes.Repeat([]byte{'x'}, 10<<20))
		eventually(t, "the connection is ended", func() bool { return !c.IsConnectionOpen() })
		c.Disconnect(0)
	}
	mqtttest.Publish(t, w.c, "b", 1, false, bytes.Repeat([]byte{'x'}, 1<<20-1000))
	if got := w.since(t); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %q", got)
	}
	if err := b.node.Health(testContext(t)); err != nil {
		t.Error(err)
	}
}

// Whoever says no CONNECT that can be read is let go, without a word.
func TestMQTTDoorRefusesNoise(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything})
	for _, noise := range []string{
		"GET / HTTP/1.1\r\n\r\n", "\x00\x00", "\x10\xff\xff\xff\xff\x7f", "\x10\xff\xff\x7f", "\x10\x00", "\x10\x02\x00\x04", "\x30\x05hello",
		"\x10\x0c\x00\x04MQTT\x04\x01\x00\x00\x00\x00", "\x10\x0c\x00\x04MQTT\x04\x40\x00\x00\x00\x00", "\x10\x0c\x00\x04XXXX\x04\x02\x00\x00\x00\x00",
		"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x00zz",
	} {
		if got := answer(t, b, noise); got != "" {
			t.Errorf("%q is answered by %q", noise, got)
		}
	}
	for _, tt := range []struct{ packet, want string }{
		{"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00", "\x20\x02\x00\x01"},                                      // MQTT 5
		{"\x10\x0f\x00\x04MQTT\x04\x82\x00\x00\x00\x00\x00\x01\x00", "\x20\x02\x00\x04"},                              // NUL in the name
		{"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01\x00", "\x20\x02\x00\x02"},                                      // NUL in the id
		{"\x10\x17\x00\x04MQTT\x04\xc2\x00\x00\x00\x00\x00\x03all\x00\x04nope", "\x20\x02\x00\x04"},                   // wrong password
		{"\x10\x19\x00\x04MQTT\x04\xc0\x00\x00\x00\x00\x00\x03all\x00\x06all-pw", "\x20\x02\x00\x02"},                 // no id, but a session
		{"\x10\x19\x00\x04MQTT\x84\xc2\x00\x00\x00\x00\x00\x03all\x00\x06all-pw\xe0\x00", "\x20\x02\x00\x00"},         // Mosquitto's bridge
		{"\x10\x1b\x00\x06MQIsdp\x03\xc2\x00\x00\x00\x00\x00\x03all\x00\x06all-pw\xe0\x00", "\x20\x02\x00\x00"},       // MQTT 3.1
		{"\x10\x19\x00\x04MQTT\x04\xc2\x00\x00\x00\x00\x00\x03all\x00\x06all-pw\xc0\x00", "\x20\x02\x00\x00\xd0\x00"}, // and PINGREQ at once
	} {
		if got := answer(t, b, tt.packet); got != tt.want {
			t.Errorf("%q is answered by %q; want %q", tt.packet, got, tt.want)
		}
	}
}

// answer sends bytes and then nothing more, and reads to the end.
func answer(t *testing.T, b *broker, packet string) string {
	t.Helper()
	conn, err := net.Dial("tcp", b.mqtt.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(mqtttest.Patience))
	if _, err := conn.Write([]byte(packet)); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite() // fails where the broker was faster
	var got bytes.Buffer
	if _, err := got.ReadFrom(conn); errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%q: the connection stays open", packet)
	}
	return got.String()
}

// The server's own listener, which the door stands before, lets nobody in
// with a user and password of the broker's.
func TestMQTTServerListenerTakesTheDoorAlone(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything})
	inner := mqtttest.Endpoint{URL: "tcp://" + natsd.InnerMQTTAddr(b.node)}
	for _, with := range []mqtttest.Option{as("all"), mqtttest.As("MQTT", ""), func(*mqtt.ClientOptions) {}} {
		if err := mqtttest.Wait(t, mqtt.NewClient(inner.Options("c", with)).Connect()); err == nil {
			t.Error("somebody went around the door")
		}
	}
}

// More clients than MaxClients are told so; who is exempt comes in.
func TestMQTTMaxClients(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"u": everything, "hub": everything}, func(d *natsd.MQTTDoor) {
		d.MaxClients = 2
		d.Exempt = func(user string) bool { return user == "hub" }
	})
	first := b.Dial(t, "1", as("u"))
	b.Dial(t, "2", as("u"))
	b.Dial(t, "3", as("hub"))
	if err := mqtttest.Wait(t, mqtt.NewClient(b.Options("4", as("u"))).Connect()); err == nil || !strings.Contains(err.Error(), "Unavailable") {
		t.Errorf("the third of two: %v", err)
	}
	first.Disconnect(0)
	eventually(t, "there is room again", func() bool { return b.mqtt.Clients() == 2 })
	b.Dial(t, "4", as("u"))
}
