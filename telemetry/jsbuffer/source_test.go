package jsbuffer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

func TestChunksComeAgainUntilDone(t *testing.T) {
	b, _ := open(t, jsbuffer.Config{})
	ctx := testContext(t)
	l := newLedger()
	if err := b.Append(sized("d", 10), 1, l); err != nil {
		t.Fatal(err)
	}
	for deliveries := 1; deliveries <= 3; deliveries++ {
		chunks, err := b.Fetch(ctx, 5)
		if err != nil || len(chunks) != 1 {
			t.Fatalf("fetch: %d chunks, %v", len(chunks), err)
		}
		if got := chunks[0].Deliveries(); got != deliveries {
			t.Errorf("delivery %d says it is number %d", deliveries, got)
		}
		if err := chunks[0].InProgress(); err != nil {
			t.Error(err)
		}
		if deliveries < 3 {
			if err := chunks[0].Release(0); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := chunks[0].Done(ctx); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the buffer is empty", func() bool { return b.Pressure().Chunks == 0 })
}

// A process that was killed keeps no lease where there is only one.
func TestSoleBufferTakesOverLeases(t *testing.T) {
	node := startNode(t, t.TempDir())
	first, _ := openOn(t, node, jsbuffer.Config{})
	l := newLedger()
	for seq := range uint64(3) {
		if err := first.Append(entry(t, "d", int(seq), 1), seq+1, l); err != nil {
			t.Fatal(err)
		}
		l.wait(t, seq+1)
	}
	chunks, err := first.Fetch(testContext(t), 10)
	if err != nil || len(chunks) != 3 {
		t.Fatalf("fetched %d chunks, %v; want 3", len(chunks), err)
	}
	if err := chunks[0].Done(testContext(t)); err != nil {
		t.Fatal(err)
	}

	second, _ := openOn(t, node, jsbuffer.Config{Sole: true})
	consumer, err := node.JetStream().Consumer(testContext(t), jsbuffer.StreamName, jsbuffer.ConsumerName)
	if err != nil || !consumer.CachedInfo().Config.MemoryStorage {
		t.Errorf("leases that nobody reads again are written down: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), telemetry.ChunkLease/2)
	defer cancel()
	chunks, err = second.Fetch(ctx, 10)
	if err != nil || len(chunks) != 2 {
		t.Fatalf("fetched %d chunks after the first one was killed, %v; want 2", len(chunks), err)
	}
}

func TestFetchWaits(t *testing.T) {
	b, _ := open(t, jsbuffer.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() {
		_, err := b.Fetch(ctx, 1)
		result <- err
	}()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("fetch after cancel: %v", err)
	}
	// Two that wait get one chunk each.
	fetched := make(chan []telemetry.Chunk, 2)
	for range 2 {
		go func() {
			chunks, err := b.Fetch(context.Background(), 1)
			if err != nil {
				t.Error(err)
			}
			fetched <- chunks
		}()
	}
	l := newLedger()
	for i := range uint64(2) {
		if err := b.Append(sized("d", 10), i+1, l); err != nil {
			t.Fatal(err)
		}
		l.wait(t, i+1)
	}
	for range 2 {
		select {
		case chunks := <-fetched:
			if len(chunks) != 1 || len(chunks[0].Entries()) != 1 {
				t.Errorf("fetched %d chunks", len(chunks))
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("a waiting fetch was not served")
		}
	}
}

func TestBytesThatCannotBeDecodedGoIntoQuarantine(t *testing.T) {
	node := startNode(t, t.TempDir())
	b, q := openOn(t, node, jsbuffer.Config{})
	ctx := testContext(t)
	if _, err := node.JetStream().Publish(ctx, jsbuffer.Subject, []byte{1, 200, 3}); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	if err := b.Append(sized("d", 10), 1, l); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, b, 1); got[0].Device != "d" {
		t.Errorf("fetched the entry of %q", got[0].Device)
	}
	rows, err := q.List(ctx, jsbuffer.Undecodable, 0, 10)
	if err != nil || len(rows) != 1 {
		t.Fatalf("in quarantine: %v, %v; want the broken chunk", rows, err)
	}
	if rows[0].Row != nil || rows[0].Bytes != 3 || rows[0].Reason == "" {
		t.Errorf("in quarantine: %+v", rows[0])
	}
	if n, err := q.Replay(ctx, jsbuffer.Selection{All: true}, b); err == nil || n != 0 {
		t.Errorf("replay of broken bytes: %d, %v", n, err)
	}
	if n, err := q.Drop(ctx, jsbuffer.Selection{All: true}); err != nil || n != 1 {
		t.Errorf("drop: %d, %v", n, err)
	}
	if b.Stats.Undecodable.Load() != 1 {
		t.Errorf("counted %d broken chunks", b.Stats.Undecodable.Load())
	}
}

func TestTailShowsWhatBecomesDurable(t *testing.T) {
	node := startNode(t, t.TempDir())
	writer, _ := openOn(t, node, jsbuffer.Config{})
	watcher, _ := openOn(t, node, jsbuffer.Config{}) // another node of a cluster
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen := make(chan telemetry.Entry, 1000)
	ended := make(chan error, 1)
	go func() {
		ended <- watcher.Tail(ctx, func(entries []telemetry.Entry, missed uint64) {
			if missed != 0 {
				t.Errorf("missed %d", missed)
			}
			for _, e := range entries {
				seen <- e
			}
		})
	}()
	l := newLedger()
	var seq uint64
	eventually(t, "the tail has begun", func() bool {
		seq++
		if err := writer.Append(sized("d", 10), seq, l); err != nil {
			t.Fatal(err)
		}
		l.wait(t, seq)
		return len(seen) > 0
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("tail ended with %v", err)
	}
}

func TestTailSaysWhatItMissed(t *testing.T) {
	b, _ := open(t, jsbuffer.Config{MaxBytes: 256 << 20})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	var calls, missedSum uint64
	ended := make(chan error, 1)
	go func() {
		ended <- b.Tail(ctx, func(_ []telemetry.Entry, missed uint64) {
			if calls++; calls == 1 {
				close(begun)
				<-goOn
			}
			missedSum += missed
		})
	}()
	l := newLedger()
	var seq uint64
	eventually(t, "the tail has begun", func() bool {
		seq++
		_ = b.Append(sized("d", 10), seq, l)
		l.wait(t, seq)
		select {
		case <-begun:
			return true
		default:
			return false
		}
	})
	for range 400 { // 24 MB: more than waits for a Tail
		seq++
		for b.Append(sized("d", 60_000), seq, l) != nil {
			time.Sleep(time.Millisecond)
		}
	}
	l.wait(t, seq)
	close(goOn)
	eventually(t, "the tail says what it missed", func() bool {
		seq++
		_ = b.Append(sized("d", 10), seq, l)
		l.wait(t, seq)
		return b.Stats.TailMissed.Load() > 0
	})
	cancel()
	<-ended
	if missedSum == 0 || missedSum != b.Stats.TailMissed.Load() {
		t.Errorf("told of %d missed chunks, counted %d", missedSum, b.Stats.TailMissed.Load())
	}
}
