package firmwaresim

import (
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// A node that is asked for its birth right after data, or reads late and then
// in time, tells no two values of a metric for one time: those would be two
// readings of which one is moved.
func TestSparkplugMessagesHaveTimesOfTheirOwn(t *testing.T) {
	g := newSparkplugGear([]string{"plant/press"}, rand.New(rand.NewPCG(1, 2)))
	now := time.Now()
	var messages []gearMessage
	for range 20 {
		messages = append(messages, g.read(now)...)
		messages = append(messages, g.born(0)...)
	}
	told := make(map[string]uint64) // when last, by gear
	for _, m := range messages {
		payload := new(sparkplugv1.Payload)
		if err := proto.Unmarshal(m.payload, payload); err != nil {
			t.Fatal(err)
		}
		for _, metric := range payload.GetMetrics() {
			if metric.GetTimestamp() <= told[m.reading] {
				t.Errorf("%s: %d after %d", m.topic, metric.GetTimestamp(), told[m.reading])
			}
		}
		told[m.reading] = payload.GetTimestamp()
	}
}
