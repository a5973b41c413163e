package natsd_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// subscribed says whether the broker took the subscription.
func subscribed(t *testing.T, c mqtt.Client, filter string, qos byte) bool {
	t.Helper()
	token := c.Subscribe(filter, qos, func(mqtt.Client, mqtt.Message) {})
	_ = mqtttest.Wait(t, token) // an error where the broker refuses
	return token.(*mqtt.SubscribeToken).Result()[filter] != 0x80
}

// ordered has the client hand out messages in the order they come in.
func ordered(o *mqtt.ClientOptions) { o.SetOrderMatters(true) }

// witness sees everything that is published.
type witness struct {
	c        mqtt.Client
	messages <-chan mqtt.Message
}

func newWitness(t *testing.T, b *broker) *witness {
	c := b.Dial(t, "witness", as("all"), ordered)
	return &witness{c: c, messages: mqtttest.Subscribe(t, c, "#", 1)}
}

// since returns the topics published before now and not seen yet.
func (w *witness) since(t *testing.T) []string {
	t.Helper()
	mqtttest.Publish(t, w.c, "end/of/it", 1, false, "")
	var topics []string
	for {
		topic := mqtttest.Next(t, w.messages).Topic()
		if topic == "end/of/it" {
			return topics
		}
		topics = append(topics, topic)
	}
}

// A filter gives exactly the topics that MQTT says, whatever the server makes
// of dots and empty levels. Publishing is silently refused, as MQTT 3.1.1 has
// no word for it; subscribing is refused aloud.
func TestMQTTRightsAreExact(t *testing.T) {
	topics := []string{
		"foo", "foo/", "/foo", "foo/bar", "foo.bar", "foo//bar", "foo/.bar", "foo./bar", "foo/bar/baz", "foo/bar.baz",
		"foo/b", "fo", "foobar", "/", "//", ".", "./", "/.", "..", "Foo/bar", "foo/bär", "bar/foo", "bar",
	}
	filters := []string{
		"foo", "foo/bar", "foo.bar", "foo//bar", "foo/#", "foo/+", "+/bar", "#", "+", "/#", "/+", "+/+", "foo/+/bar", "foo/bar/#", "foo./#", "foo/bär",
	}
	rights := users{"all": everything}
	for i, filter := range filters {
		rights[fmt.Sprint("u", i)] = natsd.MQTTRights{Publish: []string{filter}, Subscribe: []string{filter}}
	}
	b := startBroker(t, t.TempDir(), rights)
	w := newWitness(t, b)
	for i, filter := range filters {
		user := fmt.Sprint("u", i)
		c := b.Dial(t, "c", as(user))
		var want []string
		for _, topic := range topics {
			mqtttest.Publish(t, c, topic, 1, false, "x")
			matches := topicMatches(filter, topic)
			if matches {
				want = append(want, topic)
			}
			if got := subscribed(t, c, topic, byte(i%2)); got != matches {
				t.Errorf("with %q: subscribing to %q is allowed: %v", filter, topic, got)
			}
		}
		if got := w.since(t); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("with %q: published %q; want %q", filter, got, want)
		}
	}
}

// topicMatches is section 4.7 of MQTT 3.1.1.
func topicMatches(filter, topic string) bool {
	f, l := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i >= len(l) || level != "+" && level != l[i] {
			return false
		}
	}
	return len(f) == len(l) || len(f) == len(l)+1 && f[len(f)-1] == "#"
}

// Topics of any dots and empty levels come out as they went in, and a right to
// one of them is no right to another.
func TestMQTTTopicsStayApart(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	var topics []string
	for len(topics) < 150 {
		var topic strings.Builder
		for range 1 + r.IntN(6) {
			topic.WriteByte("a/.b"[r.IntN(4)])
		}
		if !seen[topic.String()] {
			seen[topic.String()] = true
			topics = append(topics, topic.String())
		}
	}
	half := topics[:len(topics)/2]
	b := startBroker(t, t.TempDir(), users{"all": everything, "half": {Publish: half}})
	w := newWitness(t, b)
	c := b.Dial(t, "c", as("half"))
	for _, topic := range topics {
		mqtttest.Publish(t, c, topic, 1, false, "x")
	}
	if got := w.since(t); strings.Join(got, " ") != strings.Join(half, " ") {
		t.Errorf("published %q\nwant %q", got, half)
	}
	if subscribed(t, c, half[0], 0) || subscribed(t, c, "#", 1) {
		t.Error("a user without a right to subscribe may")
	}
}

