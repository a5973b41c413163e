package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/registry"
)

// startServer is a server of its own, as in a cluster beside the hub.
func startServer(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true, SyncAlways: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("server is not ready")
	}
	return srv
}

func stopServer(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

// A server that restarts forgets the watch. The registry follows again, and
// learns what has changed and what has gone meanwhile.
func TestFollowsAcrossARestartOfTheServer(t *testing.T) {
	dir := t.TempDir()
	srv := startServer(t, dir, server.RANDOM_PORT)
	port := srv.Addr().(*net.TCPAddr).Port
	conn, err := nats.Connect(srv.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, js)
	for _, id := range []string{"kept", "purged", "deleted"} {
		create(t, r, newDevice(id))
	}
	stopServer(srv)
	srv = startServer(t, dir, port)
	t.Cleanup(func() { stopServer(srv) })
	changeBehindItsBack(t, srv)
	eventually(t, "the connection is back", conn.IsConnected)
	create(t, r, newDevice("after"))
	eventually(t, "the deletion is known", func() bool { _, ok := r.Get("deleted"); return !ok })
	eventually(t, "the purge is known", func() bool { _, ok := r.Get("purged"); return !ok })
	if d, ok := r.Get("kept"); !ok || d.Note != "changed" {
		t.Errorf("kept: %+v, %v", d, ok)
	}
	eventually(t, "the registry is well", func() bool { return r.Check() == nil })
	if page, total := r.List(registry.Selector{}, "", "", 10); total != 2 || len(page) != 2 {
		t.Errorf("%d devices listed", total)
	}
}

func changeBehindItsBack(t *testing.T, srv *server.Server) {
	t.Helper()
	conn, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, js)
	if _, err := other.Update(testContext(t), "kept", func(d *registry.Device) error { d.Note = "changed"; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := other.Delete(testContext(t), "deleted"); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(testContext(t), "KV_devices")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(testContext(t), jetstream.WithPurgeSubject("$KV.devices.purged")); err != nil {
		t.Fatal(err)
	}
	other.Close()
}

// Somebody clears the last traces of a deleted operator: the next change must
// not wait for them for ever, neither on a running node nor on a new one.
func TestOperatorsAfterAPurge(t *testing.T) {
	js := startNode(t, t.TempDir()).JetStream()
	r := open(t, js)
	purge := func() {
		t.Helper()
		createOperator(t, r, "gone", registry.RoleViewer, "")
		if err := r.DeleteOperator(testContext(t), "gone"); err != nil {
			t.Fatal(err)
		}
		kv, err := js.KeyValue(testContext(t), "operators")
		if err != nil {
			t.Fatal(err)
		}
		if err := kv.PurgeDeletes(testContext(t), jetstream.DeleteMarkersOlderThan(-1)); err != nil {
			t.Fatal(err)
		}
	}
	purge()
	createOperator(t, open(t, js), "new-node", registry.RoleViewer, "")
	purge()
	createOperator(t, r, "here", registry.RoleViewer, "")
}

func TestCloseWakesWriters(t *testing.T) {
	r := newRegistry(t)
	r.Close()
	if _, err := r.Create(testContext(t), newDevice("d")); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("Create after Close = %v, want ErrClosed", err)
	}
}

func TestOpenRefusesBadConfig(t *testing.T) {
	js := startNode(t, t.TempDir()).JetStream()
	for name, cfg := range map[string]registry.Config{
		"replicas": {Replicas: 6}, "age": {AuditMaxAge: time.Second}, "bytes": {AuditMaxBytes: 10}, "grace": {Grace: -1},
	} {
		if r, err := registry.Open(testContext(t), js, cfg); err == nil {
			r.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r, err := registry.Open(ctx, js, registry.Config{}); err == nil {
		r.Close()
		t.Error("opened with a context that has ended")
	}
}

// Creating devices in bulk, and what one of them takes in memory.
func BenchmarkCreateMany(b *testing.B) {
	r := newRegistry(b)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	for b.Loop() {
		batch := make([]registry.NewDevice, 1000)
		for i := range batch {
			batch[i] = newDevice(fmt.Sprintf("dev-%07d", n), "site", "north", "row", fmt.Sprint(n%40))
			n++
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		for _, c := range r.CreateMany(ctx, batch) {
			if c.Err != nil {
				b.Fatal(c.Err)
			}
		}
		cancel()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "devices/s")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/device")
	runtime.KeepAlive(r)
}

func BenchmarkList(b *testing.B) {
	r := newRegistry(b)
	for start := 0; start < 20000; start += 1000 {
		batch := make([]registry.NewDevice, 1000)
		for i := range batch {
			batch[i] = newDevice(fmt.Sprintf("dev-%07d", start+i), "site", "north", "row", fmt.Sprint(i%40))
		}
		r.CreateMany(testContext(b), batch)
	}
	selector := parse(b, "site=north,row in (1,2)")
	for b.Loop() {
		if _, total := r.List(selector, "", "dev-0010000", 100); total != 1000 {
			b.Fatal(total)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	r := newRegistry(b)
	_, token, err := r.CreateOperator(testContext(b), "ann", registry.RoleViewer, registry.Selector{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, ok := r.Authenticate(token); !ok {
			b.Fatal("refused")
		}
	}
}
