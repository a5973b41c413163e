package natsd_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// everything is what a user without bounds may do.
var everything = natsd.MQTTRights{Publish: []string{"#", "$sparkplug/#"}, Subscribe: []string{"#", "$sparkplug/#"}}

// broker is a node with the MQTT broker open, plaintext, for these tests.
type broker struct {
	mqtttest.Endpoint
	node *natsd.Node
	mqtt *natsd.MQTT
}

// users are those of a broker, by name; the password is the name and "-pw".
type users map[string]natsd.MQTTRights

func (u users) authenticate(_ context.Context, user string, password []byte) (natsd.MQTTRights, bool) {
	rights, ok := u[user]
	return rights, ok && string(password) == user+"-pw"
}

// as is the option of a client of that user.
func as(user string) mqtttest.Option { return mqtttest.As(user, user+"-pw") }

func startBroker(t *testing.T, dir string, u users, change ...func(*natsd.MQTTDoor)) *broker {
	t.Helper()
	node := start(t, natsd.Config{Dir: dir, Name: "one", MQTT: &natsd.MQTTConfig{}})
	return openBroker(t, node, u, change...)
}

func openBroker(t *testing.T, node *natsd.Node, u users, change ...func(*natsd.MQTTDoor)) *broker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	door := natsd.MQTTDoor{Listener: l, Authenticate: u.authenticate}
	for _, c := range change {
		c(&door)
	}
	m, err := node.OpenMQTT(door)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- m.Serve() }()
	t.Cleanup(func() {
		_ = m.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	if got := node.MQTTAddr(); got == nil || got.String() != l.Addr().String() {
		t.Errorf("address of the broker %v; want %v", got, l.Addr())
	}
	return &broker{Endpoint: mqtttest.Endpoint{URL: "tcp://" + l.Addr().String()}, node: node, mqtt: m}
}

func TestMQTTMessagesPass(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything})
	writer := b.Dial(t, "writer", as("all"))
	for _, qos := range []byte{0, 1, 2} {
		// One session each: the server does not raise the QoS of a subscription from 1 to 2.
		messages := mqtttest.Subscribe(t, b.Dial(t, fmt.Sprint("reader", qos), as("all")), "a/#", qos)
		for _, topic := range []string{"a/b", "a", "a/b.c", "a//d", "a/"} {
			mqtttest.Publish(t, writer, topic, qos, false, "hello")
			if m := mqtttest.Next(t, messages); m.Topic() != topic || string(m.Payload()) != "hello" || m.Qos() != qos {
				t.Errorf("got %q %q with QoS %d; want %q with %d", m.Topic(), m.Payload(), m.Qos(), topic, qos)
			}
		}
	}
	if got := b.mqtt.Clients(); got != 4 {
		t.Errorf("%d clients; want 4", got)
	}
}
