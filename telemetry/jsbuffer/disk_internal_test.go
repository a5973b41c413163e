package jsbuffer

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/natsd"
)

// What the server says while a chunk is being written or removed counts that
// chunk or does not: it is no measure. The buffer was taken for empty while it
// held a chunk.
func TestMeasureWaitsForWhatIsUnderWay(t *testing.T) {
	node, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir(), Name: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Stop(context.Background()) }()
	quarantine, err := OpenQuarantine(t.Context(), node.JetStream(), QuarantineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), node.JetStream(), node.Conn(), Config{Quarantine: quarantine, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	for _, underWay := range []bool{true, false} {
		if underWay {
			b.disk.changing()
		}
		b.disk.settledAt.Store(time.Now().Add(time.Hour).UnixNano()) // it does not drift
		b.disk.chunks.Store(3)
		settled, err := b.measure(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := int64(0)
		if underWay {
			want = 3
			b.disk.changed()
		}
		if got := b.disk.chunks.Load(); got != want || settled == underWay {
			t.Errorf("with a removal under way %v: %d chunks, settled %v; want %d", underWay, got, settled, want)
		}
	}
}
