package commands_test

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/natsd/natstest"
)

// clusterHubs are two hubs, on different servers of three that replicate.
func clusterHubs(t *testing.T, options ...hubOption) (servers []*server.Server, hubs []*hub) {
	t.Helper()
	servers = natstest.Cluster(t)
	for i, name := range []string{"a", "b"} {
		conn, err := nats.Connect(servers[i].ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		var store *jsstore.Store
		eventually(t, "the streams are made", func() bool {
			store, err = jsstore.New(t.Context(), jsstore.Config{Conn: conn, Replicas: 3, Logger: slog.New(slog.DiscardHandler)})
			return err == nil
		})
		hubs = append(hubs, startHub(t, name, store, options...))
	}
	return servers, hubs
}

// Requests of one key that reach two hubs at once are one command, or one
// group, and all are answered with it.
func TestOneKeyOnTwoNodesAtOnce(t *testing.T) {
	t.Parallel()
	_, hubs := clusterHubs(t, func(c *commands.Config) {
		c.Devices = &devices{selected: []string{"d1", "d2"}}
	})
	const asks = 6
	sendOnce := func(key string, send func(h *hub) (id string, existed bool, err error)) {
		t.Helper()
		var all sync.WaitGroup
		var made atomic.Int32
		for i := range asks {
			all.Go(func() {
				switch id, existed, err := send(hubs[i%len(hubs)]); {
				case err != nil || id != key:
					t.Errorf("key %s: command %q, %v", key, id, err)
				case !existed:
					made.Add(1)
				}
			})
		}
		all.Wait()
		if made.Load() != 1 {
			t.Errorf("key %s: made %d times", key, made.Load())
		}
	}
	for i := range 30 {
		key := fmt.Sprint("c", i)
		sendOnce(key, func(h *hub) (string, bool, error) {
			c, existed, err := h.d.Send(t.Context(), commands.Request{Device: "one-" + key, Key: key, Spec: commands.Spec{Name: "x"}})
			return c.ID, existed, err
		})
		key = fmt.Sprint("g", i)
		sendOnce(key, func(h *hub) (string, bool, error) {
			g, existed, err := h.d.SendGroup(t.Context(), commands.GroupRequest{Key: key, Selector: "a=b", Spec: commands.Spec{Name: "x"}})
			return g.ID, existed, err
		})
	}
}

// Three replicas, and hubs on different servers: the same rules, also with
// one server gone.
func TestThreeReplicas(t *testing.T) {
	t.Parallel()
	servers, hubs := clusterHubs(t)
	a, b := hubs[0], hubs[1]
	v := newDevice("d1")
	a.connect(v)
	ran := map[string]bool{}
	send := func(h *hub, key string) {
		t.Helper()
		eventually(t, "accepted", func() bool {
			_, _, err := h.d.Send(t.Context(), commands.Request{Device: "d1", Key: key, Spec: commands.Spec{Name: "x"}})
			return err == nil
		})
		ran[key] = true
	}
	for i := range 10 {
		send(hubs[i%2], fmt.Sprint("k", i))
	}
	for id := range ran {
		b.want(id, commands.Succeeded)
	}
	queued := b.send(commands.Request{Device: "d2"}).ID
	expiring := a.send(commands.Request{Device: "d3", Spec: commands.Spec{TTL: time.Second}}).ID

	servers[2].Shutdown()
	servers[2].WaitForShutdown()
	for i := range 10 {
		send(hubs[i%2], fmt.Sprint("l", i))
	}
	for id := range ran {
		a.want(id, commands.Succeeded)
		if v.runs(id) != 1 {
			t.Errorf("%s ran %d times", id, v.runs(id))
		}
	}
	b.want(expiring, commands.Expired)
	a.connect(newDevice("d2"))
	b.want(queued, commands.Succeeded)
}
