package jsstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// A Store that believes to be the sole one hears of what it does not know to
// have written: as where the answer to a write was lost.
func TestASoleStoreHearsOfWritesWithoutAnAnswer(t *testing.T) {
	node := startNode(t, t.TempDir())
	s := newStore(t, Config{Conn: node.Conn(), Sole: true})
	s.lookEvery = 10 * time.Millisecond
	lost := newStore(t, Config{Conn: node.Conn()})
	f := follow(t, s)
	defer f.stop()
	const n = 3 * batchSize // more than one look takes in at once
	for i := range n {
		wantCreate(t, lost, aCommand(fmt.Sprintf("c%d", i), "d", commands.Queued))
	}
	for i := range n {
		select {
		case c := <-f.changes:
			if c.ID != fmt.Sprintf("c%d", i) {
				t.Fatalf("change %d is of %s", i, c.ID)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("no change after %d", i)
		}
	}
	stream, err := node.JetStream().Stream(t.Context(), StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	if info := stream.CachedInfo(); info.State.Consumers != 0 {
		t.Errorf("%d consumers", info.State.Consumers)
	}
}
