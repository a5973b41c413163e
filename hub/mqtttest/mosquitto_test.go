package mqtttest_test

import (
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub/mqtttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMessagesPass(t *testing.T) {
	b := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	if !strings.HasPrefix(b.URL, "tcp://127.0.0.1:") {
		t.Errorf("URL %q", b.URL)
	}
	messages := mqtttest.Subscribe(t, b.Dial(t, "reader"), "a/#", 1)
	mqtttest.Publish(t, b.Dial(t, "writer"), "a/b", 1, false, "hello")
	if m := mqtttest.Next(t, messages); m.Topic() != "a/b" || string(m.Payload()) != "hello" {
		t.Errorf("got %q %q", m.Topic(), m.Payload())
	}
}

func TestUsersAndACL(t *testing.T) {
	b := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{
		Users: map[string]string{"gear": "secret", "bridge": "other"},
		ACL:   []string{"user bridge", "topic readwrite #", "user gear", "topic write a/#"},
	})
	if err := mqtttest.Wait(t, mqtt.NewClient(b.Options("nobody")).Connect()); err == nil {
		t.Error("connected without a user")
	}
	if err := mqtttest.Wait(t, mqtt.NewClient(b.Options("x", mqtttest.As("gear", "wrong"))).Connect()); err == nil {
		t.Error("connected with a wrong password")
	}
	messages := mqtttest.Subscribe(t, b.Dial(t, "bridge", mqtttest.As("bridge", "other")), "#", 1)
	gear := b.Dial(t, "gear", mqtttest.As("gear", "secret"))
	mqtttest.Publish(t, gear, "b/c", 1, false, "not allowed")
	mqtttest.Publish(t, gear, "a/b", 1, false, "allowed")
	if m := mqtttest.Next(t, messages); m.Topic() != "a/b" {
		t.Errorf("got a message on %q; gear may write a/# only", m.Topic())
	}
}

func TestTLS(t *testing.T) {
	for name, o := range map[string]mqtttest.MosquittoOptions{"server": {TLS: true}, "both": {ClientCertTLS: true}} {
		t.Run(name, func(t *testing.T) {
			b := mqtttest.StartMosquitto(t, o)
			b.Dial(t, "trusting")
			config := b.TLS.Clone()
			if o.ClientCertTLS {
				config.Certificates = nil
			} else {
				config.RootCAs = nil
			}
			c := mqtt.NewClient(mqtttest.Endpoint{URL: b.URL, TLS: config}.Options("stranger"))
			if err := mqtttest.Wait(t, c.Connect()); err == nil {
				t.Error("connected without what TLS needs")
			}
		})
	}
}

// A persistent session and what is queued for it survive a stop.
func TestPersistenceAcrossAStop(t *testing.T) {
	b := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{Persistent: true, MaxInflight: 1})
	reader := b.Dial(t, "reader", mqtttest.Persistent)
	mqtttest.Subscribe(t, reader, "a/#", 1)
	reader.Disconnect(100)
	writer := b.Dial(t, "writer")
	for _, text := range []string{"one", "two", "three"} {
		mqtttest.Publish(t, writer, "a/b", 1, false, text)
	}
	url := b.URL
	b.Stop(t)
	b.Start(t)
	if b.URL != url {
		t.Errorf("URL is %q after the start; was %q", b.URL, url)
	}
	got := make(chan mqtt.Message, 3)
	b.Dial(t, "reader", mqtttest.Persistent, func(o *mqtt.ClientOptions) {
		o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { got <- m })
	})
	for range 3 {
		mqtttest.Next(t, got)
	}
	b.Kill(t)
	b.Start(t)
}
