package commands_test

import (
	"context"
	"slices"
	"testing"

	"github.com/tetherline/tetherline/commands"
)

// lateStore answers the first look for a command with what was true when it
// was asked for, after release.
type lateStore struct {
	commands.Store
	looked  chan struct{} // closed when the record was read
	release chan struct{}
}

func (s *lateStore) Create(ctx context.Context, c *commands.Command) error {
	err := s.Store.Create(ctx, c)
	if c.ID == "k" && err == nil {
		<-s.looked
	}
	return err
}

func (s *lateStore) Command(ctx context.Context, id string) (*commands.Command, error) {
	c, err := s.Store.Command(ctx, id)
	if id != "k" || err != nil {
		return c, err
	}
	select {
	case <-s.looked:
	default:
		close(s.looked)
		<-s.release
	}
	return c, err
}

// Follow leaves the command out: its changes come late, as behind others.
func (s *lateStore) Follow(ctx context.Context, fn func(commands.Change)) error {
	return s.Store.Follow(ctx, func(c commands.Change) {
		if c.ID != "k" {
			fn(c)
		}
	})
}

// Of two requests of one key the second may read the record while the command
// is on its way, and go on when it has ended: it does not bring it back, and
// the device gets it once.
func TestARequestBesideTheFirstBringsNoEndedCommandBack(t *testing.T) {
	store := &lateStore{Store: newStore(t, startNATS(t)), looked: make(chan struct{}), release: make(chan struct{})}
	h := startHub(t, "a", store)
	v := newDevice("d1")
	h.connect(v)
	request := commands.Request{Device: "d1", Key: "k", Spec: commands.Spec{Name: "set-relay"}}
	answers := make(chan commands.Command, 2)
	ask := func() {
		c, _, err := h.d.Send(t.Context(), request)
		if err != nil {
			t.Error(err)
		}
		answers <- c
	}
	go ask()
	// The second asks when the record is there.
	eventually(t, "the first is recorded", func() bool {
		_, err := store.Store.Command(t.Context(), "k")
		return err == nil
	})
	go ask()
	<-store.looked
	h.want("k", commands.Succeeded)
	close(store.release)
	for range 2 {
		if c := <-answers; c.ID != "k" {
			t.Errorf("answered with %q", c.ID)
		}
	}
	h.send(commands.Request{Device: "d1", Key: "next"})
	h.want("next", commands.Succeeded)
	if got := v.got(); !slices.Equal(got, []string{"k", "next"}) {
		t.Errorf("the device got %q", got)
	}
	h.want("k", commands.Succeeded)
}

// deafStore hears nothing of what is written once it has caught up.
type deafStore struct {
	commands.Store
}

func (s *deafStore) Follow(ctx context.Context, fn func(commands.Change)) error {
	caughtUp := false
	return s.Store.Follow(ctx, func(c commands.Change) {
		if !caughtUp {
			fn(c)
		}
		caughtUp = caughtUp || c.ID == ""
	})
}

// A device that goes to another node with the end of a command is believed,
// though that node has not heard yet that the command was sent.
func TestAnEndIsTakenBeforeItsSendingWasHeardOf(t *testing.T) {
	t.Parallel()
	store := newStore(t, startNATS(t))
	a, b := startHub(t, "a", store), startHub(t, "b", &deafStore{store})
	id := b.send(commands.Request{Device: "d1"}).ID
	b.want(id, commands.Queued)
	v := newDevice("d1")
	v.do = only(delivered)
	a.connect(v)
	a.want(id, commands.Delivered)
	a.disconnect("d1")
	if final, err := b.d.Update(t.Context(), "d1", 1_000_000, word(id, succeeded)); err != nil || !final {
		t.Fatalf("final %v, %v", final, err)
	}
	a.want(id, commands.Succeeded)
}
