package mqtttest

import (
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Option changes a client before it connects.
type Option func(*mqtt.ClientOptions)

// As gives a client a user and a password.
func As(user, password string) Option {
	return func(o *mqtt.ClientOptions) { o.SetUsername(user).SetPassword(password) }
}

// Persistent makes the session outlive the connection.
func Persistent(o *mqtt.ClientOptions) { o.SetCleanSession(false) }

// Options are those of a client of this broker that speaks MQTT 3.1.1, does
// not reconnect by itself and runs handlers side by side.
func (e Endpoint) Options(clientID string, with ...Option) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions().AddBroker(e.URL).SetClientID(clientID).SetOrderMatters(false).
		SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(Patience).SetUsername(e.User).SetPassword(e.Password)
	if e.TLS != nil {
		o.SetTLSConfig(e.TLS)
	}
	for _, change := range with {
		change(o)
	}
	return o
}

// Dial connects a client, which is disconnected when the test ends.
func (e Endpoint) Dial(t testing.TB, clientID string, with ...Option) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(e.Options(clientID, with...))
	if err := Wait(t, c.Connect()); err != nil {
		t.Fatalf("connect %q to %s: %v", clientID, e.URL, err)
	}
	t.Cleanup(func() { c.Disconnect(100) })
	return c
}

// Wait returns how the operation ended, and fails the test when it does not
// within Patience.
func Wait(t testing.TB, token mqtt.Token) error {
	t.Helper()
	if !token.WaitTimeout(Patience) {
		t.Fatalf("mqtt: no answer within %v", Patience)
	}
	return token.Error()
}

// Publish sends a message and waits for the broker's answer.
func Publish(t testing.TB, c mqtt.Client, topic string, qos byte, retained bool, payload any) {
	t.Helper()
	if err := Wait(t, c.Publish(topic, qos, retained, payload)); err != nil {
		t.Fatalf("publish to %q: %v", topic, err)
	}
}

// Subscribe subscribes and hands on what comes. A test that reads too little
// of it holds up the client's handlers, never the broker.
func Subscribe(t testing.TB, c mqtt.Client, filter string, qos byte) <-chan mqtt.Message {
	t.Helper()
	messages := make(chan mqtt.Message, 1024)
	token := c.Subscribe(filter, qos, func(_ mqtt.Client, m mqtt.Message) {
		select {
		case messages <- m:
		case <-time.After(Patience):
		}
	})
	if err := Wait(t, token); err != nil {
		t.Fatalf("subscribe to %q: %v", filter, err)
	}
	return messages
}

// Next is the next message, and fails the test when none comes.
func Next(t testing.TB, messages <-chan mqtt.Message) mqtt.Message {
	t.Helper()
	select {
	case m := <-messages:
		return m
	case <-time.After(Patience):
		t.Fatalf("no message within %v", Patience)
		return nil
	}
}
