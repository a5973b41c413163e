package hub

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
)

// CollectOn collects garbage and gives free memory back to the system whenever
// something comes from asked, until ctx ends. The metric
// tetherline_memory_collections_total, which is there from now on, counts what
// is done. A collection stops nothing, but takes CPU time. It may run beside
// Run, once.
func (h *Hub) CollectOn(ctx context.Context, asked <-chan os.Signal) {
	m := &h.metrics.memory
	m.watched.Store(true)
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			runtime.GC()
			debug.FreeOSMemory()
			m.collections.Add(1)
		}
	}
}

// memoryMetrics are of CollectOn.
type memoryMetrics struct {
	watched     atomic.Bool // by CollectOn
	collections atomic.Uint64
}

func (m *memoryMetrics) collect(c collector) {
	if m.watched.Load() {
		c.counter("memory_collections_total", "Collections of garbage on SIGUSR1 that are done.", m.collections.Load())
	}
}
