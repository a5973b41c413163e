package mqttbridge

import (
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// Bounds of what a sample keeps in memory. Beyond them messages are counted,
// and beyond maxSampleTopics topics not even by their names.
const (
	maxSampleMessages = 20_000
	maxSampleBytes    = 12 << 20
	// sampleReserve is for the first messages of topics that come late.
	sampleReserve   = 4 << 20
	maxSampleTopics = 20_000
)

// recording is what a broker has sent, in its order.
type recording struct {
	filters []string // what was asked for: more may come
	own     []naming // what the hub itself publishes, which is no gear

	mu       sync.Mutex
	messages []profile.Message // never changed once they are there
	bytes    int
	topics   []*sampledTopic // in the order of their first messages
	byName   map[string]*sampledTopic
	count    uint64
	left     uint64 // messages that are not among messages
}

// sampledTopic is what came on one topic.
type sampledTopic struct {
	name  string
	first []profile.Message // up to maxFirst

	count uint64 // guarded by the recording's mu
}

// maxFirst is how many messages of a topic are looked at to recognise it.
const maxFirst = 4

func newRecording(filters []string, own []naming) *recording {
	return &recording{filters: filters, own: own, byName: make(map[string]*sampledTopic)}
}

// put takes in a message. It does not wait.
func (r *recording) put(m mqtt.Message) {
	if !matchesAny(r.filters, m.Topic()) || strings.HasPrefix(m.Topic(), fenceRoot) || slices.ContainsFunc(r.own, func(n naming) bool { return n.own(m.Topic()) }) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	t := r.byName[m.Topic()]
	size := len(m.Topic()) + len(m.Payload()) + 128
	room := maxSampleBytes
	switch {
	case t == nil && len(r.topics) >= maxSampleTopics:
		r.left++
		return
	case t == nil:
		t = &sampledTopic{name: m.Topic()}
		r.byName[t.name] = t
		r.topics = append(r.topics, t)
		room += sampleReserve
	}
	t.count++
	if r.bytes+size > room || len(r.messages) >= maxSampleMessages && len(t.first) > 0 {
		r.left++
		return
	}
	r.bytes += size
	kept := profile.Message{Topic: t.name, Payload: slices.Clone(m.Payload()), Retained: m.Retained(), Received: time.Now()}
	r.messages = append(r.messages, kept)
	if len(t.first) < maxFirst {
		t.first = append(t.first, kept)
	}
}

// seen is a recording as of one moment.
type seen struct {
	messages uint64
	left     uint64
	kept     []profile.Message
	topics   []seenTopic
}

type seenTopic struct {
	name  string
	first []profile.Message
	count uint64
}

func (r *recording) take() seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := seen{messages: r.count, left: r.left, kept: r.messages[:len(r.messages):len(r.messages)], topics: make([]seenTopic, len(r.topics))}
	for i, t := range r.topics {
		s.topics[i] = seenTopic{name: t.name, first: t.first[:len(t.first):len(t.first)], count: t.count}
	}
	return s
}
