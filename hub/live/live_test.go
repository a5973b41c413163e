package live_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One ticker a process, started by the server's package.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.init.0.func1"),
	)
}

const patience = 90 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// site is a server and a registry that several tables may share, as nodes do.
type site struct {
	t    testing.TB
	node *natsd.Node
	reg  *registry.Registry
}

func startSite(t testing.TB, devices ...string) *site {
	t.Helper()
	ctx := testContext(t)
	quiet := slog.New(slog.DiscardHandler)
	node, err := natsd.Start(ctx, natsd.Config{Dir: t.TempDir(), Name: "server", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := node.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	reg, err := registry.Open(ctx, node.JetStream(), registry.Config{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reg.Close)
	s := &site{t: t, node: node, reg: reg}
	for _, id := range devices {
		if _, err := reg.Create(ctx, registry.NewDevice{ID: id, KeyID: "k"}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// table of a node; stop ends it in order.
func (s *site) table(name string) (table *live.Table, stop func()) {
	s.t.Helper()
	table, err := live.New(testContext(s.t), live.Config{
		Conn: s.node.Conn(), JetStream: s.node.JetStream(), Registry: s.reg, Node: name,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { table.Run(ctx) })
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); running.Wait() }) }
	s.t.Cleanup(stop)
	return table, stop
}

// stored is what the bucket says of a device.
func (s *site) stored(id string) string {
	kv, err := s.node.JetStream().KeyValue(testContext(s.t), "presence")
	if err != nil {
		return err.Error()
	}
	e, err := kv.Get(testContext(s.t), id)
	if err != nil {
		return err.Error()
	}
	return string(e.Value())
}

// gear is a peer as a bridge would enter it.
type gear struct {
	mu      sync.Mutex
	stopped []int
	heard   time.Time
}

func (g *gear) Send(*devicev1.HubFrame) error { return nil }

func (g *gear) Stop(code session.CloseCode, _ string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = append(g.stopped, int(code))
}

func (g *gear) LastHeard() time.Time { return g.heard }

func (g *gear) codes() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return fmt.Sprint(g.stopped)
}

func enter(t testing.TB, table *live.Table, id string, p live.Peer) uint64 {
	t.Helper()
	epoch, _, err := table.Enter(id, p, "192.0.2.1:1", "fw")
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

func TestPresenceSurvivesARestart(t *testing.T) {
	s := startSite(t, "a", "b")
	table, stop := s.table("n1")
	heard := time.Now().Add(time.Minute).Truncate(time.Microsecond)
	a, b := &gear{heard: heard}, &gear{}
	first := enter(t, table, "a", a)
	enter(t, table, "b", b)
	_, memory, _ := table.Enter("b", b, "x", "")
	memory.SetDroppedRows(7)
	table.Leave("a", a, "closed by the device")
	table.Leave("b", b, "connection lost")
	stop()

	table, _ = s.table("n1")
	p := table.Presence("a")
	if p.Online || p.Reason != "closed by the device" || !p.LastSeen.Equal(heard) || p.Epoch != first {
		t.Errorf("a: %+v", p)
	}
	if p := table.Presence("b"); p.Dropped != 7 {
		t.Errorf("b: %+v", p)
	}
	if second := enter(t, table, "a", a); second <= first {
		t.Errorf("epoch %d after %d", second, first)
	}
	if p := table.Presence("never"); p != (registry.Presence{}) {
		t.Errorf("never seen: %+v", p)
	}
}

// Devices that were online when the hub was killed are offline when it is
// back.
func TestCrashLeavesNobodyOnline(t *testing.T) {
	s := startSite(t, "a", "other")
	dead, _ := s.table("n1")
	enter(t, dead, "a", &gear{})
	elsewhere, _ := s.table("n2")
	enter(t, elsewhere, "other", &gear{})
	eventually(t, "both are saved", func() bool { return len(s.stored("a")) > 50 && len(s.stored("other")) > 50 })

	again, _ := s.table("n1") // the first one never said goodbye
	if p := again.Presence("a"); p.Online || p.Reason != "hub stopped" || p.LastSeen.IsZero() {
		t.Errorf("a: %+v", p)
	}
	if p := again.Presence("other"); !p.Online || p.Node != "n2" {
		t.Errorf("the other node's device: %+v", p)
	}
}

// The rows that a device has dropped are known after a crash of the hub, even
// where the device has nothing more to say.
func TestCrashForgetsNoGap(t *testing.T) {
	s := startSite(t, "a")
	dead, _ := s.table("n1")
	_, memory, err := dead.Enter("a", &gear{}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	memory.SetDroppedRows(7)
	eventually(t, "the total is saved", func() bool { return strings.Contains(s.stored("a"), `"dropped_rows":7`) })
	again, _ := s.table("n1") // the first one never said goodbye
	if p := again.Presence("a"); p.Dropped != 7 {
		t.Errorf("a: %+v", p)
	}
}

func TestNewerSessionOnAnotherNodeSupersedes(t *testing.T) {
	s := startSite(t, "a")
	n1, _ := s.table("n1")
	n2, _ := s.table("n2")
	older, newer := &gear{}, &gear{}
	first := enter(t, n1, "a", older)
	eventually(t, "n2 knows", func() bool { return n2.Presence("a").Node == "n1" })
	second := enter(t, n2, "a", newer)
	if second <= first {
		t.Fatalf("epoch %d after %d", second, first)
	}
	eventually(t, "superseded", func() bool { return older.codes() == "[4001]" })
	eventually(t, "n1 knows", func() bool { return n1.Presence("a").Node == "n2" })
	// The late goodbye of the older one changes nothing, here or there.
	n1.Leave("a", older, "connection lost")
	n1.Leave("a", older, "connection lost")
	for name, table := range map[string]*live.Table{"n1": n1, "n2": n2} {
		if p := table.Presence("a"); !p.Online || p.Epoch != second {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if n1.Online() != 0 || n2.Online() != 1 || n1.Peak() != 1 {
		t.Errorf("online %d and %d", n1.Online(), n2.Online())
	}
	if newer.codes() != "[]" {
		t.Errorf("the newer one was stopped: %s", newer.codes())
	}
	n2.Leave("a", newer, "connection lost")
	eventually(t, "n1 sees it leave", func() bool { return !n1.Presence("a").Online })
}

func TestSendGoesToTheNewestPeer(t *testing.T) {
	s := startSite(t, "a")
	table, _ := s.table("n1")
	older, newer := &gear{}, &gear{}
	enter(t, table, "a", older)
	second := enter(t, table, "a", newer)
	if epoch, ok := table.Send("a", &devicev1.HubFrame{}); !ok || epoch != second {
		t.Errorf("sent on %d, %v", epoch, ok)
	}
	table.Leave("a", older, "superseded")
	if !table.Disconnect("a", session.CloseForbidden, "") || newer.codes() != "[4003]" {
		t.Errorf("not disconnected: %s", newer.codes())
	}
	table.Leave("a", newer, "forbidden")
	if _, ok := table.Send("a", &devicev1.HubFrame{}); ok || table.Disconnect("a", session.CloseForbidden, "") {
		t.Error("somebody is there")
	}
}

func TestDisabledOnEveryNode(t *testing.T) {
	s := startSite(t, "a")
	table, _ := s.table("n1")
	p := &gear{}
	enter(t, table, "a", p)
	_, err := s.reg.Update(testContext(t), "a", func(d *registry.Device) error { d.Disabled = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "stopped", func() bool { return p.codes() == "[4501]" })
}

func TestDeletedDeviceIsForgotten(t *testing.T) {
	s := startSite(t, "a", "b")
	table, stop := s.table("n1")
	p := &gear{}
	enter(t, table, "a", p)
	enter(t, table, "b", p)
	table.Leave("b", p, "gone")
	eventually(t, "saved", func() bool { return len(s.stored("a")) > 50 && len(s.stored("b")) > 50 })
	for _, id := range []string{"a", "b"} {
		if err := s.reg.Delete(testContext(t), id); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "stopped", func() bool { return p.codes() == "[4500]" })
	table.Leave("a", p, "unauthorized")
	eventually(t, "forgotten", func() bool {
		return s.stored("a") == "nats: key not found" && s.stored("b") == "nats: key not found"
	})
	if p := table.Presence("a"); p != (registry.Presence{}) {
		t.Errorf("%+v", p)
	}
	stop()
	// The same id again is a new device; its first save meets the marker.
	if _, err := s.reg.Create(testContext(t), registry.NewDevice{ID: "a", KeyID: "k"}); err != nil {
		t.Fatal(err)
	}
	table, _ = s.table("n1")
	enter(t, table, "a", p)
	eventually(t, "saved again", func() bool { return len(s.stored("a")) > 50 })
}

func TestWatch(t *testing.T) {
	s := startSite(t, "a", "b")
	table, _ := s.table("n1")
	p := &gear{}
	enter(t, table, "a", p)
	ctx, cancel := context.WithCancel(context.Background())
	events := make(chan live.Event, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- table.Watch(ctx, func(e live.Event) error { events <- e; return nil })
	}()
	next := func() live.Event {
		t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(patience):
			t.Fatal("no event")
			return live.Event{}
		}
	}
	if e := next(); e.Device != "a" || !e.Presence.Online {
		t.Fatalf("%+v", e)
	}
	if e := next(); !e.Synced || e.Device != "" {
		t.Fatalf("%+v", e)
	}
	enter(t, table, "b", p)
	if e := next(); e.Device != "b" || !e.Presence.Online || e.Presence.RemoteAddr == "" {
		t.Fatalf("%+v", e)
	}
	table.Leave("a", p, "connection lost")
	if e := next(); e.Device != "a" || e.Presence.Online || e.Presence.Reason != "connection lost" {
		t.Fatalf("%+v", e)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A watcher that stops reading is bounded, and still ends with the last state.
func TestSlowWatcherEndsWithTheLastState(t *testing.T) {
	s := startSite(t, "a")
	table, _ := s.table("n1")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	synced, goOn, last := make(chan struct{}), make(chan struct{}), make(chan live.Event)
	restarts := 0
	ended := make(chan error, 1)
	go func() {
		ended <- table.Watch(ctx, func(e live.Event) error {
			switch {
			case e.Restarted:
				restarts++
			case e.Synced:
				close(synced)
				<-goOn
			case e.Device == "a" && e.Presence.Reason == "the last":
				select {
				case last <- e:
				case <-ctx.Done():
				}
			}
			return nil
		})
	}()
	<-synced
	p := &gear{}
	for i := range 12_000 { // more than a watcher may be behind
		enter(t, table, fmt.Sprintf("x%d", i), p)
	}
	enter(t, table, "a", p)
	table.Leave("a", p, "the last")
	close(goOn)
	select {
	case <-last:
	case <-time.After(patience):
		t.Fatal("the last state was never told")
	}
	cancel()
	<-ended
	if restarts > 1 {
		t.Errorf("%d restarts", restarts)
	}
}
