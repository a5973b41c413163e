package mqttbridge

import (
	"fmt"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// While nothing can be acknowledged, more messages of two profiles wait than
// the embedded broker sends ahead in one session: afterwards all are stored in
// the order of their publication, over the topics of both, and none comes
// half a minute late.
func TestMessagesOfSeveralProfilesKeepTheirOrder(t *testing.T) {
	const n = 1500
	onEachBroker(t, mqtttest.MosquittoOptions{MaxInflight: 600}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, _ := r.bridge(url, `
brokers:
  - name: barn
    url: BROKER
    profiles:
      - {kind: raw, name: first, settings: {topic: "a/{gear}/{field}", type: integer}, devices: [{gear: x, id: first}]}
      - {kind: raw, name: second, settings: {topic: "b/{gear}/{field}", type: integer}, devices: [{gear: x, id: second}]}
      - {kind: raw, name: third, settings: {topic: "c/d/{gear}/{field}", type: integer}, devices: [{gear: x, id: third}]}
`)
		up(t, b)
		gear := e.Dial(t, "gear")
		r.full.Store(true)
		var tokens []mqtt.Token
		for i := range n {
			topic := []string{"a/x/n", "b/x/n", "c/d/x/n", "of/nobody/at/all"}[i%4]
			tokens = append(tokens, gear.Publish(topic, 1, false, fmt.Sprint(i)))
		}
		for _, token := range tokens {
			if err := mqtttest.Wait(t, token); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "as many wait as the broker sends ahead", func() bool { return b.Brokers()[0].PendingMessages > 500 })
		r.full.Store(false)
		eventually(t, "all are stored", func() bool { return len(r.all()) >= n*3/4 })
		last := int64(-1)
		for _, row := range r.all() {
			if v := row.Fields[0].Value.Int64(); v <= last {
				t.Fatalf("%d is stored after %d", v, last)
			} else {
				last = v
			}
		}
		eventually(t, "everything is acknowledged", func() bool { return b.Brokers()[0].PendingMessages == 0 })
		if s := b.Brokers()[0]; s.LostQoS0 != 0 || s.Refused != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// In a session that is new the embedded broker is asked twice for what it
// retains: it may have missed what was published in the moment of the first
// time. In one that goes on it is asked once.
func TestRetainedMessagesAreAskedForAgain(t *testing.T) {
	r := newRigWith(t, natsd.Config{MQTT: &natsd.MQTTConfig{}})
	e := r.openBroker()
	const config = `
brokers:
  - name: barn
    url: BROKER
    profiles:
      - {kind: raw, settings: {topic: "a/{gear}/{field}"}, auto-allow: ["*"]}
`
	mqtttest.Publish(t, e.Dial(t, "gear"), "a/x/n", 1, true, "1")
	eventually(t, "the broker finds what it retains", func() bool {
		c := e.Dial(t, "finder")
		defer c.Disconnect(100)
		select {
		case <-mqtttest.Subscribe(t, c, "a/x/n", 0):
			return true
		case <-time.After(time.Second):
			return false
		}
	})
	b, stop := r.bridge(EmbeddedURL, config)
	up(t, b)
	eventually(t, "it is sent twice", func() bool { return b.Brokers()[0].Messages == 2 })
	stop()
	b, _ = r.bridge(EmbeddedURL, config)
	eventually(t, "it is sent again", func() bool { return b.Brokers()[0].Messages == 1 })
}
