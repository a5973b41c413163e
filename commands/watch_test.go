package commands_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// A watcher hears of an end at once, and not of all that a quick command goes
// through before it.
func TestAWatcherIsSparedWhatIsOverAtOnce(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	h.connect(newDevice("d1"))
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan commands.Command, 1000)
	watching := make(chan error, 1)
	go func() {
		watching <- h.d.Watch(ctx, commands.WatchFilter{Device: "d1"}, func(c commands.Command) error {
			heard <- c
			return nil
		})
	}()
	eventually(t, "the watcher watches", func() bool {
		h.send(commands.Request{Device: "d1"})
		return len(heard) > 0
	})
	all := map[string][]commands.State{}
	const n = 20
	for range n {
		c := h.send(commands.Request{Device: "d1"})
		for ended := false; !ended; {
			select {
			case c2 := <-heard:
				all[c2.ID] = append(all[c2.ID], c2.State)
				ended = c2.ID == c.ID && c2.State.Ended()
			case <-time.After(2 * time.Minute):
				t.Fatal("the watcher does not hear of an end")
			}
		}
	}
	told := 0
	for _, states := range all {
		told += len(states)
	}
	if told >= 3*len(all) { // those before are among them, and as quick
		t.Errorf("told %d times of %d commands", told, len(all))
	}
	cancel()
	if err := <-watching; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What comes to no end is told as well.
func TestAWatcherHearsOfWhatGoesOn(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	c := h.send(commands.Request{Device: "d1"})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	v := newDevice("d1")
	v.do = only(delivered, running)
	var told []commands.State
	over := errors.New("over")
	err := h.d.Watch(ctx, commands.WatchFilter{ID: c.ID}, func(c commands.Command) error {
		if told = append(told, c.State); len(told) == 1 {
			h.connect(v)
		}
		if c.State == commands.Running {
			return over
		}
		return nil
	})
	wantError(t, err, over)
	if told[0] != commands.Queued {
		t.Errorf("told %v", told)
	}
}

// What the device has said is told when it is heard, and not again when it
// comes to disk.
func TestAWatcherHearsOfAStateOnce(t *testing.T) {
	t.Parallel()
	store := newStore(t, startNATS(t))
	h := startHub(t, "a", store)
	v := newDevice("d1")
	v.do = only(delivered, running)
	c := h.send(commands.Request{Device: "d1"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last commands.Command
	n := 0
	err := h.d.Watch(ctx, commands.WatchFilter{ID: c.ID}, func(c commands.Command) error {
		if n++; n == 1 {
			h.connect(v)
		} else if c.State == last.State && c.Reason == last.Reason && c.Updated.Equal(last.Updated) {
			t.Errorf("told twice of %s (%s)", c.State, c.Reason)
		}
		if c.State == commands.Running && last.State != commands.Running {
			go func() {
				eventually(t, "it is on disk", func() bool {
					stored, err := store.Command(ctx, c.ID)
					return err == nil && stored.State == commands.Running
				})
				v.say(word(c.ID, succeeded))
			}()
		}
		last = c
		return nil
	})
	if err != nil || last.State != commands.Succeeded {
		t.Errorf("%v, last told %s", err, last.State)
	}
}
