package hub_test

import (
	"testing"

	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// Gear says the same again and again, as switches and thermometers do, and
// the hub is killed twice meanwhile: each message is a reading of its own,
// though its words tell it from no other. Mosquitto says which ones it
// repeats, so there is none too much either; the hub's own broker forgets with
// the hub what was acknowledged last, and of messages with the same words some
// may be there twice.
func TestBridgeLosesNoneOfTheSameWords(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{MaxInflight: 500}, func(t *testing.T, s *site) {
		db, h := s.countingHub(t)
		gear := newCounters(t, s.endpoint(t), countingGear...)
		gear.same = true
		for range 2 {
			gear.send(s.onTheirWay())
			hubtest.Eventually(t, "readings are durable", func() bool { return barn(t, h.Endpoint).Rows > 0 })
			h.Kill()
			gear.send(100)
			h.Start()
		}
		gear.out.Wait(t)
		rows := 0
		hubtest.Eventually(t, "all are stored", func() bool {
			rows = 0
			for _, of := range stored(db, "raw") {
				rows += len(of)
			}
			return rows >= gear.total()
		})
		if !s.embedded() && rows != gear.total() {
			t.Errorf("%d rows of %d messages", rows, gear.total())
		}
		t.Logf("%d rows of %d messages", rows, gear.total())
	})
}
