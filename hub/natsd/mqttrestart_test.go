package natsd_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// resume connects a client whose session is there, and hands on what comes.
func resume(t *testing.T, b *broker, id string, with ...mqtttest.Option) (mqtt.Client, <-chan mqtt.Message) {
	t.Helper()
	messages := make(chan mqtt.Message, 1024)
	with = append(with, mqtttest.Persistent, ordered, func(o *mqtt.ClientOptions) {
		o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { messages <- m })
	})
	c := mqtt.NewClient(b.Options(id, with...))
	token := c.Connect()
	if err := mqtttest.Wait(t, token); err != nil {
		t.Fatal(err)
	}
	if !token.(*mqtt.ConnectToken).SessionPresent() {
		t.Errorf("the session of %s is gone", id)
	}
	t.Cleanup(func() { c.Disconnect(100) })
	return c, messages
}

// soon is before the server would repeat by itself, 30 s after it has sent a
// message last.
const soon = 25 * time.Second

func stopNode(t *testing.T, node *natsd.Node) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	began := time.Now()
	if err := node.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// A persistent session, what waits for it and what is retained survive a
// restart of the whole node. Nobody's will is published because of it.
func TestMQTTSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	u := users{"all": everything}
	b := startBroker(t, dir, u)
	reader := b.Dial(t, "reader", as("all"), mqtttest.Persistent)
	mqtttest.Subscribe(t, reader, "a/#", 1)
	reader.Disconnect(100)
	writer := b.Dial(t, "writer", as("all"), func(o *mqtt.ClientOptions) { o.SetWill("a/will", "gone", 1, true) })
	for i := range 20 {
		mqtttest.Publish(t, writer, fmt.Sprint("a/", i), 1, false, fmt.Sprint(i))
	}
	mqtttest.Publish(t, writer, "kept/x", 1, true, "kept")
	if took := stopNode(t, b.node); took > 30*time.Second {
		t.Errorf("the stop took %v", took)
	}

	b = startBroker(t, dir, u)
	_, messages := resume(t, b, "reader", as("all"))
	for i := range 20 {
		if m := mqtttest.Next(t, messages); m.Topic() != fmt.Sprint("a/", i) || string(m.Payload()) != fmt.Sprint(i) {
			t.Errorf("message %d is %q on %q", i, m.Payload(), m.Topic())
		}
	}
	writer = b.Dial(t, "writer", as("all"))
	if m := mqtttest.Next(t, mqtttest.Subscribe(t, writer, "kept/x", 1)); string(m.Payload()) != "kept" {
		t.Errorf("retained %q", m.Payload())
	}
	mqtttest.Publish(t, writer, "a/end", 1, false, "")
	if m := mqtttest.Next(t, messages); m.Topic() != "a/end" {
		t.Errorf("got %q; want the end", m.Topic())
	}
}

// A data folder goes from a hub without MQTT to one with it, back, and again:
// each finds its own.
func TestMQTTComesAndGoesWithADataFolder(t *testing.T) {
	dir := t.TempDir()
	ctx := testContext(t)
	u := users{"all": everything}
	count := 0
	hubUses := func(node *natsd.Node) {
		t.Helper()
		stream := makeStream(t, node.JetStream(), 1)
		if info, err := stream.Info(ctx); err != nil || info.State.Msgs != uint64(count) {
			t.Errorf("the hub's stream holds %d messages, %v; want %d", info.State.Msgs, err, count)
		}
		if _, err := node.JetStream().Publish(ctx, "test.a", []byte("x")); err != nil {
			t.Fatal(err)
		}
		count++
	}
	plain := func() {
		t.Helper()
		node := start(t, natsd.Config{Dir: dir, Name: "one"})
		hubUses(node)
		if _, err := node.OpenMQTT(natsd.MQTTDoor{}); err == nil || node.MQTTAddr() != nil {
			t.Error("a node without MQTT opens it")
		}
		stopNode(t, node)
	}
	plain()
	b := startBroker(t, dir, u)
	hubUses(b.node)
	c := b.Dial(t, "c", as("all"), mqtttest.Persistent)
	mqtttest.Subscribe(t, c, "a", 1)
	c.Disconnect(100)
	mqtttest.Publish(t, b.Dial(t, "w", as("all")), "a", 1, false, "waits")
	stopNode(t, b.node)
	// As if that hub had been killed: it had no time to put things away.
	if err := os.Rename(filepath.Join(dir, "mqtt"), filepath.Join(dir, "jetstream", "MQTT")); err != nil {
		t.Fatal(err)
	}
	plain()
	plain()
	b = startBroker(t, dir, u)
	hubUses(b.node)
	_, messages := resume(t, b, "c", as("all"))
	if m := mqtttest.Next(t, messages); string(m.Payload()) != "waits" {
		t.Errorf("got %q", m.Payload())
	}
}

