package commands_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// Commands end in another order than they were accepted in, some never; a
// listing is by acceptance all the same, in pages of any size.
func TestListIsNewestFirstWhateverEndedWhen(t *testing.T) {
	t.Parallel()
	h := startHub(t, "a", newStore(t, startNATS(t)))
	ctx := context.Background()
	random := rand.New(rand.NewPCG(1, 2))
	var all, open []string
	for i := range 150 {
		id := h.send(commands.Request{Device: fmt.Sprint("d", i%7), Key: fmt.Sprintf("c.%03d", i), Operator: "ann"}).ID
		all, open = append(all, id), append(open, id)
		for len(open) > 5 && random.IntN(3) > 0 {
			k := random.IntN(len(open))
			if _, err := h.d.Cancel(ctx, open[k], ""); err != nil {
				t.Fatal(err)
			}
			open = slices.Delete(open, k, k+1)
		}
	}
	slices.Reverse(all)
	for _, size := range []int{9, 100, 1000} {
		var got []string
		for token, first := "", true; first || token != ""; first = false {
			page, next, err := h.d.List(ctx, commands.Filter{}, commands.Page{Size: size, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page {
				got = append(got, c.ID)
			}
			token = next
		}
		if !slices.Equal(got, all) {
			t.Errorf("pages of %d: %d commands\n%v", size, len(got), got)
		}
	}
	filters := map[string]struct {
		f    commands.Filter
		want int
	}{
		"device":    {commands.Filter{Device: "d3"}, 21},
		"allowed":   {commands.Filter{Match: func(d string) bool { return d == "d1" || d == "d2" }}, 44},
		"name":      {commands.Filter{Name: "other"}, 0},
		"canceled":  {commands.Filter{States: []commands.State{commands.Canceled}}, 150 - len(open)},
		"pending":   {commands.Filter{States: []commands.State{commands.Queued, commands.Sent}}, len(open)},
		"two kinds": {commands.Filter{States: []commands.State{commands.Queued, commands.Canceled}}, 150},
	}
	for name, c := range filters {
		n := 0
		for token, first := "", true; first || token != ""; first = false {
			page, next, err := h.d.List(ctx, c.f, commands.Page{Size: 10, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			n += len(page)
			token = next
		}
		if n != c.want {
			t.Errorf("%s: %d commands, want %d", name, n, c.want)
		}
	}
	_, _, err := h.d.List(ctx, commands.Filter{}, commands.Page{Token: "?"})
	wantError(t, err, commands.ErrBadPageToken)
	_, _, err = h.d.List(ctx, commands.Filter{}, commands.Page{Size: 1001})
	wantError(t, err, commands.ErrInvalid)
}

// What ends between two pages is neither left out nor shown twice.
func TestListWhileCommandsEnd(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	ctx := context.Background()
	var ids []string
	for i := range 60 {
		ids = append(ids, h.send(commands.Request{Device: fmt.Sprint("d", i%5)}).ID)
	}
	var got []string
	for token, first := "", true; first || token != ""; first = false {
		page, next, err := h.d.List(ctx, commands.Filter{}, commands.Page{Size: 7, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page {
			got = append(got, c.ID)
		}
		token = next
		for range 8 {
			if len(ids)-len(got) > 0 {
				_, _ = h.d.Cancel(ctx, ids[rand.IntN(len(ids)-len(got))], "")
			}
		}
	}
	slices.Reverse(got)
	if !slices.Equal(got, ids) {
		t.Errorf("%d of %d\n%v", len(got), len(ids), got)
	}
}

func TestWatch(t *testing.T) {
	nats := startNATS(t)
	a, b := startHub(t, "a", newStore(t, nats)), startHub(t, "b", newStore(t, nats))
	v := newDevice("d1")
	a.connect(v)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	enough := errors.New("enough")
	byDevice := make(chan error, 1)
	ended := make(chan string, 10)
	go func() {
		byDevice <- b.d.Watch(ctx, commands.WatchFilter{Device: "d1"}, func(c commands.Command) error {
			if c.Device != "d1" {
				t.Errorf("a command of %s", c.Device)
			}
			if c.State.Ended() {
				ended <- c.ID
				return enough
			}
			return nil
		})
	}()
	// Another node's watch begins some time after; commands go on until then.
	var last string
	eventually(t, "seen by the other node", func() bool {
		a.send(commands.Request{Device: "d2", Spec: commands.Spec{TTL: time.Second}})
		last = a.send(commands.Request{Device: "d1"}).ID
		a.want(last, commands.Succeeded)
		return len(ended) > 0
	})
	wantError(t, <-byDevice, enough)
	last = <-ended // of the end of another that node may not know yet

	// By id: first as it stands, and the end of the stream after the end.
	var seen []commands.State
	err := b.d.Watch(ctx, commands.WatchFilter{ID: last}, func(c commands.Command) error {
		seen = append(seen, c.State)
		return nil
	})
	if err != nil || !slices.Equal(seen, []commands.State{commands.Succeeded}) {
		t.Errorf("an ended one: %v %v", seen, err)
	}
	err = a.d.Watch(ctx, commands.WatchFilter{ID: last, Match: func(string) bool { return false }}, nil)
	wantError(t, err, commands.ErrNotFound)
	err = a.d.Watch(ctx, commands.WatchFilter{ID: "none"}, nil)
	wantError(t, err, commands.ErrNotFound)

	stopped := make(chan error, 1)
	go func() {
		stopped <- a.d.Watch(ctx, commands.WatchFilter{}, func(commands.Command) error { return nil })
	}()
	a.stop()
	wantError(t, <-stopped, commands.ErrClosed)
	_, _, err = a.d.Send(ctx, commands.Request{Device: "d1", Spec: commands.Spec{Name: "x"}})
	wantError(t, err, commands.ErrClosed)
}
