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

// The broker is stopped and started while most of the messages wait in it:
// not one is missing, none is there twice.
func TestBridgeOverABrokerThatStops(t *testing.T) {
	db := influxtest.Start(t)
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{Persistent: true})
	cfg := influxConfig(t, db)
	cfg.LogLevel = "error"
	bridgeTo(t, &cfg, broker.URL, countersOf(countingGear...))
	h := hubtest.Start(t, cfg)
	connected(t, h.Endpoint)
	gear := newCounters(t, broker.Endpoint, countingGear...)
	for range 2 {
		gear.publish(inFlight)
		before := barn(t, h.Endpoint).Rows
		broker.Stop(t)
		broker.Start(t)
		gear.reconnect(broker.Endpoint)
		gear.publish(inFlight / 10)
		hubtest.Eventually(t, "it goes on", func() bool { return barn(t, h.Endpoint).Rows > before })
		t.Logf("stopped with %d of %d readings durable", before, gear.total()-inFlight/10)
	}
	gear.wantStored(db)
}

// The hub is killed while most of the messages wait in the broker.
func TestBridgeOverAHubThatIsKilled(t *testing.T) {
	db := influxtest.Start(t)
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	cfg := influxConfig(t, db)
	cfg.LogLevel, cfg.Listen = "error", hubtest.FreeAddr(t)
	bridgeTo(t, &cfg, broker.URL, countersOf(countingGear...))
	h := hubtest.StartProcess(t, cfg)
	connected(t, h.Endpoint)
	gear := newCounters(t, broker.Endpoint, countingGear...)
	for range 3 {
		gear.publish(inFlight)
		hubtest.Eventually(t, "readings are durable", func() bool { return barn(t, h.Endpoint).Rows > 0 })
		t.Logf("killed with %d readings durable since the last start", barn(t, h.Endpoint).Rows)
		h.Kill()
		h.Start()
	}
	gear.wantStored(db)
	wantNoQuarantine(t, h.Endpoint)
}

// InfluxDB is away until the buffer is full, and longer: nothing is
// acknowledged then, what waits in memory is bounded, and nothing is lost.
func TestBridgeOverAStoreThatIsAway(t *testing.T) {
	db := influxtest.Start(t)
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{MaxInflight: 500})
	cfg := influxConfig(t, db)
	cfg.LogLevel, cfg.BufferBytes = "error", 1<<20
	bridgeTo(t, &cfg, broker.URL, "    max-pending-bytes: 4194304\n"+countersOf(countingGear...))
	h := hubtest.Start(t, cfg)
	connected(t, h.Endpoint)
	gear := newCounters(t, broker.Endpoint, countingGear...)
	db.Stop()
	full := func() bool {
		b := status(t, h.Endpoint).Buffer
		return b.Bytes > b.MaxBytes*3/4 && barn(t, h.Endpoint).PendingMessages > 0
	}
	for range 10 {
		gear.publish(inFlight)
		hubtest.Eventually(t, "all is durable, or the buffer is full", func() bool {
			return full() || barn(t, h.Endpoint).PendingMessages == 0
		})
		if full() {
			break
		}
	}
	hubtest.Eventually(t, "the buffer is full", full)
	if b := barn(t, h.Endpoint); b.PendingBytes > 4194304 {
		t.Errorf("%d bytes wait in memory; the bound is 4194304", b.PendingBytes)
	}
	t.Logf("full with %d readings durable", barn(t, h.Endpoint).Rows)
	db.Start()
	gear.wantStored(db)
	wantNoQuarantine(t, h.Endpoint)
}

// The link to the broker is cut, and then swallows everything.
func TestBridgeOverABadLink(t *testing.T) {
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
