//go:build unix

package jsbuffer_test

import (
	"context"
	"errors"
	"os/signal"
	"syscall"
	"testing"

	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// fileLimit is where writes begin to fail: within a block of JetStream, and
// beyond what `go test` writes into its own log meanwhile.
const fileLimit = 2 << 20

// When the disk fails under the buffer, nothing is acknowledged and nothing
// is lost; when it works again, so does the buffer, without being told.
func TestBufferOutlivesADiskError(t *testing.T) {
	node := startNode(t, t.TempDir())
	b, _ := openOn(t, node, jsbuffer.Config{ChunkBytes: jsbuffer.MinChunkBytes})
	l := newLedger()
	if err := b.Append(sized("d", 1000), 1, l); err != nil {
		t.Fatal(err)
	}
	l.wait(t, 1)

	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	limit := func(bytes uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	limit(fileLimit)
	t.Cleanup(func() { limit(before.Cur) })
	seq := uint64(1)
	for range 60 { // 3.6 MB
		e := sized("d", 60_000)
		e.Received = int64(seq + 1)
		if err := b.Append(e, seq+1, l); err != nil {
			t.Fatal(err)
		}
		seq++
	}
	eventually(t, "health shows the fault", func() bool { return node.Health(testContext(t)) != nil })
	if l.last() == seq {
		t.Fatal("everything was acknowledged on a disk that fails")
	}
	acked := int(l.last())

	limit(before.Cur)
	l.wait(t, seq)
	eventually(t, "health is back", func() bool { return b.Health() == nil })
	next := map[string]int64{"d": 1}
	for _, e := range drain(t, b, int(seq))[1:] {
		checkNext(t, e, next)
	}
	if next["d"] != int64(seq) {
		t.Errorf("entries up to %d are there; want %d (%d were acknowledged before the fault ended)", next["d"], seq, acked)
	}
}

// Chunks are done while the disk takes no writes: the server forgets to remove
// them, and has them back when it is restarted. They are handed out again and
// leave, so that no room is lost.
func TestForgottenRemovalsAreMadeGood(t *testing.T) {
	node := startNode(t, t.TempDir())
	b, _ := openOn(t, node, jsbuffer.Config{ChunkBytes: jsbuffer.MinChunkBytes, Sole: true})
	ctx := testContext(t)
	l := newLedger()
	const stored = 40 // 2.4 MB
	for seq := range uint64(stored) {
		if err := b.Append(sized("d", 60_000), seq+1, l); err != nil {
			t.Fatal(err)
		}
		l.wait(t, seq+1)
	}
	chunks, err := b.Fetch(ctx, stored)
	if err != nil || len(chunks) != stored {
		t.Fatalf("fetched %d chunks, %v; want %d", len(chunks), err, stored)
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	limit := func(bytes uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	limit(fileLimit)
	t.Cleanup(func() { limit(before.Cur) })
	for _, c := range chunks {
		_ = c.Done(ctx) // the server may say so or not
	}
	if err := b.Append(sized("d", 60_000), stored+1, l); err != nil {
		t.Fatal(err)
	}
	eventually(t, "health shows the fault", func() bool { return node.Health(ctx) != nil })
	limit(before.Cur)
	l.wait(t, stored+1)

	emptied := make(chan error, 1)
	fetching, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			chunks, err := b.Fetch(fetching, 10)
			for _, c := range chunks {
				err = errors.Join(err, c.Done(ctx))
			}
			if err != nil {
				emptied <- err
				return
			}
		}
	}()
	eventually(t, "the stream is empty", func() bool {
		s, err := node.JetStream().Stream(ctx, jsbuffer.StreamName)
		return err == nil && s.CachedInfo().State.Msgs == 0 && b.Pressure().Chunks == 0
	})
	cancel()
	if err := <-emptied; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
