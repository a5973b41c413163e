package commands_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tetherline/tetherline/commands"
)

// failingStore answers Create with an error.
type failingStore struct {
	commands.Store
	err error
}

func (s *failingStore) Create(context.Context, *commands.Command) error { return s.err }

// witness takes down what it is told, and is done when release is closed.
type witness struct {
	seen    []commands.Command
	called  chan struct{}
	release chan struct{}
}

func newWitness() *witness {
	return &witness{called: make(chan struct{}, 1), release: make(chan struct{})}
}

func (w *witness) request(device string) commands.Request {
	return commands.Request{Device: device, Spec: commands.Spec{Name: "set-relay"}, Witness: func(c commands.Command) func() {
		w.seen = append(w.seen, c)
		w.called <- struct{}{}
		return func() { <-w.release }
	}}
}

// The store and the witness write at the same time; nothing leaves before
// both have written.
func TestACommandGoesOutWhenItIsWitnessed(t *testing.T) {
	store := newStore(t, startNATS(t))
	h := startHub(t, "a", store)
	v := newDevice("d1")
	h.connect(v)
	w := newWitness()
	sent := make(chan commands.Command, 1)
	go func() {
		c, _, err := h.d.Send(context.Background(), w.request("d1"))
		if err != nil {
			t.Error(err)
		}
		sent <- c
	}()
	<-w.called
	eventually(t, "the command is stored though the witness is not done", func() bool {
		c, err := store.Command(t.Context(), w.seen[0].ID)
		return err == nil && c.State == commands.Sent
	})
	if got := v.got(); len(got) != 0 {
		t.Errorf("the device got %v before the witness was done", got)
	}
	select {
	case <-sent:
		t.Error("Send has returned before the witness was done")
	default:
	}
	close(w.release)
	c := <-sent
	h.want(c.ID, commands.Succeeded)
	if len(w.seen) != 1 || w.seen[0].ID != c.ID || v.runs(c.ID) != 1 {
		t.Errorf("%d witnessed, ran %d times", len(w.seen), v.runs(c.ID))
	}
}

// What is canceled, or over, while it is being witnessed does not go out.
func TestACommandIsCanceledWhileItIsWitnessed(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	h.connect(v)
	w := newWitness()
	done := make(chan error, 1)
	go func() {
		_, _, err := h.d.Send(context.Background(), w.request("d1"))
		done <- err
	}()
	<-w.called
	id := w.seen[0].ID
	eventually(t, "canceled", func() bool {
		_, err := h.d.Cancel(t.Context(), id, "ann")
		return err == nil
	})
	close(w.release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c := h.want(id, commands.Canceled)
	if v.runs(id) != 0 || slices.Contains(v.got(), id) {
		t.Errorf("ran %d times, the device got %v:\n%s", v.runs(id), v.got(), story(c))
	}
}

func TestACommandIsOverWhileItIsWitnessed(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	h.connect(v)
	w := newWitness()
	r := w.request("d1")
	r.Spec.TTL = commands.MinTTL
	done := make(chan error, 1)
	go func() {
		_, _, err := h.d.Send(context.Background(), r)
		done <- err
	}()
	<-w.called
	id := w.seen[0].ID
	eventually(t, "expired", func() bool {
		c, _, err := h.d.Get(t.Context(), id)
		return err == nil && c.State == commands.Expired
	})
	close(w.release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if v.runs(id) != 0 || len(v.got()) != 0 {
		t.Errorf("ran %d times, the device got %v", v.runs(id), v.got())
	}
}

// The witness hears of what is accepted, once, and of nothing else.
func TestOnlyWhatIsAcceptedIsWitnessed(t *testing.T) {
	store := newStore(t, startNATS(t))
	h := startHub(t, "a", store, func(c *commands.Config) {
		c.Devices, c.MaxPending = &devices{unknown: []string{"nobody"}}, 1
	})
	w := newWitness()
	close(w.release)
	send := func(device, key string) error {
		r := w.request(device)
		r.Key = key
		_, _, err := h.d.Send(t.Context(), r)
		return err
	}
	if err := send("d1", "k"); err != nil || len(w.seen) != 1 {
		t.Fatalf("%v, %d witnessed", err, len(w.seen))
	}
	<-w.called
	if err := send("d1", "k"); err != nil {
		t.Errorf("the same again: %v", err)
	}
	wantError(t, send("d2", "k"), commands.ErrConflict)
	wantError(t, send("nobody", ""), commands.ErrUnknownDevice)
	wantError(t, send("d1", ""), commands.ErrTooManyPending)
	if len(w.seen) != 1 {
		t.Errorf("%d witnessed, want 1", len(w.seen))
	}
	broken := errors.New("broken")
	h = startHub(t, "b", &failingStore{store, broken})
	wantError(t, func() error { _, _, err := h.d.Send(t.Context(), w.request("d3")); return err }(), broken)
	if len(w.seen) != 2 {
		t.Errorf("%d witnessed, want 2: nothing spoke against the last one before the store failed", len(w.seen))
	}
}
