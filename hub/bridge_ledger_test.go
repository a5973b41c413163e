package hub_test

import (
	"testing"

	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// inFlight is how many messages of QoS 1 are on their way when things go
// wrong.
const inFlight = 10_000

var countingGear = []string{"g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"}

// onTheirWay is inFlight, or less where the broker is the hub's own and the
// test a short one: it syncs every message to disk.
func (s *site) onTheirWay() int {
	if s.embedded() && !long {
		return inFlight / 10
	}
	return inFlight
}

// The broker is stopped and started while messages wait in it, and while gear
// sends more: not one is missing, none is there twice. The hub's own broker
// stops with the hub.
func TestBridgeOverABrokerThatStops(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{Persistent: true}, func(t *testing.T, s *site) {
		db, h := s.countingHub(t)
		restart := func() {
			if s.embedded() {
				if err := h.Terminate(); err != nil {
					t.Errorf("the hub ends with %v", err)
				}
				h.Start()
				return
			}
			s.mosquitto.Stop(t)
			s.mosquitto.Start(t)
		}
		gear := newCounters(t, s.endpoint(t), countingGear...)
		for range 2 {
			gear.publish(s.onTheirWay() / 2)
			gear.send(s.onTheirWay() / 2)
			t.Logf("stopped with %d of %d readings durable and %d not acknowledged by the broker",
				barn(t, h.Endpoint).Rows, gear.total(), gear.out.Len())
			restart()
			gear.publish(inFlight / 10)
		}
		gear.wantStored(db)
		wantNoQuarantine(t, h.Endpoint)
	})
}

// The hub is killed while messages wait in the broker and while gear sends
// more: not one is missing. The hub's own broker is killed with it, and has
// forgotten the latest acknowledgements: what it sends again is there twice.
func TestBridgeOverAHubThatIsKilled(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, s *site) {
		db, h := s.countingHub(t)
		gear := newCounters(t, s.endpoint(t), countingGear...)
		gear.again = s.embedded()
		for _, publish := range []func(int){gear.publish, gear.send, gear.publish} {
			publish(s.onTheirWay())
			hubtest.Eventually(t, "readings are durable", func() bool { return barn(t, h.Endpoint).Rows > 0 })
			t.Logf("killed with %d readings durable since the last start, %d not acknowledged by the broker",
				barn(t, h.Endpoint).Rows, gear.out.Len())
			h.Kill()
			h.Start()
		}
		gear.out.Wait(t)
		gear.wantStored(db)
		wantNoQuarantine(t, h.Endpoint)
	})
}

// InfluxDB is away until the buffer is full, and longer: nothing is
// acknowledged then, what waits in memory is bounded, and nothing is lost.
func TestBridgeOverAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{MaxInflight: 500}, func(t *testing.T, s *site) {
		db := influxtest.Start(t)
		cfg := influxConfig(t, db)
		cfg.LogLevel, cfg.BufferBytes = "error", 1<<20
		s.bridge(t, &cfg, "    max-pending-bytes: 4194304\n"+countersOf(countingGear...))
		h := hubtest.Start(t, cfg)
		connected(t, h.Endpoint)
		gear := newCounters(t, s.endpoint(t), countingGear...)
		db.Stop()
		full := func() bool {
			b := status(t, h.Endpoint).Buffer
			return b.Bytes > b.MaxBytes*3/4 && barn(t, h.Endpoint).PendingMessages > 0
		}
		if s.embedded() && !long {
			// To fill the buffer takes this broker a minute.
			gear.publish(s.onTheirWay())
			db.Start()
			gear.wantStored(db)
			return
		}
		// How many readings fill it depends on how many share a record.
		for rounds := 0; !full(); rounds++ {
			if rounds == 100 {
				t.Fatalf("%d messages do not fill the buffer: %+v", gear.total(), status(t, h.Endpoint).Buffer)
			}
			gear.publish(s.onTheirWay())
			hubtest.Eventually(t, "all is durable, or the buffer is full", func() bool {
				return full() || barn(t, h.Endpoint).PendingMessages == 0
			})
		}
		if b := barn(t, h.Endpoint); b.PendingBytes > 4194304 {
			t.Errorf("%d bytes wait in memory; the bound is 4194304", b.PendingBytes)
		}
		t.Logf("full with %d readings durable", barn(t, h.Endpoint).Rows)
		db.Start()
		gear.wantStored(db)
		wantNoQuarantine(t, h.Endpoint)
	})
}

// The link between gear and broker is cut, and then swallows everything, while
// the gear sends.
func TestBridgeOverABadLinkOfGear(t *testing.T) {
	t.Parallel()
	onBothBrokers(t, func(t *testing.T, s *site) {
		db := influxtest.Start(t)
		cfg := influxConfig(t, db)
		cfg.LogLevel = "error"
		s.bridge(t, &cfg, countersOf(countingGear...))
		h := hubtest.Start(t, cfg)
		connected(t, h.Endpoint)
		way := newLink(t, s.address())
		gear := newCounters(t, s.at(t, way.addr()), countingGear...)
		for range 5 {
			gear.send(s.onTheirWay() / 5)
			t.Logf("cut with %d messages not acknowledged by the broker", gear.out.Len())
			way.cut()
		}
		for _, stream := range []string{"upstream", "downstream"} {
			gear.out.Wait(t)
			way.swallow(stream)
			gear.send(100)
			hubtest.Eventually(t, "the gear notices a black hole", func() bool { return !gear.client.IsConnectionOpen() })
			way.restore(stream)
		}
		gear.out.Wait(t)
		gear.wantStored(db)
		wantNoQuarantine(t, h.Endpoint)
	})
}

// The link to the broker is cut, and then swallows everything. The hub's own
// broker is in the same process: there is no such link.
func TestBridgeOverABadLink(t *testing.T) {
	t.Parallel()
	db := influxtest.Start(t)
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	way := newLink(t, broker.Addr)
	cfg := influxConfig(t, db)
	cfg.LogLevel = "error"
	bridgeTo(t, &cfg, "tcp://"+way.addr(), countersOf(countingGear...))
	h := hubtest.Start(t, cfg)
	connected(t, h.Endpoint)
	gear := newCounters(t, broker.Endpoint, countingGear...)
	gear.publish(inFlight)
	wantMore := func() {
		t.Helper()
		before := barn(t, h.Endpoint).Rows
		hubtest.Eventually(t, "it goes on", func() bool {
			rows := barn(t, h.Endpoint).Rows
			return rows > before || rows >= uint64(gear.total())
		})
	}
	for range 5 {
		gear.publish(inFlight / 10) // something is left
		way.cut()
		gear.publish(inFlight / 10)
		wantMore()
	}
	for _, stream := range []string{"upstream", "downstream"} {
		way.swallow(stream)
		hubtest.Eventually(t, "the hub notices a black hole", func() bool { return !barn(t, h.Endpoint).Connected })
		way.restore(stream)
		connected(t, h.Endpoint)
		gear.publish(inFlight / 10)
	}
	gear.wantStored(db)
}
