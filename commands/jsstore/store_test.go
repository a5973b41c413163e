package jsstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/natsd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startNode(t testing.TB, dir string) *natsd.Node {
	t.Helper()
	n, err := natsd.Start(t.Context(), natsd.Config{Dir: dir, Name: "n1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = n.Stop(ctx)
	})
	return n
}

func newStore(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Conn == nil {
		cfg.Conn = startNode(t, t.TempDir()).Conn()
	}
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func aCommand(id, device string, state commands.State) *commands.Command {
	now := time.Now().UTC()
	return &commands.Command{
		ID: id, Device: device, Spec: commands.Spec{Name: "set-relay", TTL: time.Hour, Timeout: time.Second},
		Created: now, Updated: now, Expires: now.Add(time.Hour), State: state,
		Events: []commands.Event{{Time: now, State: state, Node: "n1"}},
	}
}

func wantCreate(t testing.TB, s *Store, c *commands.Command) {
	t.Helper()
	if err := s.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func TestRecordsAreComparedAndSet(t *testing.T) {
	s := newStore(t, Config{})
	ctx := t.Context()
	c := aCommand("job.1:a", "d1", commands.Queued)
	wantCreate(t, s, c)
	if err := s.Create(ctx, aCommand("job.1:a", "d1", commands.Queued)); !errors.Is(err, commands.ErrExists) {
		t.Errorf("second create: %v, want ErrExists", err)
	}
	if err := s.Create(ctx, aCommand("job.1:a", "other", commands.Queued)); !errors.Is(err, commands.ErrExists) {
		t.Errorf("create of the id for another device: %v, want ErrExists", err)
	}
	stale := *c
	c.State = commands.Succeeded
	if err := s.Update(ctx, c); err != nil {
		t.Fatal(err)
	}
	stale.State = commands.Expired
	if err := s.Update(ctx, &stale); !errors.Is(err, commands.ErrStale) {
		t.Errorf("stale update: %v, want ErrStale", err)
	}
	got, err := s.Command(ctx, "job.1:a")
	if err != nil {
		t.Fatal(err)
	}
	if got.State != commands.Succeeded || got.Revision != c.Revision || got.Device != "d1" {
		t.Errorf("got %+v", got)
	}
	if err := s.Create(ctx, aCommand("job.1:a", "d1", commands.Queued)); !errors.Is(err, commands.ErrExists) {
		t.Errorf("create of an id in the history: %v, want ErrExists", err)
	}
	if _, err := s.Command(ctx, "job.1"); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("unknown id: %v, want ErrNotFound", err)
	}
	if _, err := s.getFromLeader(ctx, StreamCommands, getRequest{Last: commandPrefix + "nothing.*"}); !errors.Is(err, errNoMessage) {
		t.Errorf("asking the leader for an unknown id: %v", err)
	}
	m, err := s.getFromLeader(ctx, StreamCommands, getRequest{Last: commandSubject("job.1:a", "d1")})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := decode(m); err != nil || c.State != commands.Succeeded || m.Header.Get(stateHeader) != "SUCCEEDED" {
		t.Errorf("the leader answers %+v, %v", c, err)
	}
}

func TestHistoryIsKeptForTheRetentionAndLiveRecordsForEver(t *testing.T) {
	s := newStore(t, Config{})
	s.cfg.Retention = time.Second // shorter than a Config may be
	live, ended := aCommand("live", "d", commands.Sent), aCommand("ended", "d", commands.Failed)
	wantCreate(t, s, live)
	wantCreate(t, s, ended)
	deadline := time.Now().Add(2 * time.Minute)
	for {
		_, err := s.Command(t.Context(), "ended")
		if errors.Is(err, commands.ErrNotFound) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the ended command is still there: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := s.Command(t.Context(), "live"); err != nil {
		t.Errorf("the live command: %v", err)
	}
}

// followed is what one Follow hands out until it has caught up, and after.
type followed struct {
	live    []string
	changes chan commands.Change
	stop    func()
}

func follow(t testing.TB, s *Store) *followed {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &followed{changes: make(chan commands.Change, 10_000)}
	ready, done := make(chan struct{}), make(chan error, 1)
	caughtUp := false
	go func() {
		done <- s.Follow(ctx, func(c commands.Change) {
			switch {
			case c.ID == "":
				caughtUp = true
				close(ready)
			case caughtUp:
				f.changes <- c
			default:
				f.live = append(f.live, c.ID)
			}
		})
	}()
	f.stop = func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Follow: %v", err)
		}
	}
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("Follow ended early: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("Follow does not catch up")
	}
	return f
}

