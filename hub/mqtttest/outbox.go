package mqtttest

import (
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// resendPause is the longest that a client with an Outbox waits before it
// connects again.
const resendPause = 200 * time.Millisecond

// pingTimeout is how long a client with an Outbox waits for the answer to a
// ping. The broker gives it behind what was published before it: one that is
// slow must not have everything sent again and again.
const pingTimeout = 10 * time.Second

// Outbox holds what a client has published with QoS 1 and no broker has
// acknowledged yet. Unlike the tokens of the client, which complete when a
// message is sent again, it is emptied by PUBACKs alone. All methods may run
// at once.
type Outbox struct {
	mqtt.Store

	mu       sync.Mutex
	waiting  map[string]*packets.PublishPacket
	repeated map[message]bool
}

type message struct{ topic, payload string }

// Resends makes the client as good gear is: its session is persistent, it
// connects again by itself, and sends again what was not acknowledged.
func Resends(out *Outbox) Option {
	out.Store = mqtt.NewMemoryStore()
	out.waiting, out.repeated = make(map[string]*packets.PublishPacket), make(map[message]bool)
	return func(o *mqtt.ClientOptions) {
		o.SetCleanSession(false).SetStore(out)
		o.SetAutoReconnect(true).SetMaxReconnectInterval(resendPause).SetKeepAlive(2 * time.Second).SetPingTimeout(pingTimeout)
	}
}

// Put implements mqtt.Store.
func (o *Outbox) Put(key string, message packets.ControlPacket) {
	if p, ok := message.(*packets.PublishPacket); ok && outbound(key) {
		o.mu.Lock()
		o.waiting[key] = p
		o.mu.Unlock()
	}
	o.Store.Put(key, message)
}

// Get implements mqtt.Store. The client calls it for what it sends again, and
// marks that in the packet, which may be on its way at the same time: so it is
// handed out as a copy.
func (o *Outbox) Get(key string) packets.ControlPacket {
	p, ok := o.Store.Get(key).(*packets.PublishPacket)
	if !ok {
		return o.Store.Get(key)
	}
	if outbound(key) {
		o.mu.Lock()
		o.repeated[message{p.TopicName, string(p.Payload)}] = true
		o.mu.Unlock()
	}
	c := *p
	return &c
}

// Del implements mqtt.Store.
func (o *Outbox) Del(key string) {
	o.mu.Lock()
	delete(o.waiting, key)
	o.mu.Unlock()
	o.Store.Del(key)
}

// Reset implements mqtt.Store. The client calls it where it begins anew, which
// a persistent session does not.
func (o *Outbox) Reset() {
	o.mu.Lock()
	clear(o.waiting)
	o.mu.Unlock()
	o.Store.Reset()
}

func outbound(key string) bool { return strings.HasPrefix(key, "o.") }

// Len is how many messages are not acknowledged.
func (o *Outbox) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting)
}

// Repeated says whether the client has sent such a message again: the broker
// may have had it before, and takes it for another.
func (o *Outbox) Repeated(topic, payload string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.repeated[message{topic, payload}]
}

// Wait until every message is acknowledged, and fail the test when none has
// been for as long as Patience.
func (o *Outbox) Wait(t testing.TB) {
	t.Helper()
	deadline, least := time.Now().Add(Patience), o.Len()
	for n := least; n > 0; n = o.Len() {
		if n < least {
			deadline, least = time.Now().Add(Patience), n
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are not acknowledged, and none has been for %v", n, Patience)
		}
		time.Sleep(5 * time.Millisecond) // between polls with a deadline
	}
}
