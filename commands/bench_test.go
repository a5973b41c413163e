package commands_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// BenchmarkRoundTrip is one command at a time: from Send to the end being
// seen by a watcher, both writes fsynced, with a device double that answers
// at once. Add TLS, WebSocket and RPC for the whole way.
func BenchmarkRoundTrip(b *testing.B) {
	h := startHub(b, "a", newStore(b, startNATS(b)))
	h.connect(newDevice("d1"))
	ctx := context.Background()
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		begin := time.Now()
		c, _, err := h.d.Send(ctx, commands.Request{Device: "d1", Spec: commands.Spec{Name: "x"}})
		if err != nil {
			b.Fatal(err)
		}
		if err := h.d.Watch(ctx, commands.WatchFilter{ID: c.ID}, func(commands.Command) error { return nil }); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkThroughput is commands to 1,000 devices at once.
func BenchmarkThroughput(b *testing.B) {
	h := startHub(b, "a", newStore(b, startNATS(b)))
	for i := range 1000 {
		h.connect(newDevice(fmt.Sprint("d", i)))
	}
	ctx := context.Background()
	b.ResetTimer()
	var wg sync.WaitGroup
	next := make(chan int)
	for range 32 {
		wg.Go(func() {
			for i := range next {
				c, _, err := h.d.Send(ctx, commands.Request{Device: fmt.Sprint("d", i%1000), Spec: commands.Spec{Name: "x"}})
				if err != nil {
					b.Error(err)
					return
				}
				_ = h.d.Watch(ctx, commands.WatchFilter{ID: c.ID}, func(commands.Command) error { return nil })
			}
		})
	}
	for i := range b.N {
		next <- i
	}
	close(next)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}
