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
