package commands_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/natsd"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// BenchmarkRoundTrip is one command at a time: from Send to the end being
// seen by a watcher, both writes fsynced, with a device double that answers
// at once. Add TLS, WebSocket and RPC for the whole way.
func BenchmarkRoundTrip(b *testing.B) {
	h := startHub(b, "a", newStore(b, startNATS(b)))
	h.connect(newDevice("d1"))
	ctx := context.Background()
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		begin := time.Now()
		c, _, err := h.d.Send(ctx, commands.Request{Device: "d1", Spec: commands.Spec{Name: "x"}})
		if err != nil {
			b.Fatal(err)
		}
		if err := h.d.Watch(ctx, commands.WatchFilter{ID: c.ID}, func(commands.Command) error { return nil }); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkThroughput is commands to 1,000 devices at once.
func BenchmarkThroughput(b *testing.B) {
	h := startHub(b, "a", newStore(b, startNATS(b)))
	for i := range 1000 {
		h.connect(newDevice(fmt.Sprint("d", i)))
	}
	ctx := context.Background()
	b.ResetTimer()
	var wg sync.WaitGroup
	next := make(chan int)
	for range 32 {
		wg.Go(func() {
			for i := range next {
				c, _, err := h.d.Send(ctx, commands.Request{Device: fmt.Sprint("d", i%1000), Spec: commands.Spec{Name: "x"}})
				if err != nil {
					b.Error(err)
					return
				}
				_ = h.d.Watch(ctx, commands.WatchFilter{ID: c.ID}, func(commands.Command) error { return nil })
			}
		})
	}
	for i := range b.N {
		next <- i
	}
	close(next)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

// connectWith measures a device that connects with ten pending commands and
// so many in its history, until the last of them is in its hands.
func connectWith(b *testing.B, history int) {
	store := newStore(b, natsWithHistory(b, history))
	h := startHub(b, "a", store)
	v := newDevice("d1")
	got := make(chan struct{}, 64)
	v.do = func(*devicev1.Command) []*devicev1.CommandUpdate {
		got <- struct{}{}
		return nil
	}
	for range 10 {
		h.send(commands.Request{Device: "d1", Spec: commands.Spec{TTL: time.Hour}})
	}
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		begin := time.Now()
		h.connect(v)
		for range 10 {
			<-got
		}
		took = append(took, time.Since(begin))
		h.disconnect("d1")
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
}

func BenchmarkConnect0(b *testing.B)    { connectWith(b, 0) }
func BenchmarkConnect100k(b *testing.B) { connectWith(b, 100_000) }

// natsWithHistory starts an embedded JetStream that holds so many ended
// commands of the device d1, as the store writes them. They are written
// without an fsync for each, to be done before long.
func natsWithHistory(b *testing.B, count int) *natsd.Node {
	b.Helper()
	dir := b.TempDir()
	if count > 0 {
		fillHistory(b, dir, count)
	}
	n, err := natsd.Start(b.Context(), natsd.Config{Dir: dir, Name: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		_ = n.Stop(ctx)
	})
	return n
}

func fillHistory(b *testing.B, dir string, count int) {
	b.Helper()
	srv, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		b.Fatal(err)
	}
	srv.Start()
	defer func() { srv.Shutdown(); srv.WaitForShutdown() }()
	if !srv.ReadyForConnections(10 * time.Second) {
		b.Fatal("the server does not start")
	}
	conn, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if _, err := jsstore.New(b.Context(), jsstore.Config{Conn: conn}); err != nil {
		b.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	for i := range count {
		now := time.Now().UTC()
		c := commands.Command{
			ID: fmt.Sprint("old-", i), Device: "d1", Spec: commands.Spec{Name: "x", TTL: time.Hour, Timeout: time.Second},
			Created: now, Updated: now, Expires: now, Ended: now, State: commands.Succeeded, Confirmed: true,
			Events: []commands.Event{{Time: now, State: commands.Queued, Node: "a"}, {Time: now, State: commands.Succeeded, Node: "a"}},
		}
		data, err := json.Marshal(c)
		if err != nil {
			b.Fatal(err)
		}
		m := nats.NewMsg("tl.cmd." + c.ID + ".d1")
		m.Data = data
		m.Header.Set("Tl-State", "SUCCEEDED")
		m.Header.Set("Nats-TTL", "720h")
		if _, err := js.PublishMsgAsync(m); err != nil {
			b.Fatal(err)
		}
		if i%2000 == 1999 {
			<-js.PublishAsyncComplete()
		}
	}
	<-js.PublishAsyncComplete()
}

// BenchmarkGet100k looks up commands by id with 100,000 in the history, and
// lists the newest page.
func BenchmarkGet100k(b *testing.B) {
	store := newStore(b, natsWithHistory(b, 100_000))
	begin := time.Now()
	h := startHub(b, "a", store)
	b.Logf("first start, without a checkpoint: %s", time.Since(begin))
	h.stop()
	begin = time.Now()
	h = startHub(b, "a", store)
	b.Logf("next start: %s", time.Since(begin))
	for i := 0; b.Loop(); i++ {
		if _, _, err := h.d.Get(context.Background(), fmt.Sprint("old-", i%100_000)); err != nil {
			b.Fatal(err)
		}
	}
	begin = time.Now()
	page, _, err := h.d.List(context.Background(), commands.Filter{Device: "d1"}, commands.Page{})
	b.Logf("a page of %d: %s, %v", len(page), time.Since(begin), err)
}