// A session that stays away fills its share of the store and then loses its
// oldest messages; everybody else goes on, and so does the hub.
func TestMQTTFullStore(t *testing.T) {
	node := start(t, natsd.Config{Dir: t.TempDir(), Name: "one", MaxStore: 32 << 20, MQTT: &natsd.MQTTConfig{MaxStore: natsd.MinMQTTStore}})
	b := openBroker(t, node, users{"all": everything})
	away := b.Dial(t, "away", as("all"), mqtttest.Persistent)
	mqtttest.Subscribe(t, away, "a", 1)
	away.Disconnect(100)
	w := newWitness(t, b)
	writer := b.Dial(t, "writer", as("all"))
	const count = 28
	for i := range count {
		mqtttest.Publish(t, writer, "a", 1, false, bytes.Repeat([]byte{byte(i)}, 512<<10))
	}
	if got := w.since(t); len(got) != count {
		t.Errorf("a live subscriber got %d messages; want %d", len(got), count)
	}
	for i := range 6 { // 3 MiB: retained ones have 2 MiB
		mqtttest.Publish(t, writer, fmt.Sprint("kept/", i), 1, true, make([]byte, 512<<10))
	}
	_, messages := resume(t, b, "away", as("all"))
	mqtttest.Publish(t, writer, "a", 1, false, "end")
	var got []byte
	for {
		m := mqtttest.Next(t, messages)
		if string(m.Payload()) == "end" {
			break
		}
		got = append(got, m.Payload()[0])
	}
	if n := len(got); n < 10 || n >= count || got[n-1] != count-1 || !slices.IsSorted(got) {
		t.Errorf("the session that was away got %v; want the latest ones", got)
	}
	for _, bytes := range []int64{33 << 20, 31 << 20} {
		_, err := node.JetStream().CreateStream(testContext(t), jetstream.StreamConfig{Name: "TEST", Subjects: []string{"test.>"}, MaxBytes: bytes})
		if fits := bytes < 32<<20; fits != (err == nil) {
			t.Errorf("a hub's stream of %d bytes where it may have 32 MiB: %v", bytes, err)
		}
	}
	if err := node.Health(testContext(t)); err != nil {
		t.Error(err)
	}
}