func TestFollowBeginsWithLiveCommandsAndGoesOnWithChanges(t *testing.T) {
	for name, test := range map[string]struct {
		checkpoints int
		sole        bool
	}{
		"from the stream": {1 << 30, false}, "from a checkpoint": {7, false},
		"by looks from the stream": {1 << 30, true}, "by looks from a checkpoint": {7, true},
	} {
		t.Run(name, func(t *testing.T) {
			node := startNode(t, t.TempDir())
			s := newStore(t, Config{Conn: node.Conn(), Sole: test.sole})
			s.checkpointChanges, s.lookEvery = test.checkpoints, 10*time.Millisecond
			first := follow(t, s)
			if len(first.live) != 0 {
				t.Fatalf("an empty store has %v", first.live)
			}
			var want []string
			for i := range 40 {
				c := aCommand(fmt.Sprintf("c.%02d", i), "d", commands.Queued)
				wantCreate(t, s, c)
				if i%10 == 3 {
					want = append(want, c.ID)
					continue
				}
				c.State = commands.Succeeded
				if err := s.Update(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			for last := uint64(0); last < 40+36; {
				select {
				case c := <-first.changes:
					last = c.Revision
					if _, err := c.Load(); err != nil {
						t.Fatal(err)
					}
				case <-time.After(2 * time.Minute):
					t.Fatalf("no change after %d", last)
				}
			}
			first.stop()

			c, err := s.readCheckpoint(t.Context())
			if err != nil || c == nil || len(c.Live) != len(want) {
				t.Fatalf("checkpoint %+v, %v; want %d live", c, err, len(want))
			}
			// One more ends, and one begins, behind the checkpoint.
			ended, err := s.Command(t.Context(), want[0])
			if err != nil {
				t.Fatal(err)
			}
			ended.State = commands.Canceled
			if err := s.Update(t.Context(), ended); err != nil {
				t.Fatal(err)
			}
			wantCreate(t, s, aCommand("new", "d", commands.Queued))
			want = append(want[1:], "new")

			second := follow(t, s)
			second.stop()
			if !slices.Equal(second.live, want) {
				t.Errorf("live after a restart: %v, want %v", second.live, want)
			}
			if err := s.js.DeleteStream(t.Context(), StreamMeta); err != nil {
				t.Fatal(err)
			}
			s = newStore(t, Config{Conn: node.Conn()})
			third := follow(t, s)
			third.stop()
			if !slices.Equal(third.live, want) {
				t.Errorf("live without a checkpoint: %v, want %v", third.live, want)
			}
		})
	}
}

func TestCheckpointOfAnotherStreamIsIgnored(t *testing.T) {
	s := newStore(t, Config{})
	wantCreate(t, s, aCommand("a", "d", commands.Queued))
	if err := s.writeCheckpoint(t.Context(), &checkpoint{Created: time.Now(), At: 1}); err != nil {
		t.Fatal(err)
	}
	f := follow(t, s)
	f.stop()
	if !slices.Equal(f.live, []string{"a"}) {
		t.Errorf("live: %v", f.live)
	}
}

func TestScanGoesBackThroughHolesAndDevices(t *testing.T) {
	s := newStore(t, Config{})
	var want []string
	for i := range 1300 {
		device := "many"
		if i%100 == 7 {
			device = "rare"
			want = append(want, fmt.Sprint("c", i))
		}
		m, err := s.message(aCommand(fmt.Sprint("c", i), device, commands.Failed))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-s.js.PublishAsyncComplete():
	case <-time.After(2 * time.Minute):
		t.Fatal("publishing takes too long")
	}
	slices.Reverse(want)
	high, err := s.LastRevision(t.Context())
	if err != nil || high != 1300 {
		t.Fatalf("last revision %d, %v", high, err)
	}
	var got []string
	err = s.Scan(t.Context(), commands.Scan{Device: "rare", High: high}, func(c *commands.Command, at time.Time) bool {
		if at.IsZero() {
			t.Error("a record without a time")
		}
		got = append(got, c.ID)
		return true
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("scan: %v %v\nwant %v", got, err, want)
	}
	n := 0
	err = s.Scan(t.Context(), commands.Scan{High: 1250, Low: 10}, func(c *commands.Command, _ time.Time) bool {
		if c.Revision != uint64(1250-n) {
			t.Errorf("%d at place %d", c.Revision, n)
		}
		n++
		return n < 1200
	})
	if err != nil || n != 1200 {
		t.Errorf("scan of all: %d, %v", n, err)
	}
}

func TestGroups(t *testing.T) {
	s := newStore(t, Config{})
	ctx := t.Context()
	members := make([]string, 2*membersChunk+1)
	for i := range members {
		members[i] = fmt.Sprint("device-", i)
	}
	g := &commands.Group{ID: "g.1", Total: len(members), State: commands.GroupRunning, ByState: map[commands.State]int{commands.Sent: 3}}
	if err := s.CreateGroup(ctx, g, members); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateGroup(ctx, &commands.Group{ID: "g.1", Total: 1}, []string{"x"}); !errors.Is(err, commands.ErrExists) {
		t.Errorf("second create: %v, want ErrExists", err)
	}
	got, err := s.Members(ctx, "g.1")
	if err != nil || !slices.Equal(got, members) {
		t.Errorf("%d members, %v", len(got), err)
	}
	stale := *g
	g.Next = 10
	if err := s.UpdateGroup(ctx, g); err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateGroup(ctx, &stale); !errors.Is(err, commands.ErrStale) {
		t.Errorf("stale update: %v", err)
	}
	for i := range 3 {
		if err := s.CreateGroup(ctx, &commands.Group{ID: fmt.Sprint("h", i), Total: 1}, []string{"x"}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Groups(ctx)
	if err != nil || len(all) != 4 {
		t.Errorf("%d groups, %v", len(all), err)
	}
	g.Ended = time.Now()
	if err := s.UpdateGroup(ctx, g); err != nil {
		t.Fatal(err)
	}
	st, err := s.js.Stream(ctx, StreamMeta)
	if err != nil {
		t.Fatal(err)
	}
	if n := st.CachedInfo().State.Msgs; n != 4+3 {
		t.Errorf("%d messages after the group's end, want 4 groups and 3 sets of members", n)
	}
	again, err := s.Group(ctx, "g.1")
	if err != nil || again.ByState[commands.Sent] != 3 || again.Next != 10 {
		t.Errorf("group %+v, %v", again, err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	conn := startNode(t, t.TempDir()).Conn()
	for _, cfg := range []Config{{}, {Conn: conn, Retention: time.Minute}, {Conn: conn, MaxBytes: 1}} {
		if _, err := New(t.Context(), cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
