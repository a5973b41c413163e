package jsbuffer_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// What is full only until the next fsync asks for a short pause: with a long
// one, devices that were refused would starve behind those that were not.
func TestFullMemoryAsksForAShortPause(t *testing.T) {
	b, _ := open(t, jsbuffer.Config{ChunkBytes: jsbuffer.MinChunkBytes, MemoryBytes: 2 * jsbuffer.MinChunkBytes})
	deadline := time.Now().Add(2 * time.Minute)
	for refused := 0; refused < 20; {
		err := b.Append(sized("d", 1000), 1, nil)
		switch {
		case err == nil:
		case !errors.Is(err, telemetry.ErrFull):
			t.Fatal(err)
		default:
			refused++
			if p := b.Pressure(); p.Throttle > 250*time.Millisecond {
				t.Fatalf("a full memory and an empty disk ask for a pause of %v: %+v", p.Throttle, p)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("refused %d times; want 20", refused)
		}
	}
}
