package commands_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/natsd/natstest"
)

// Three replicas, and hubs on different servers: the same rules, also with
// one server gone.
func TestThreeReplicas(t *testing.T) {
	t.Parallel()
	servers := natstest.Cluster(t)
	var hubs []*hub
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
		hubs = append(hubs, startHub(t, name, store))
	}
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
