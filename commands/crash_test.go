package commands_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

var errCut = errors.New("the hub was killed")

// cutStore is the store of a hub that is killed around its nth durable step:
// before it, or right after it without the hub hearing of that.
type cutStore struct {
	commands.Store
	after bool

	mu   sync.Mutex
	left int
	dead bool
	cut  chan struct{}
}

func newCutStore(s commands.Store, n int, after bool) *cutStore {
	return &cutStore{Store: s, left: n, after: after, cut: make(chan struct{})}
}

// step reports whether the hub is dead before the step, and whether it dies
// by it.
func (s *cutStore) step() (dead, dies bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return true, false
	}
	s.left--
	if s.left > 0 {
		return false, false
	}
	s.dead = true
	close(s.cut)
	return !s.after, true
}

func (s *cutStore) write(do func() error) error {
	dead, dies := s.step()
	if dead {
		return errCut
	}
	if err := do(); err != nil || !dies {
		return err
	}
	return errCut
}

func (s *cutStore) Create(ctx context.Context, c *commands.Command) error {
	return s.write(func() error { return s.Store.Create(ctx, c) })
}

func (s *cutStore) Update(ctx context.Context, c *commands.Command) error {
	return s.write(func() error { return s.Store.Update(ctx, c) })
}

func (s *cutStore) CreateGroup(ctx context.Context, g *commands.Group, members []string) error {
	return s.write(func() error { return s.Store.CreateGroup(ctx, g, members) })
}

func (s *cutStore) UpdateGroup(ctx context.Context, g *commands.Group) error {
	return s.write(func() error { return s.Store.UpdateGroup(ctx, g) })
}

// A hub is killed before and after each of its durable steps. Whatever the
// step: after the restart the command has one end, ran at most once, and one
// of the class once was put on the wire at most once.
func TestAHubKilledBetweenAnyTwoSteps(t *testing.T) {
	nats := startNATS(t)
	store := newStore(t, nats)
	for _, replay := range []commands.Replay{commands.UntilDelivered, commands.Once, commands.LatestWins} {
		for _, online := range []bool{true, false} {
			for n := 1; n <= 4; n++ {
				for _, after := range []bool{false, true} {
					name := fmt.Sprintf("%s/online=%v/step=%d/after=%v", replay, online, n, after)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						id := fmt.Sprintf("%s-%v-%d-%v", replay, online, n, after)
						killOnce(t, store, id, replay, online, n, after)
					})
				}
			}
		}
	}
}

func killOnce(t *testing.T, store commands.Store, id string, replay commands.Replay, online bool, n int, after bool) {
	cut := newCutStore(store, n, after)
	h := startHub(t, "node-"+id, cut)
	v := newDevice("dev-" + id)
	if online {
		h.connect(v)
	}
	r := commands.Request{Device: v.id, Key: id, Spec: commands.Spec{Name: "set-relay", Replay: replay, Timeout: 500 * time.Millisecond}}
	_, _, err := h.d.Send(context.Background(), r)
	if err == nil && !online {
		h.connect(v)
	}
	accepted := err == nil
	// The hub lives until it is killed, or has nothing more to do.
	settled := time.After(2 * time.Minute)
	for done := false; !done; {
		select {
		case <-cut.cut:
			done = true
		case <-settled:
			t.Fatal("the command neither ends nor is the hub killed")
		case <-time.After(2 * time.Millisecond):
			c, err := store.Command(context.Background(), id)
			done = err == nil && c.State.Ended()
		}
	}
	h.stop()

	h = startHub(t, "node-"+id, store)
	h.connect(v)
	if !accepted {
		// The operator has had an error, and asks again with the same key.
		if _, _, err := h.d.Send(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	var c commands.Command
	eventually(t, "the command ends", func() bool {
		c, _, err = h.d.Get(context.Background(), id)
		return err == nil && c.State.Ended()
	})
	runs, puts := v.runs(id), 0
	for _, got := range v.got() {
		if got == id {
			puts++
		}
	}
	if runs > 1 {
		t.Errorf("ran %d times\n%s", runs, story(c))
	}
	if replay == commands.Once && puts > 1 {
		t.Errorf("put on the wire %d times\n%s", puts, story(c))
	}
	if runs == 1 {
		// What ran is known.
		h.want(id, commands.Succeeded)
	} else if c.State != commands.TimedOut || replay != commands.Once {
		t.Errorf("%s did not run and is %s\n%s", replay, c.State, story(c))
	}
	ends := 0
	for _, e := range c.Events {
		if e.State.Ended() {
			ends++
		}
	}
	if c.Confirmed && ends > 1 || ends == 0 {
		t.Errorf("%d ends\n%s", ends, story(c))
	}
	eventually(t, "acknowledged", func() bool { return len(v.reports()) == 0 })
}

// flakyStore fails writes while it is broken.
type flakyStore struct {
	commands.Store
	mu     sync.Mutex
	broken bool
}

func (s *flakyStore) set(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

func (s *flakyStore) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errors.New("the disk is full")
	}
	return nil
}

func (s *flakyStore) Create(ctx context.Context, c *commands.Command) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Create(ctx, c)
}

func (s *flakyStore) Update(ctx context.Context, c *commands.Command) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Update(ctx, c)
}

// A store that takes nothing for a while delays ends and deadlines; it loses
// none, and no CommandAck goes out before the end is recorded.
func TestAStoreThatIsAwayForAWhile(t *testing.T) {
	t.Parallel()
	store := &flakyStore{Store: newStore(t, startNATS(t))}
	h := startHub(t, "a", store)
	v := newDevice("d1")
	v.do = only(delivered)
	h.connect(v)
	answered := h.send(commands.Request{Device: "d1"}).ID
	h.want(answered, commands.Delivered)
	expiring := h.send(commands.Request{Device: "off", Spec: commands.Spec{TTL: time.Second}}).ID
	queued := h.send(commands.Request{Device: "later"}).ID

	store.set(true)
	if _, _, err := h.d.Send(context.Background(), commands.Request{Device: "d1", Spec: commands.Spec{Name: "x"}}); err == nil {
		t.Error("accepted without being recorded")
	}
	v.say(word(answered, succeeded))
	later := newDevice("later")
	h.connect(later)
	eventually(t, "an end that is owed", func() bool { return h.d.Stats().OwedEnds == 1 })
	eventually(t, "steps that were refused", func() bool { return h.d.Stats().StoreErrors >= 3 })
	if len(v.reports()) == 0 {
		t.Error("acknowledged before it was recorded")
	}
	if len(later.got()) != 0 {
		t.Error("sent before SENT was recorded")
	}
	store.set(false)
	h.want(answered, commands.Succeeded)
	h.want(expiring, commands.Expired)
	h.want(queued, commands.Succeeded)
	eventually(t, "nothing owed", func() bool { return h.d.Stats().OwedEnds == 0 })
}
