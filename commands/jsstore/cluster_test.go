package jsstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/natsd/natstest"
)

// followWhateverFails follows a store as the dispatcher does, again and again:
// while a server goes or a leader is chosen, JetStream is not available.
func followWhateverFails(t *testing.T, s *Store) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := s.Follow(ctx, func(commands.Change) {}); ctx.Err() == nil {
				t.Logf("following again: %v", err)
				time.Sleep(50 * time.Millisecond)
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// With three replicas, which answer reads of their own state and lag behind
// the leader, the same commands make room as with one, and one that has not
// ended stays on each.
func TestHistoryMakesRoomOnThreeReplicas(t *testing.T) {
	t.Parallel()
	servers := natstest.Cluster(t)
	conn, err := nats.Connect(servers[0].ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	var s *Store
	for deadline := time.Now().Add(2 * time.Minute); s == nil; time.Sleep(50 * time.Millisecond) {
		if s, err = New(t.Context(), Config{Conn: conn, Replicas: 3, MaxBytes: MinMaxBytes}); err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	stop := followWhateverFails(t, s)
	defer stop()
	create := func(c *commands.Command) {
		t.Helper()
		for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if err := s.Create(t.Context(), c); err == nil || errors.Is(err, commands.ErrExists) {
				return // with ErrExists the answer before was lost
			} else if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	makesRoom(t, s, create)
	// And the same with one server gone.
	servers[2].Shutdown()
	servers[2].WaitForShutdown()
	dropped := s.Usage().Dropped
	for i := 0; s.Usage().Dropped == dropped && i < 1000; i++ {
		create(aLargeCommand(fmt.Sprint("later-", i), commands.Succeeded))
	}
	if s.Usage().Dropped == dropped {
		t.Error("nothing made room with two servers of three")
	}
	if _, err := s.Command(t.Context(), "live-0"); err != nil {
		t.Errorf("a command that has not ended: %v", err)
	}
}
