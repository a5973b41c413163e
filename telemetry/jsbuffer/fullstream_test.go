package jsbuffer_test

import (
	"testing"

	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// Promise 4 in the last instance: whatever the Buffer believes of the disk, a
// full stream refuses what is new and keeps what it has.
func TestFullStreamRefusesWhatIsNew(t *testing.T) {
	node := startNode(t, t.TempDir())
	openOn(t, node, jsbuffer.Config{MaxBytes: jsbuffer.MinMaxBytes})
	ctx, chunk := testContext(t), make([]byte, 100<<10)
	taken := uint64(0)
	for ; taken < 2*jsbuffer.MinMaxBytes/uint64(len(chunk)); taken++ {
		if _, err := node.JetStream().Publish(ctx, jsbuffer.Subject, chunk); err != nil {
			break
		}
	}
	stream, err := node.JetStream().Stream(ctx, jsbuffer.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	state := stream.CachedInfo().State
	if most := uint64(jsbuffer.MinMaxBytes / len(chunk)); taken > most || taken == 0 || state.FirstSeq > 1 || state.LastSeq != taken {
		t.Errorf("a stream for %d messages has taken %d and holds %d to %d", most, taken, state.FirstSeq, state.LastSeq)
	}
}
