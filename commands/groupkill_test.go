package commands_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// hubOf is where TestMain finds the NATS server of a hub that is to be killed.
const hubOf = "TETHERLINE_TEST_HUB_OF"

// killedGroup is the devices of the group that such a hub issues.
const killedGroup = 3000

// nobody is a Sender without sessions.
type nobody struct{}

func (nobody) Send(string, *devicev1.HubFrame) (uint64, bool) { return 0, false }

// hubToKill issues a group without a rate, as the node "a", until it is killed.
func hubToKill(url string) error {
	conn, err := nats.Connect(url)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	store, err := jsstore.New(ctx, jsstore.Config{Conn: conn})
	if err != nil {
		return err
	}
	d, err := commands.New(commands.Config{
		Node: "a", Store: store, Devices: &devices{selected: fleet(killedGroup)}, Sender: nobody{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	go func() { _ = d.Run(ctx) }()
	if _, _, err := d.SendGroup(ctx, commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x"}, Key: "g"}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func killAHubThatIssues(t *testing.T, url string, store *jsstore.Store) {
	t.Helper()
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), hubOf+"="+url)
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	}()
	eventually(t, "hundreds were issued", func() bool {
		last, err := store.LastRevision(t.Context())
		return err == nil && last > 400
	})
}

// children of the group as they are stored.
func children(t *testing.T, store commands.Store, group string) map[string]*commands.Command {
	t.Helper()
	last, err := store.LastRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*commands.Command{}
	err = store.Scan(t.Context(), commands.Scan{High: last}, func(c *commands.Command, _ time.Time) bool {
		if c.Group == group && all[c.ID] == nil {
			all[c.ID] = c
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// expireLease makes it a while later.
func expireLease(t *testing.T, store commands.Store, group string) {
	t.Helper()
	g, err := store.Group(t.Context(), group)
	if err == nil {
		g.Lease = time.Now().Add(-time.Second)
		err = store.UpdateGroup(t.Context(), g)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A hub is killed while it issues a group as fast as it can; the group is then
// canceled. Whoever takes it up finds every command that was issued: when the
// group says that it has ended, none is left that a device could still get.
func TestACanceledGroupLeavesNoCommandOfAHubThatWasKilled(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{true, false} {
		t.Run(fmt.Sprintf("restarted %v", restart), func(t *testing.T) {
			t.Parallel()
			s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
			if err != nil {
				t.Fatal(err)
			}
			s.Start()
			t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
			if !s.ReadyForConnections(time.Minute) {
				t.Fatal("the server does not start")
			}
			conn, err := nats.Connect(s.ClientURL())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Close)
			store, err := jsstore.New(t.Context(), jsstore.Config{Conn: conn, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			killAHubThatIssues(t, s.ClientURL(), store)
			h := startHub(t, "b", store)
			g, err := h.d.CancelGroup(t.Context(), "g", "ann")
			if err != nil || g.State != commands.GroupCanceled {
				t.Fatalf("%+v, %v", g, err)
			}
			if restart {
				h.stop()
				h = startHub(t, "a", store)
			} else {
				expireLease(t, store, "g")
			}
			g = h.wantGroup("g", groupEnded)
			all := children(t, store, "g")
			for id, c := range all {
				if c.State != commands.Canceled {
					t.Fatalf("%s is %s; the group says: %d issued, %v", id, c.State, g.Issued, g.ByState)
				}
			}
			if g.Issued != len(all) || g.ByState[commands.Canceled] != len(all) || len(all) < 300 {
				t.Errorf("%d commands; the group says: %d issued, %v", len(all), g.Issued, g.ByState)
			}
		})
	}
}

// sleepyStore is that of a hub that is paused, in the middle of its writes,
// for longer than its lease of a group lasts.
type sleepyStore struct {
	commands.Store
	awake  chan struct{} // closed when it goes on
	asleep atomic.Int32  // writes that are under way meanwhile
}

func (s *sleepyStore) Create(ctx context.Context, c *commands.Command) error {
	s.asleep.Add(1)
	<-s.awake
	return s.Store.Create(context.WithoutCancel(ctx), c)
}

func (s *sleepyStore) UpdateGroup(ctx context.Context, g *commands.Group) error {
	g.Lease = time.Now().Add(-time.Minute)
	return s.Store.UpdateGroup(ctx, g)
}

// A hub is paused while it issues; another takes its group up, which is
// canceled, and ends it. What the first then still records reaches no device,
// is canceled, and is counted.
func TestAPausedHubCannotIssueForAGroupThatHasEnded(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	store := newStore(t, nats)
	sleepy := &sleepyStore{Store: newStore(t, nats), awake: make(chan struct{})}
	ids := fleet(24)
	a := startHub(t, "a", sleepy, withDevices(&devices{selected: ids}))
	wake := sync.OnceFunc(func() { close(sleepy.awake) })
	t.Cleanup(wake)
	var all []*device
	for i, id := range ids {
		all = append(all, newDevice(id))
		if i%2 == 0 {
			a.connect(all[i])
		}
	}
	if _, _, err := a.d.SendGroup(t.Context(), commands.GroupRequest{Selector: "a=b", Spec: commands.Spec{Name: "x"}, Key: "g"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "writes are under way", func() bool { return sleepy.asleep.Load() == int32(len(ids)) })
	g, err := store.Group(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	g.State, g.Reason = commands.GroupCanceled, "canceled by ann"
	if err := store.UpdateGroup(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	b := startHub(t, "b", store)
	eventually(t, "the other hub has ended the group", func() bool {
		g, err := store.Group(t.Context(), "g")
		return err == nil && groupEnded(*g) && g.Issued == 0 && g.Runner == "b"
	})
	wake()
	for i, v := range all {
		if i%4 == 1 {
			b.connect(v)
		}
	}
	canceled := 0
	eventually(t, "all are canceled", func() bool {
		canceled = 0
		for _, c := range children(t, store, "g") {
			if c.State != commands.Canceled {
				return false
			}
			canceled++
		}
		return canceled == len(ids)
	})
	for _, v := range all {
		if n := len(v.got()); n != 0 {
			t.Errorf("%s got %d commands of a group that had been canceled", v.id, n)
		}
	}
	b.wantGroup("g", func(g commands.Group) bool {
		return g.State == commands.GroupCanceled && g.Issued == len(ids) && g.ByState[commands.Canceled] == len(ids)
	})
}