// The bound of the store may change from start to start.
func TestMQTTStoreBoundChanges(t *testing.T) {
	dir := t.TempDir()
	for _, bound := range []int64{0, natsd.MinMQTTStore, 1 << 30} {
		node := start(t, natsd.Config{Dir: dir, Name: "one", MaxStore: 8 << 20, MQTT: &natsd.MQTTConfig{MaxStore: bound}})
		b := openBroker(t, node, users{"all": everything})
		w := newWitness(t, b)
		if got := w.since(t); len(got) != 0 {
			t.Errorf("got %q", got)
		}
		w.c.Disconnect(100)
		stopNode(t, node)
	}
	for name, cfg := range map[string]natsd.Config{
		"too small": {Dir: dir, MQTT: &natsd.MQTTConfig{MaxStore: 1}},
		"external":  {URL: "nats://127.0.0.1:1", MQTT: &natsd.MQTTConfig{}},
	} {
		if _, err := natsd.Start(testContext(t), cfg); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}

// What a client had not acknowledged when the broker stopped comes first when
// both are back, and soon (MQTT 3.1.1, section 4.4).
func TestMQTTRepeatsAfterARestart(t *testing.T) {
	dir := t.TempDir()
	u := users{"all": everything}
	b := startBroker(t, dir, u)
	mute := func(o *mqtt.ClientOptions) { o.SetAutoAckDisabled(true) }
	const count = 50
	heard := mqtttest.Subscribe(t, b.Dial(t, "reader", as("all"), mqtttest.Persistent, ordered, mute), "a/#", 1)
	writer := b.Dial(t, "writer", as("all"))
	for i := range count {
		mqtttest.Publish(t, writer, fmt.Sprint("a/", i), 1, false, "")
		mqtttest.Next(t, heard)
	}
	stopNode(t, b.node)
	b = startBroker(t, dir, u)
	mqtttest.Publish(t, b.Dial(t, "writer", as("all")), "a/new", 1, false, "")
	began := time.Now()
	_, messages := resume(t, b, "reader", as("all"))
	for i := range count {
		if m := mqtttest.Next(t, messages); m.Topic() != fmt.Sprint("a/", i) || !m.Duplicate() {
			t.Fatalf("message %d is on %s, marked as a repetition: %v", i, m.Topic(), m.Duplicate())
		}
		if took := time.Since(began); i == 0 && took > soon {
			t.Errorf("the first repetition took %v", took)
		}
	}
	if m := mqtttest.Next(t, messages); m.Topic() != "a/new" || m.Duplicate() {
		t.Errorf("the new message is on %s", m.Topic())
	}
}

// What a client had not acknowledged when it lost its connection, or when it
// makes another while the one before seems alive, comes first when it is back,
// and soon (MQTT 3.1.1, section 4.4).
func TestMQTTRepeatsAfterALostConnection(t *testing.T) {
	for name, lose := range map[string]func(b *broker){
		"lost":       func(b *broker) { b.mqtt.Disconnect(func(user string) bool { return user == "reader" }) },
		"taken over": func(*broker) {},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, t.TempDir(), users{"reader": everything, "all": everything})
			mute := func(o *mqtt.ClientOptions) { o.SetAutoAckDisabled(true) }
			const count = 560 // more than the server sends ahead
			reader := b.Dial(t, "reader", as("reader"), mqtttest.Persistent, ordered, mute)
			heard := mqtttest.Subscribe(t, reader, "a/#", 1)
			writer := b.Dial(t, "writer", as("all"))
			send := func(from, to int) {
				for i := from; i < to; i++ {
					mqtttest.Publish(t, writer, fmt.Sprint("a/", i), 1, false, "")
				}
			}
			send(0, 50)
			for range 50 {
				mqtttest.Next(t, heard)
			}
			lose(b)
			if name == "lost" {
				send(50, count)
			}
			began := time.Now()
			_, messages := resume(t, b, "reader", as("reader"))
			first := mqtttest.Next(t, messages)
			if took := time.Since(began); first.Topic() != "a/0" || !first.Duplicate() || took > soon {
				t.Fatalf("the first message is on %s after %v, marked as a repetition: %v", first.Topic(), took, first.Duplicate())
			}
			if name != "lost" {
				send(50, count)
			}
			for i := 1; i < count; i++ {
				if m := mqtttest.Next(t, messages); m.Topic() != fmt.Sprint("a/", i) || i < 50 && !m.Duplicate() {
					t.Fatalf("message %d is on %s, marked as a repetition: %v", i, m.Topic(), m.Duplicate())
				}
			}
		})
	}
}
