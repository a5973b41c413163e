package mqttbridge

import (
	"fmt"
	"testing"

	"github.com/tetherline/tetherline/hub/mqtttest"
)

// While nothing can be stored, a flood of QoS 0 fills its share of the room and
// no more: what comes at QoS 1 besides is taken at once, without the session's
// being begun again, and what is lost of QoS 0 is counted to the last message.
func TestFloodLeavesRoomForWhatIsNotToBeLost(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{MaxInflight: 500}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, _ := r.bridge(url, fmt.Sprintf(`
brokers:
  - name: barn
    url: BROKER
    max-pending-bytes: %d
    profiles:
      - kind: raw
        settings: {topic: "a/{gear}/{field}", type: integer}
        devices: [{gear: flood, id: flood}, {gear: x, id: counter}]
`, MinPendingBytes))
		up(t, b)
		r.full.Store(true)
		flood, gear := e.Dial(t, "flood"), e.Dial(t, "gear")
		sent := 0
		eventually(t, "the share of QoS 0 is full", func() bool {
			for range 100 {
				mqtttest.Publish(t, flood, "a/flood/n", 0, false, fmt.Sprint(sent))
				sent++
			}
			return b.Brokers()[0].LostQoS0 > 0
		})
		// An eighth of the room: half of what is left.
		n := MinPendingBytes / 8 / (arrivalBytes + len("a/x/n0000"))
		publishNumbers(t, gear, "a/x/n", 0, n)
		eventually(t, "those of QoS 1 are taken", func() bool {
			s := b.Brokers()[0]
			return s.PendingMessages >= uint64(sent+n)-s.LostQoS0
		})
		if p := b.problemOf("no room"); p.Count != 0 {
			t.Errorf("there was no room: %+v", p)
		}
		r.full.Store(false)
		eventually(t, "those of QoS 1 are stored", func() bool { return len(r.numbers("counter")) == n })
		eventually(t, "each of QoS 0 is stored or counted", func() bool {
			return len(r.numbers("flood"))+int(b.Brokers()[0].LostQoS0) == sent
		})
	})
}
