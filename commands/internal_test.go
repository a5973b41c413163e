package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Every pair of states, by either party: legal here or an error that names
// both.
func TestTransitionTable(t *testing.T) {
	legal := map[string]bool{}
	add := func(by Party, from State, to ...State) {
		for _, s := range to {
			legal[by.String()+from.String()+s.String()] = true
		}
	}
	add(ByHub, Queued, Sent, Expired, Canceled)
	add(ByHub, Sent, Queued, Sent, TimedOut, Expired, Canceled)
	add(ByHub, Delivered, TimedOut, Canceled)
	add(ByHub, Running, TimedOut, Canceled)
	add(ByDevice, Sent, Delivered, Running, Succeeded, Failed, Rejected, Canceled)
	add(ByDevice, Delivered, Running, Succeeded, Failed, Rejected, Canceled)
	add(ByDevice, Running, Running, Succeeded, Failed, Rejected, Canceled)
	for _, s := range []State{TimedOut, Expired, Canceled} {
		add(ByDevice, s, Succeeded, Failed, Rejected, Canceled)
	}
	n := 0
	for _, from := range States() {
		for _, to := range States() {
			for _, by := range []Party{ByHub, ByDevice} {
				err := CheckTransition(from, to, by)
				if want := legal[by.String()+from.String()+to.String()]; want != (err == nil) {
					t.Errorf("%s to %s by the %s: %v, want legal %v", from, to, by, err, want)
				}
				if err == nil {
					n++
					continue
				}
				var illegal *TransitionError
				if !errors.As(err, &illegal) || !strings.Contains(err.Error(), from.String()) || !strings.Contains(err.Error(), to.String()) {
					t.Errorf("%q does not name %s and %s", err, from, to)
				}
			}
		}
	}
	if n != len(legal) {
		t.Errorf("%d legal transitions, want %d", n, len(legal))
	}
	if len(transitions) != len(States()) {
		t.Errorf("%d states in the table, want %d", len(transitions), len(States()))
	}
}

// Nothing leads out of an end that the device has reported.
func TestAConfirmedEndIsFinal(t *testing.T) {
	for _, end := range States() {
		if !end.Ended() {
			continue
		}
		c := &Command{ID: "x", State: end, Confirmed: true, Attempts: 1, DeliveredAt: time.Now()}
		for _, to := range States() {
			if to == Queued || to == TimedOut || to == Expired {
				continue
			}
			n, err := c.hear(word{state: to})
			if n != nil && n != c {
				t.Errorf("%s gives way to %s", end, to)
			}
			if to.Ended() && to != end && err == nil {
				t.Errorf("%s after %s is no error", to, end)
			}
		}
	}
}

func TestNamesOfStatesAndReplayClasses(t *testing.T) {
	for _, s := range States() {
		b, err := json.Marshal(s)
		var back State
		if err != nil || json.Unmarshal(b, &back) != nil || back != s {
			t.Errorf("%s: %s %v", s, b, err)
		}
	}
	for _, r := range []Replay{UntilDelivered, Once, LatestWins} {
		b, err := json.Marshal(r)
		var back Replay
		if err != nil || json.Unmarshal(b, &back) != nil || back != r {
			t.Errorf("%s: %s %v", r, b, err)
		}
	}
	if _, err := json.Marshal(State(0)); err == nil {
		t.Error("no state has a name")
	}
	if _, err := ParseState(""); err == nil {
		t.Error(`"" is a state`)
	}
	if _, err := ParseState("DONE"); err == nil {
		t.Error("DONE is a state")
	}
}

func TestStoriesStayBounded(t *testing.T) {
	now := time.Now()
	c := newCommand("x", &Request{Device: "d", Spec: Spec{Name: "x", TTL: time.Hour}}, "", "a", now)
	for i := range 3 * MaxEvents {
		n, err := c.sent(at{time: now, node: "a", epoch: uint64(i + 1)})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			c = n
			continue
		}
		n.Attempts = 1
		if c, err = n.unsent(at{time: now, node: "a"}, noSessionLeft); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.Events) != MaxEvents || c.Elided == 0 || c.Events[0].Reason != "accepted" {
		t.Errorf("%d events, %d elided, first %q", len(c.Events), c.Elided, c.Events[0].Reason)
	}
}

