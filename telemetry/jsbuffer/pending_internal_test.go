package jsbuffer

import (
	"errors"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// However much the disk takes, and however long it takes nothing: what waits
// in memory to be written stays within its bound, refuses what is beyond it,
// and takes more when something was written.
func TestWhatWaitsInMemoryIsBounded(t *testing.T) {
	const room = 1 << 40
	cfg := Config{ChunkBytes: MinChunkBytes, MemoryBytes: 3*MinChunkBytes + MinChunkBytes/2}
	var p pending
	p.init(cfg)
	e := telemetry.Entry{Device: "d", Received: 1, Rows: 1, Telemetry: make([]byte, 1000)}
	fill := func() (taken int) {
		t.Helper()
		for range 2 * int(cfg.MemoryBytes) / len(e.Telemetry) {
			err := p.add(&e, entrySize(&e), 1, nil, room)
			if bytes, _ := p.usage(); bytes > cfg.MemoryBytes {
				t.Fatalf("%d bytes wait in memory; the bound is %d", bytes, cfg.MemoryBytes)
			}
			if errors.Is(err, telemetry.ErrFull) {
				return taken
			}
			if err != nil {
				t.Fatal(err)
			}
			taken++
		}
		t.Fatalf("%d entries of %d bytes are taken; the bound is %d", taken, len(e.Telemetry), cfg.MemoryBytes)
		return 0
	}
	if first := fill(); first < 3*MinChunkBytes/(len(e.Telemetry)+100) {
		t.Errorf("only %d entries are taken", first)
	}
	// A chunk that is being written is still in memory.
	g := p.next(time.Now())
	if taken := fill(); taken != 0 {
		t.Errorf("%d entries more are taken while a chunk is being written", taken)
	}
	p.done(g)
	if fill() == 0 {
		t.Error("nothing is taken though a chunk was written")
	}
}
