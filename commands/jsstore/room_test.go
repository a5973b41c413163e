package jsstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// fewBytes is less than a Config may have: each record costs an fsync.
const fewBytes = 4 << 20

func aLargeCommand(id string, state commands.State) *commands.Command {
	c := aCommand(id, "d", state)
	c.Spec.Payload.JSON = `{"x":"` + strings.Repeat("x", 15<<10) + `"}`
	return c
}

// soon writes. Which commands have ended, and make room, is known when the
// follower has heard of it, and here there is little room until then.
func soon(t *testing.T, write func() error) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := write()
		if err == nil {
			return
		}
		if !errors.Is(err, commands.ErrFull) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// The oldest ended commands make room for new ones, whatever lives on among
// them.
func TestHistoryMakesRoomForNewCommands(t *testing.T) {
	t.Parallel()
	for _, sole := range []bool{true, false} {
		t.Run(fmt.Sprintf("sole %v", sole), func(t *testing.T) {
			t.Parallel()
			s := newStore(t, Config{MaxBytes: MinMaxBytes, Sole: sole})
			f := follow(t, s)
			defer f.stop()
			makesRoom(t, s, func(c *commands.Command) { soon(t, func() error { return s.Create(t.Context(), c) }) })
		})
	}
}

// makesRoom fills a store that is followed, and looks what it has dropped.
func makesRoom(t *testing.T, s *Store, create func(c *commands.Command)) {
	s.cfg.MaxBytes = fewBytes
	live := []string{"live-0"}
	create(aLargeCommand("live-0", commands.Sent))
	const count = 400 // half as many fit
	for i := range count {
		create(aLargeCommand(fmt.Sprint("ended-", i), commands.Succeeded))
		if i%100 == 17 {
			id := fmt.Sprint("live-", i)
			create(aLargeCommand(id, commands.Queued))
			live = append(live, id)
		}
	}
	for _, id := range append(live, fmt.Sprint("ended-", count-1), fmt.Sprint("ended-", count-60)) {
		if _, err := s.Command(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := s.Command(t.Context(), "ended-0"); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("the oldest ended command: %v, want ErrNotFound", err)
	}
	// Its key may be used again.
	create(aLargeCommand("ended-0", commands.Queued))
	if u := s.Usage(); u.Dropped < count/4 || u.Dropped > count || u.MaxBytes != fewBytes || u.Bytes > fewBytes {
		t.Errorf("%+v", u)
	}
	soon(t, func() error {
		s.refused.Store(0) // of a moment in which the follower was behind
		if err := s.Check(); err != nil {
			return fmt.Errorf("%w: %w", commands.ErrFull, err)
		}
		return nil
	})
}

// Commands that have not ended are never dropped: where they fill the store it
// refuses new ones, says so, and still takes the end of each.
func TestAStoreFullOfLiveCommands(t *testing.T) {
	t.Parallel()
	s := newStore(t, Config{MaxBytes: MinMaxBytes, Sole: true})
	s.cfg.MaxBytes = fewBytes
	f := follow(t, s)
	defer f.stop()
	var live []*commands.Command
	for {
		c := aLargeCommand(fmt.Sprint("c", len(live)), commands.Queued)
		err := s.Create(t.Context(), c)
		if errors.Is(err, commands.ErrFull) {
			if !strings.Contains(err.Error(), "command-bytes") {
				t.Error(err)
			}
			break
		}
		if err != nil || len(live) > 2000 {
			t.Fatalf("%d accepted: %v", len(live), err)
		}
		live = append(live, c)
	}
	if u := s.Usage(); u.Dropped != 0 || len(live) < 100 {
		t.Errorf("%d accepted, %+v", len(live), u)
	}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "refuses new ones") {
		t.Errorf("Check: %v", err)
	}
	for _, c := range live {
		if _, err := s.Command(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
	}
	// Each grows on its way, and its end has a result of the same size.
	for _, c := range live {
		c.State = commands.Delivered
		for range 3 {
			c.Events = append(c.Events, commands.Event{Time: time.Now(), State: c.State, Reason: strings.Repeat("y", 100), Node: "n1"})
		}
		if err := s.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range live {
		c.State, c.Result = commands.Succeeded, c.Spec.Payload
		soon(t, func() error { return updateMoved(t, s, c) })
	}
	soon(t, func() error { return s.Create(t.Context(), aLargeCommand("next", commands.Queued)) })
	if s.Usage().Dropped == 0 {
		t.Error("nothing was dropped")
	}
}

// A shorter retention counts for what ended while it was longer.
func TestAShorterRetentionDropsWhatIsOlder(t *testing.T) {
	s := newStore(t, Config{})
	f := follow(t, s)
	defer f.stop()
	for i := range 40 {
		wantCreate(t, s, aCommand(fmt.Sprint("old-", i), "d", commands.Failed))
	}
	wantCreate(t, s, aCommand("live", "d", commands.Queued))
	wantCreate(t, s, aCommand("behind", "d", commands.Failed))
	border := time.Now()
	time.Sleep(2 * time.Millisecond)
	wantCreate(t, s, aCommand("new", "d", commands.Failed))
	for range 43 {
		<-f.changes
	}
	known := func(id string) bool {
		_, err := s.Command(t.Context(), id)
		return err == nil
	}
	for deadline := time.Now().Add(3 * time.Minute); known("old-0") || known("old-39") || known("behind"); {
		if err := s.dropAged(t.Context(), border); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("what is older than the retention stays")
		}
	}
	if !known("live") || !known("new") {
		t.Error("what has not ended, or not long ago, was dropped")
	}
}