// A Command that was handed out never changes, also where two steps begin
// from the same one.
func TestStepsDoNotShareEvents(t *testing.T) {
	c := newCommand("x", &Request{Device: "d", Spec: Spec{Name: "x"}}, "", "a", time.Now())
	a, _ := c.sent(at{epoch: 1})
	b, _ := c.cancel(at{}, "ann")
	if len(c.Events) != 1 || a.Events[1].State != Sent || b.Events[1].State != Canceled {
		t.Errorf("%v %v %v", c.Events, a.Events, b.Events)
	}
}

func TestChildIDs(t *testing.T) {
	seen := map[string]bool{}
	for _, group := range []string{"g", "0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee", strings.Repeat("x", 64), strings.Repeat("x", 63) + "y"} {
		for _, device := range []string{"a", "b", strings.Repeat("d", 64)} {
			id := childID(group, device)
			if err := CheckKey(id); err != nil {
				t.Errorf("%q: %v", id, err)
			}
			if seen[id] || id != childID(group, device) {
				t.Errorf("%q is not the one id of %s in %s", id, device, group)
			}
			seen[id] = true
		}
	}
}

func TestGroupsStopAtTheirShare(t *testing.T) {
	for _, c := range []struct {
		total, failed, succeeded int
		share                    float64
		want                     bool
	}{
		{100, 1, 0, 0, false}, {100, 1, 0, 0.3, false}, {100, 3, 0, 0.3, true}, {100, 1, 0, 0.001, true},
		{100, 20, 80, 0.3, false}, {3, 1, 0, 0.5, false}, {3, 2, 0, 0.5, true}, {100, 10, 0, 1, true}, {100, 9, 0, 1, false},
	} {
		g := &Group{Total: c.total, StopAt: c.share, ByState: map[State]int{Failed: c.failed, Succeeded: c.succeeded, Sent: 5}}
		if _, got := g.tooManyFailed(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestCursors(t *testing.T) {
	now := time.Now().UTC()
	for _, k := range []cursor{{last: now, id: "a.b:c", top: 7, high: 9}, {top: 7, high: 3}} {
		got, err := parseCursor(k.String())
		if err != nil || !got.last.Equal(k.last) || got.id != k.id || got.top != k.top || got.high != k.high {
			t.Errorf("%+v: %+v %v", k, got, err)
		}
	}
	for _, bad := range []string{"x", "!", "MSAx"} {
		if _, err := parseCursor(bad); !errors.Is(err, ErrBadPageToken) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestASlowWatcherIsTold(t *testing.T) {
	w := &watcher{latest: map[string]*Command{}, more: make(chan struct{}, 1)}
	for range 3 {
		for i := range maxBehind {
			w.put(&Command{ID: fmt.Sprint(i), State: Sent}) // the same ones take no more room
		}
	}
	if c, err := w.next(context.Background()); err != nil || c.ID != "0" {
		t.Fatalf("%v %v", c, err)
	}
	w.put(&Command{ID: "0", State: Failed})
	w.put(&Command{ID: "one more"})
	if _, err := w.next(context.Background()); !errors.Is(err, ErrSlowWatcher) {
		t.Errorf("%v, want ErrSlowWatcher", err)
	}
}

// What its sender knows not to have left was never sent, however often it was
// handed to the sender.
func TestExpireOfWhatNeverLeft(t *testing.T) {
	c := newCommand("x", &Request{Device: "d", Spec: Spec{Name: "x", TTL: time.Hour}}, "", "a", time.Now())
	for range 2 {
		var err error
		if c, err = c.sent(at{node: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	for unsent, want := range map[string]string{"it waited": "it was never sent", "": "it may have reached the device"} {
		e, err := c.expire(at{node: "a"}, unsent, "")
		if err != nil || e.State != Expired || !strings.Contains(e.Reason, want) || (e.Attempts == 0) != (unsent != "") {
			t.Errorf("%q, %d attempts, %v; want %q", e.Reason, e.Attempts, err, want)
		}
	}
}
