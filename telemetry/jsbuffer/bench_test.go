package jsbuffer_test

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// BenchmarkAppend: that many devices, each with up to 8 frames of 1 KB that
// are not acknowledged yet, as fast as the disk takes them. The metrics are
// the time from Append to Durable.
func BenchmarkAppend(b *testing.B) {
	for _, devices := range []int{1, 64, 512} {
		b.Run(strconv.Itoa(devices), func(b *testing.B) { benchmarkAppend(b, devices) })
	}
}

func benchmarkAppend(b *testing.B, devices int) {
	buffer, _ := open(b, jsbuffer.Config{MaxBytes: 2 << 30})
	e := sized("device", 1024)
	var mu sync.Mutex
	var waits []time.Duration
	b.SetBytes(1024)
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for d := range devices {
		n := b.N / devices
		if d == 0 {
			n += b.N % devices
		}
		all.Go(func() {
			own := appendMany(b, buffer, n, func(l *ledger, seq uint64) error { return buffer.Append(e, seq, l) })
			mu.Lock()
			waits = append(waits, own...)
			mu.Unlock()
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
	b.ReportMetric(float64(b.N)/float64(buffer.Stats.Chunks.Load()), "frames/chunk")
}

// appendMany appends n entries with a window of 8 and samples one in 16.
func appendMany(b *testing.B, buffer *jsbuffer.Buffer, n int, add func(*ledger, uint64) error) []time.Duration {
	const window = 8
	l := newLedger()
	var waits []time.Duration
	for seq := uint64(1); seq <= uint64(n); seq++ {
		started := time.Now()
		for add(l, seq) != nil {
			time.Sleep(time.Millisecond)
		}
		if seq%16 == 1 {
			l.wait(b, seq)
			waits = append(waits, time.Since(started))
		} else if seq > window {
			l.wait(b, seq-window)
		}
	}
	l.wait(b, uint64(n))
	return waits
}

// BenchmarkDrain: fetching and removing chunks of one 1 KB frame each, as
// after a long outage of the store under a low load. Each removal is an fsync.
func BenchmarkDrain(b *testing.B) {
	buffer, _ := open(b, jsbuffer.Config{ChunkAge: time.Nanosecond})
	l := newLedger()
	for seq := range uint64(b.N) {
		if err := buffer.Append(sized("device", 1024), seq+1, l); err != nil {
			b.Fatal(err)
		}
		l.wait(b, seq+1)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; {
		chunks, err := buffer.Fetch(b.Context(), 256)
		if err != nil {
			b.Fatal(err)
		}
		left -= len(chunks)
		var all sync.WaitGroup
		for _, c := range chunks {
			all.Go(func() {
				if err := c.Done(b.Context()); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "chunks/s")
}
