// Package natstest starts NATS servers for tests. Only tests import it.
package natstest

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const patience = 2 * time.Minute

// Cluster is three servers on loopback that replicate JetStream, fsynced, and
// have a leader. They end with the test.
func Cluster(t testing.TB) []*server.Server {
	t.Helper()
	var all []*server.Server
	// A server in a cluster wants a route; the first one has nowhere to go.
	routes := []*url.URL{{Scheme: "nats", Host: "127.0.0.1:1"}}
	for i := range 3 {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, SyncAlways: true,
			StoreDir: t.TempDir(), NoSigs: true, NoLog: true, Routes: routes,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: server.RANDOM_PORT},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if i == 0 {
			await(t, "the first server listens", func() bool { return s.ClusterAddr() != nil })
			routes = []*url.URL{{Scheme: "nats", Host: s.ClusterAddr().String()}}
		}
		all = append(all, s)
	}
	for _, s := range all {
		if !s.ReadyForConnections(patience) {
			t.Fatal("a NATS server does not start")
		}
	}
	await(t, "the cluster has a leader and three members", func() bool {
		for _, s := range all {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(all) {
				return true
			}
		}
		return false
	})
	return all
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
