package jsstore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// What another node has written and this one did not hear, as where it was cut
// off from its server, is asked for. There is no consumer, which could be on a
// server that has died.
func TestAFollowerAsksForWhatItDidNotHear(t *testing.T) {
	t.Parallel()
	node := startNode(t, t.TempDir())
	s, other := newStore(t, Config{Conn: node.Conn()}), newStore(t, Config{Conn: node.Conn()})
	stream, err := node.JetStream().Stream(t.Context(), StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan commands.Change, 100)
	f := &follower{s: s, fn: func(c commands.Change) { changes <- c }, created: stream.CachedInfo().Created, live: map[string]uint64{}, written: time.Now()}
	if err := f.settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	f.begin(nil)
	if c := <-changes; c.ID != "" {
		t.Fatalf("began with %s", c.ID)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- f.listen(ctx, nil) }()
	for i := range 5 {
		id := fmt.Sprint("missed-", i)
		wantCreate(t, other, aCommand(id, "d", commands.Queued))
		select {
		case c := <-changes:
			if c.ID != id {
				t.Fatalf("heard of %s, want %s", c.ID, id)
			}
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(2 * time.Minute):
			t.Fatalf("did not hear of %s", id)
		}
	}
	if stream, err = node.JetStream().Stream(t.Context(), StreamCommands); err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Consumers; n != 0 {
		t.Errorf("%d consumers", n)
	}
	cancel()
	<-ended
}

// A stream that was made anew is another one: the follower begins anew.
func TestAFollowerLeavesAStreamThatWasMadeAnew(t *testing.T) {
	t.Parallel()
	node := startNode(t, t.TempDir())
	s := newStore(t, Config{Conn: node.Conn()})
	wantCreate(t, s, aCommand("before", "d", commands.Queued))
	ended := make(chan error, 1)
	ready := make(chan struct{}, 1)
	go func() {
		ended <- s.Follow(t.Context(), func(c commands.Change) {
			if c.ID == "" {
				ready <- struct{}{}
			}
		})
	}()
	<-ready
	if err := node.JetStream().DeleteStream(t.Context(), StreamCommands); err != nil {
		t.Fatal(err)
	}
	newStore(t, Config{Conn: node.Conn()})
	select {
	case err := <-ended:
		if err == nil {
			t.Error("ended without an error")
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("it goes on with a stream that is not there")
	}
}
