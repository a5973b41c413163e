package jsstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetherline/tetherline/commands"
)

// A server that is killed reads its blocks again and forgets which records
// were replaced. What had ended and made room stays away then, and what lives
// on is all there, as it was.
func TestWhatMadeRoomDoesNotComeBackWithAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newStore(t, Config{Conn: startNode(t, dir).Conn(), MaxBytes: MinMaxBytes, Sole: true})
	s.cfg.MaxBytes = 2 * fewBytes
	f := follow(t, s)
	defer func() { f.stop() }()
	lives := func(i int) bool { return i%50 == 3 }
	for i := range 1000 {
		c := aLargeCommand(fmt.Sprint("c-", i), commands.Sent)
		soon(t, func() error { return s.Create(t.Context(), c) })
		if !lives(i) {
			c.State = commands.Succeeded
			soon(t, func() error { return updateMoved(t, s, c) })
		}
		if i%100 != 99 || s.Usage().Dropped == 0 {
			continue
		}
		// What is on disk now is what a kill leaves. Where an older revision
		// stands in a block of its own, and so could come back, is up to
		// the moment.
		f.stop()
		killed := filepath.Join(t.TempDir(), "killed")
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		wantAfterKill(t, killed, i+1, lives)
		f = follow(t, s)
	}
	if u := s.Usage(); u.Dropped < 100 {
		t.Errorf("%+v", u)
	}
}

// updateMoved updates a record, which may have been moved up.
func updateMoved(t *testing.T, s *Store, c *commands.Command) error {
	for {
		err := s.Update(t.Context(), c)
		if !errors.Is(err, commands.ErrStale) {
			return err
		}
		now, err := s.Command(t.Context(), c.ID)
		if err != nil {
			return err
		}
		c.Revision = now.Revision // it may have been moved again by now
	}
}

func wantAfterKill(t *testing.T, dir string, count int, lives func(i int) bool) {
	t.Helper()
	s := newStore(t, Config{Conn: startNode(t, dir).Conn(), MaxBytes: MinMaxBytes, Sole: true})
	f := follow(t, s)
	defer f.stop()
	live := 0
	for i := range count {
		now, err := s.Command(t.Context(), fmt.Sprint("c-", i))
		switch {
		case lives(i):
			live++
			if err != nil || now.State != commands.Sent {
				t.Errorf("of %d: c-%d, which lives on: %v, %v", count, i, now, err)
			}
		case errors.Is(err, commands.ErrNotFound):
		case err != nil || now.State != commands.Succeeded:
			t.Errorf("of %d: c-%d, which had ended: %v, %v", count, i, now, err)
		}
	}
	if u := s.Usage(); u.Live != live {
		t.Errorf("of %d: %d live; want %d", count, u.Live, live)
	}
}

// A stream that lost its end, with a server that does not sync, gives
// sequences below the floor again: what has them is new, and stays.
func TestAFloorAboveTheStreamIsForgotten(t *testing.T) {
	t.Parallel()
	cfg := Config{Conn: startNode(t, t.TempDir()).Conn(), Sole: true}
	s := newStore(t, cfg)
	wantCreate(t, s, aCommand("old", "d", commands.Queued))
	if err := s.raiseFloor(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	s = newStore(t, cfg)
	wantCreate(t, s, aCommand("new", "d", commands.Queued))
	s = newStore(t, cfg)
	for _, id := range []string{"old", "new"} {
		if _, err := s.Command(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