// What a wildcard may be subscribed to is within the rights as a whole, or not
// at all.
func TestMQTTWildcardsNeedTheirRight(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"u": {Subscribe: []string{"a/#", "b/+/c"}}})
	c := b.Dial(t, "c", as("u"))
	for filter, want := range map[string]bool{
		"a/#": true, "a/+": true, "a/b/#": true, "a/+/c": true, "a": true, "b/+/c": true, "b/x/c": true,
		"#": false, "+": false, "+/b": false, "b/#": false, "b/+": false, "b/+/+": false, "b/x/#": false, "+/x/c": false, "/a": false, "a.b": false,
		"$SYS/#": false, "$JS/#": false, "$MQTT/#": false, "$MQTT/msgs/#": false, "*": false, ">": false, "*/#": false, "b/*/c": true, // the server's '+'
	} {
		for _, qos := range []byte{0, 1, 2} {
			if got := subscribed(t, c, filter, qos); got != want {
				t.Errorf("subscribing to %q with QoS %d is allowed: %v", filter, qos, got)
			}
		}
	}
}

// A wildcard in the first level does not reach the births of Sparkplug that
// the server keeps below "$sparkplug/", retained (MQTT 3.1.1, section 4.7.2);
// who has a right that names them gets them by it.
func TestMQTTWildcardsDoNotReachSparkplugsOwn(t *testing.T) {
	b := startBroker(t, t.TempDir(), users{"all": everything, "u": {Publish: []string{"#"}, Subscribe: []string{"#"}}})
	const birth, certificate = "spBv1.0/g/NBIRTH/n", "$sparkplug/certificates/spBv1.0/g/NBIRTH/n"
	u := b.Dial(t, "u", as("u"), ordered)
	for qos := range byte(2) {
		mqtttest.Publish(t, u, birth, qos, false, "born")
	}
	mqtttest.Publish(t, u, certificate, 1, true, "forged")
	kept := mqtttest.Subscribe(t, b.Dial(t, "host", as("all")), "$sparkplug/certificates/#", 1)
	if m := mqtttest.Next(t, kept); m.Topic() != certificate || string(m.Payload()) != "born" || !m.Retained() {
		t.Errorf("%q is on %s", m.Payload(), m.Topic())
	}
	for _, filter := range []string{"#", "+/#", "+/certificates/#"} {
		for qos := range byte(2) {
			late := b.Dial(t, "late", as("u"), ordered)
			heard := make(chan mqtt.Message, 100)
			late.AddRoute(filter, func(_ mqtt.Client, m mqtt.Message) { heard <- m })
			if err := mqtttest.Wait(t, late.Subscribe(filter, qos, nil)); err != nil {
				t.Fatal(err)
			}
			mqtttest.Publish(t, u, birth, qos, false, "born again")
			mqtttest.Publish(t, u, "the/certificates/end", qos, false, "")
			for m := mqtttest.Next(t, heard); m.Topic() != "the/certificates/end"; m = mqtttest.Next(t, heard) {
				if m.Topic() != birth {
					t.Errorf("%q with QoS %d: %s came, retained %v", filter, qos, m.Topic(), m.Retained())
				}
			}
			late.Disconnect(100)
		}
	}
	if subscribed(t, u, "$sparkplug/#", 1) {
		t.Error("a right to # is one to $sparkplug/#")
	}
}

func TestMQTTFiltersAreChecked(t *testing.T) {
	for _, filter := range []string{"a", "a/b", "/", "a//b", "+", "#", "a/+/b/#", "a.b", "$sparkplug/certificates/#", "ä"} {
		if err := natsd.CheckMQTTFilter(filter); err != nil {
			t.Errorf("%q: %v", filter, err)
		}
	}
	for _, filter := range []string{"", "a/#/b", "a#", "a+/b", "+a", "a b", "a/*", ">", "a>", "$SYS/#", "$JS/API", "$share/g/a", "$MQTT/#", "a\x00", "a\x7f", "a\n", "\xff", "$sparkplug+/a", strings.Repeat("a", 70000)} {
		if err := natsd.CheckMQTTFilter(filter); err == nil {
			t.Errorf("%.20q is taken", filter)
		}
	}
}
