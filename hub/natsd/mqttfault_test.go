package natsd_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// Who floods the broker waits for it; nothing of the flood is lost.
func TestMQTTFloodWaits(t *testing.T) {
	const speed, flood = 3000, 3 * 3000
	b := startBroker(t, t.TempDir(), users{"all": everything}, func(d *natsd.MQTTDoor) { d.MaxRate = speed })
	reader := mqtttest.Subscribe(t, b.Dial(t, "reader", as("all")), "a", 0)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession, hello.ClientIdentifier = "MQTT", 4, true, "flood"
	hello.UsernameFlag, hello.PasswordFlag, hello.Username, hello.Password = true, true, "all", []byte("all-pw")
	if err := hello.Write(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := packets.ReadPacket(conn); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(bytes.Repeat([]byte("\x30\x04\x00\x01ax"), flood))
		sent <- err
	}()
	for range flood {
		mqtttest.Next(t, reader)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < (flood/speed-1)*time.Second*9/10 {
		t.Errorf("%d messages passed in %v; want no more than %d a second, after as many", flood, took, speed)
	}
}

// What a client does that the broker does not take is told, with who it was.
func TestMQTTFaultsAreTold(t *testing.T) {
	faults := make(chan natsd.MQTTFault, 100)
	rights := users{"all": everything, "few": {Publish: []string{"few/#"}}}
	b := startBroker(t, t.TempDir(), rights, func(d *natsd.MQTTDoor) {
		d.MaxClients, d.Fault = 2, func(f natsd.MQTTFault) { faults <- f }
	})
	want := func(user, clientID, reason, detail string) {
		t.Helper()
		select {
		case f := <-faults:
			if f.User != user || f.ClientID != clientID || f.Reason != reason || !strings.Contains(f.Detail, detail) {
				t.Errorf("got %+v; want of %s, %s: %s, %s", f, user, clientID, reason, detail)
			}
		case <-time.After(mqtttest.Patience):
			t.Errorf("not told: of %s, %s: %s, %s", user, clientID, reason, detail)
		}
	}
	refused := func(id string, with ...mqtttest.Option) {
		t.Helper()
		c := mqtt.NewClient(b.Options(id, with...))
		if err := mqtttest.Wait(t, c.Connect()); err == nil {
			t.Errorf("%s is let in", id)
		}
	}
	refused("x - mid:1 - y", mqtttest.As("all", "wrong"))
	want("all", "x - mid:1 - y", "wrong user or password", "mqtt-users")
	few := b.Dial(t, `cam " - 1`, as("few"), func(o *mqtt.ClientOptions) { o.SetAutoReconnect(false) })
	few.Publish("other/topic", 0, false, "x")
	want("few", `cam " - 1`, "not allowed", "other.topic")
	few.Publish("few/a", 0, false, bytes.Repeat([]byte{'x'}, 10<<20))
	want("few", `cam " - 1`, "too large", "bytes; the hub's own broker takes 1048576")
	few.Disconnect(0)
	spaced := b.Dial(t, "spaced", as("all"), func(o *mqtt.ClientOptions) { o.SetAutoReconnect(false) })
	refusal := spaced.Subscribe("living room/#", 1, nil)
	_ = mqtttest.Wait(t, refusal)
	if result := refusal.(*mqtt.SubscribeToken).Result(); result["living room/#"] != 0x80 {
		t.Errorf("a filter with white space: %v", result)
	}
	want("all", "spaced", "topic with white space", "Mosquitto")
	spaced.Publish("living room/lamp", 1, false, "x")
	want("all", "spaced", "topic with white space", "Mosquitto")
	eventually(t, "it is disconnected", func() bool { return !spaced.IsConnectionOpen() })
	will := mqtt.NewClient(b.Options("spaced", as("all"), func(o *mqtt.ClientOptions) { o.SetWill("living room/LWT", "Offline", 1, true) }))
	if err := mqtttest.Wait(t, will.Connect()); err == nil {
		t.Error("a client with such a will is let in")
	}
	want("all", "spaced", "topic with white space", "Mosquitto")
	eventually(t, "it has left", func() bool { return b.mqtt.Clients() == 0 })
	b.Dial(t, "one", as("all"))
	b.Dial(t, "two", as("all"))
	refused("three", as("all"))
	want("all", "three", "too many clients", "2 are connected")
}

// The last will of a client that says nothing for longer than its keep alive
// is published.
func TestMQTTSilentClientIsGone(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything})
	wills := mqtttest.Subscribe(t, b.Dial(t, "reader", as("all")), "gone", 1)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession, hello.ClientIdentifier = "MQTT", 4, true, "silent"
	hello.UsernameFlag, hello.PasswordFlag, hello.Username, hello.Password = true, true, "all", []byte("all-pw")
	hello.WillFlag, hello.WillTopic, hello.WillMessage, hello.Keepalive = true, "gone", []byte("silent"), 1
	if err := hello.Write(conn); err != nil {
		t.Fatal(err)
	}
	if m := mqtttest.Next(t, wills); string(m.Payload()) != "silent" {
		t.Errorf("the will is %q", m.Payload())
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ends with %v", err)
	}
}
