package jsstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/commands"
)

// startCluster starts three servers on loopback that replicate JetStream.
func startCluster(t *testing.T) []*server.Server {
	t.Helper()
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	var all []*server.Server
	// A server in a cluster wants a route; the first one has nowhere to go.
	routes := []*url.URL{{Scheme: "nats", Host: "127.0.0.1:1"}}
	for i := range 3 {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: -1, JetStream: true,
			StoreDir: t.TempDir(), NoSigs: true, NoLog: true, Routes: routes,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: -1},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if i == 0 {
			eventually("the first server does not listen", func() bool { return s.ClusterAddr() != nil })
			routes = []*url.URL{{Scheme: "nats", Host: s.ClusterAddr().String()}}
		}
		all = append(all, s)
	}
	eventually("the cluster has no leader with three members", func() bool {
		for _, s := range all {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
	return all
}

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
	servers := startCluster(t)
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
