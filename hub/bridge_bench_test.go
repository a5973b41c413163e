package hub_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// BenchmarkBridge is messages of QoS 1 from a broker into the buffer, fsync
// and acknowledgement included, by how many the broker sends ahead.
func BenchmarkBridge(b *testing.B) {
	for _, inflight := range []int{0, 100, 1000} {
		b.Run(fmt.Sprintf("max_inflight=%d", inflight), func(b *testing.B) {
			broker := mqtttest.StartMosquitto(b, mqtttest.MosquittoOptions{MaxInflight: inflight})
			cfg := hubtest.Config(b)
			cfg.LogLevel = "error"
			bridgeTo(b, &cfg, broker.URL, countersOf(countingGear...))
			h := hubtest.Start(b, cfg)
			connected(b, h.Endpoint)
			gear := newCounters(b, broker.Endpoint, countingGear...)
			b.ResetTimer()
			began := time.Now()
			gear.publish(b.N)
			hubtest.Eventually(b, "everything is durable", func() bool { return barn(b, h.Endpoint).Rows >= uint64(b.N) })
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "messages/s")
		})
	}
}
