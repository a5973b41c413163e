package commands_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func TestResponseTimeoutAndLateResult(t *testing.T) {
	t.Parallel()
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	v.do = func(c *devicev1.Command) []*devicev1.CommandUpdate {
		at := word(c.GetId(), running)
		at.Message = "halfway"
		return []*devicev1.CommandUpdate{word(c.GetId(), delivered), at}
	}
	h.connect(v)
	id := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Timeout: soon}}).ID
	c := h.want(id, commands.TimedOut)
	if c.Message != "" || !slices.ContainsFunc(c.Events, func(e commands.Event) bool { return e.Message == "halfway" }) {
		t.Errorf("the answer is %q\n%s", c.Message, story(c))
	}
	if c.Confirmed || !strings.Contains(c.Reason, soon.String()) {
		t.Errorf("%q, confirmed %v", c.Reason, c.Confirmed)
	}
	late := word(id, succeeded)
	late.Result = &devicev1.CommandUpdate_Json{Json: `{"ok":1}`}
	v.say(late)
	c = h.want(id, commands.Succeeded)
	if !c.Confirmed || c.Result.JSON != `{"ok":1}` || !strings.Contains(c.Reason, "TIMED_OUT") {
		t.Errorf("%+v", c)
	}
	eventually(t, "acknowledged", func() bool { return len(v.reports()) == 0 })
	if s := h.d.Stats(); s.Late != 1 {
		t.Errorf("%d late", s.Late)
	}
}

func TestLateWordsAfterExpiry(t *testing.T) {
	t.Parallel()
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	v.deafen(true)
	h.connect(v)
	id := h.send(commands.Request{Device: "d1", Spec: commands.Spec{TTL: soon}}).ID
	h.want(id, commands.Expired)
	v.deafen(false)
	v.say(word(id, delivered))
	eventually(t, "the late delivery is in the story", func() bool {
		c, events, err := h.d.Get(context.Background(), id)
		return err == nil && c.State == commands.Expired && events[len(events)-1].State == commands.Delivered
	})
	v.say(word(id, running))
	v.say(word(id, failed))
	if c := h.want(id, commands.Failed); !strings.Contains(c.Reason, "EXPIRED") {
		t.Errorf("reason %q", c.Reason)
	}
	h.disconnect("d1")
	h.connect(v)
	if len(v.got()) != 0 {
		t.Errorf("an expired command was sent again: %v", v.got())
	}
}

func TestTheFirstEndOfTheDeviceStays(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	epoch := h.connect(v)
	id := h.send(commands.Request{Device: "d1"}).ID
	h.want(id, commands.Succeeded)
	for _, phase := range []devicev1.CommandPhase{succeeded, failed} {
		final, err := h.d.Update(context.Background(), "d1", epoch, word(id, phase))
		if !final || err != nil {
			t.Errorf("a second %s: %v, %v; want it acknowledged", phase, final, err)
		}
	}
	if c := h.want(id, commands.Succeeded); len(c.Events) != 4 {
		t.Errorf("story:\n%s", story(c))
	}
}

func TestADeviceSpeaksOnlyForItself(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	ctx := context.Background()
	v := newDevice("d1")
	v.do = only(delivered)
	h.connect(v)
	id := h.send(commands.Request{Device: "d1"}).ID
	h.want(id, commands.Delivered)
	for _, foreign := range []string{id, "no-such-id", "bad id *", ""} {
		final, err := h.d.Update(ctx, "d2", 1, word(foreign, succeeded))
		if !final || err != nil {
			t.Errorf("%q: %v, %v; want the same answer as for an unknown id", foreign, final, err)
		}
		if final, err := h.d.Update(ctx, "d2", 1, word(foreign, delivered)); final || err != nil {
			t.Errorf("%q delivered: %v, %v", foreign, final, err)
		}
	}
	h.want(id, commands.Delivered)

	// Of a command that has ended, as the hub has decided, a late word of its
	// own device would count.
	over := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Timeout: 100 * time.Millisecond}}).ID
	before := h.want(over, commands.TimedOut)
	for _, phase := range []devicev1.CommandPhase{delivered, running, failed, succeeded} {
		final, err := h.d.Update(ctx, "d2", 1, word(over, phase))
		if want := phase == failed || phase == succeeded; final != want || err != nil {
			t.Errorf("%s of what has ended: %v, %v", phase, final, err)
		}
	}
	after, events, err := h.d.Get(ctx, over)
	if after.Events = events; err != nil || after.State != commands.TimedOut || after.Confirmed || len(events) != len(before.Events) {
		t.Fatalf("another device's word counts: %s, confirmed %v, %v:\n%s", after.State, after.Confirmed, err, story(after))
	}
	if final, err := h.d.Update(ctx, "d1", 1, word(over, succeeded)); !final || err != nil {
		t.Errorf("its own device's word: %v, %v", final, err)
	}
	h.want(over, commands.Succeeded)
	queued := h.send(commands.Request{Device: "d3"}).ID
	claim := func(state commands.State) {
		t.Helper()
		_, err := h.d.Update(ctx, "d3", 1, word(queued, succeeded))
		var illegal *commands.TransitionError
		if !errors.As(err, &illegal) || !strings.Contains(err.Error(), state.String()) || !strings.Contains(err.Error(), "SUCCEEDED") {
			t.Errorf("an end of what was never sent: %v, want both states named", err)
		}
		h.want(queued, state)
	}
	claim(commands.Queued)
	if _, err := h.d.Cancel(ctx, queued, ""); err != nil {
		t.Fatal(err)
	}
	// It was perhaps sent by a hub whose data is lost: the word counts, and the
	// device need not repeat it for ever.
	if final, err := h.d.Update(ctx, "d3", 1, word(queued, succeeded)); !final || err != nil {
		t.Errorf("an end of what the hub had canceled: %v, %v", final, err)
	}
	if c := h.want(queued, commands.Succeeded); !strings.Contains(c.Reason, "ended it as CANCELED; this hub has no record of having sent it") {
		t.Errorf("reason %q", c.Reason)
	}
	if s := h.d.Stats(); s.Unknown != 12 {
		t.Errorf("%d unknown", s.Unknown)
	}
}

func TestCancelAtEveryStage(t *testing.T) {
	t.Parallel()
	h := startHub(t, "a", newStore(t, startNATS(t)))
	ctx := context.Background()

	t.Run("queued", func(t *testing.T) {
		id := h.send(commands.Request{Device: "q"}).ID
		c, err := h.d.Cancel(ctx, id, "ann")
		if err != nil || c.State != commands.Canceled || !strings.Contains(c.Reason, "ann") {
			t.Errorf("%s %q %v", c.State, c.Reason, err)
		}
		v := newDevice("q")
		h.connect(v)
		h.want(h.send(commands.Request{Device: "q"}).ID, commands.Succeeded)
		if v.runs(id) != 0 {
			t.Error("a canceled command was sent")
		}
	})
	t.Run("sent, and the device comes back", func(t *testing.T) {
		v := newDevice("s")
		v.deafen(true)
		h.connect(v)
		id := h.send(commands.Request{Device: "s"}).ID
		h.disconnect("s")
		c, err := h.d.Cancel(ctx, id, "ann")
		if err != nil || c.State != commands.Sent || !c.CancelRequested {
			t.Errorf("%s %v %v", c.State, c.CancelRequested, err)
		}
		v.deafen(false)
		h.connect(v)
		c = h.want(id, commands.Canceled)
		if v.runs(id) != 0 || !c.Confirmed || c.Attempts != 1 {
			t.Errorf("ran %d times, confirmed %v, %d attempts", v.runs(id), c.Confirmed, c.Attempts)
		}
	})
	t.Run("sent, and the device stays away", func(t *testing.T) {
		v := newDevice("s2")
		v.deafen(true)
		h.connect(v)
		id := h.send(commands.Request{Device: "s2", Spec: commands.Spec{TTL: soon}}).ID
		h.disconnect("s2")
		if _, err := h.d.Cancel(ctx, id, ""); err != nil {
			t.Error(err)
		}
		if c := h.want(id, commands.Expired); !strings.Contains(c.Reason, "cancellation") {
			t.Errorf("reason %q", c.Reason)
		}
	})
	t.Run("running", func(t *testing.T) {
		v := newDevice("r")
		v.do = only(delivered, running)
		h.connect(v)
		id := h.send(commands.Request{Device: "r"}).ID
		h.want(id, commands.Running)
		for range 2 {
			if _, err := h.d.Cancel(ctx, id, "ann"); err != nil {
				wantError(t, err, commands.ErrEnded)
			}
		}
		c := h.want(id, commands.Canceled)
		if !c.Confirmed || len(v.canceled) == 0 {
			t.Errorf("confirmed %v, told %v", c.Confirmed, v.canceled)
		}
	})
	t.Run("running, and cannot stop", func(t *testing.T) {
		v := newDevice("r2")
		v.do = only(delivered, running)
		h.connect(v)
		id := h.send(commands.Request{Device: "r2"}).ID
		h.want(id, commands.Running)
		v.say(word(id, succeeded))
		h.want(id, commands.Succeeded)
		_, err := h.d.Cancel(ctx, id, "ann")
		wantError(t, err, commands.ErrEnded)
	})
	t.Run("unknown", func(t *testing.T) {
		_, err := h.d.Cancel(ctx, "nothing", "ann")
		wantError(t, err, commands.ErrNotFound)
		_, err = h.d.Cancel(ctx, "no id *", "ann")
		wantError(t, err, commands.ErrNotFound)
	})
	t.Run("of a device", func(t *testing.T) {
		for range 3 {
			h.send(commands.Request{Device: "gone"})
		}
		if n, err := h.d.CancelDevice(ctx, "gone", "ann"); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}

func TestCancelReachesTheNodeThatHoldsTheSession(t *testing.T) {
	nats := startNATS(t)
	a, b := startHub(t, "a", newStore(t, nats)), startHub(t, "b", newStore(t, nats))
	v := newDevice("d1")
	v.do = only(delivered, running)
	a.connect(v)
	id := b.send(commands.Request{Device: "d1"}).ID
	b.want(id, commands.Running)
	if _, err := b.d.Cancel(context.Background(), id, "ann"); err != nil {
		t.Fatal(err)
	}
	b.want(id, commands.Canceled)
}

func TestLatestWins(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	interval := commands.Spec{Name: "set-interval", Replay: commands.LatestWins}
	first := h.send(commands.Request{Device: "d1", Spec: interval})
	other := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Name: "identify", Replay: commands.LatestWins}})
	plain := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Name: "set-interval"}})
	second := h.send(commands.Request{Device: "d1", Spec: interval})
	c := h.want(first.ID, commands.Canceled)
	if !strings.Contains(c.Reason, second.ID) {
		t.Errorf("reason %q does not name %s", c.Reason, second.ID)
	}
	v := newDevice("d1")
	h.connect(v)
	for _, c := range []commands.Command{other, plain, second} {
		h.want(c.ID, commands.Succeeded)
	}
	if v.runs(first.ID) != 0 {
		t.Error("the superseded command ran")
	}

	t.Run("sent on a session that is gone", func(t *testing.T) {
		v.deafen(true)
		lost := h.send(commands.Request{Device: "d1", Spec: interval})
		h.disconnect("d1")
		newer := h.send(commands.Request{Device: "d1", Spec: interval})
		c := h.want(lost.ID, commands.Canceled)
		if !strings.Contains(c.Reason, newer.ID) || !strings.Contains(c.Reason, "may have reached") {
			t.Errorf("reason %q", c.Reason)
		}
		v.deafen(false)
		h.connect(v)
		h.want(newer.ID, commands.Succeeded)
		v.say(word(lost.ID, succeeded)) // it had reached the device
		h.want(lost.ID, commands.Succeeded)
	})
	t.Run("at the limit", func(t *testing.T) {
		for range commands.DefaultMaxPending - 1 {
			h.send(commands.Request{Device: "full"})
		}
		for range 3 {
			h.send(commands.Request{Device: "full", Spec: interval})
		}
		_, _, err := h.d.Send(context.Background(), commands.Request{Device: "full", Spec: commands.Spec{Name: "x"}})
		wantError(t, err, commands.ErrTooManyPending)
	})
}

func TestResultsAreBounded(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	h.connect(v)
	answer := func(u *devicev1.CommandUpdate) commands.Command {
		t.Helper()
		v.mu.Lock()
		v.do = func(c *devicev1.Command) []*devicev1.CommandUpdate {
			u.Id = c.GetId()
			return []*devicev1.CommandUpdate{u}
		}
		v.mu.Unlock()
		id := h.send(commands.Request{Device: "d1"}).ID
		return h.want(id, commands.Failed)
	}
	c := answer(&devicev1.CommandUpdate{
		Phase: failed, Code: 99, Message: strings.Repeat("ä", 2000),
		Result: &devicev1.CommandUpdate_Protobuf{Protobuf: make([]byte, commands.MaxPayloadBytes+1)},
	})
	if len(c.Result.Protobuf) != 0 || len(c.Message) > commands.MaxMessageBytes || !strings.Contains(c.Message, "16385 bytes") || !strings.Contains(c.Message, "code 99") || c.Code != 2 {
		t.Errorf("%d bytes, code %d, message of %d bytes", len(c.Result.Protobuf), c.Code, len(c.Message))
	}
	c = answer(&devicev1.CommandUpdate{Phase: failed, Code: 5, Message: "no", Result: &devicev1.CommandUpdate_Json{Json: "{"}})
	if string(c.Result.Protobuf) != "{" || c.Result.JSON != "" || !strings.HasPrefix(c.Message, "no [hub:") || c.Code != 5 {
		t.Errorf("%+v %q", c.Result, c.Message)
	}
	if _, err := h.d.Update(context.Background(), "d1", 1, word(c.ID, 77)); err == nil {
		t.Error("an unknown phase is accepted")
	}
}

func TestProgressIsBoundedAndSeen(t *testing.T) {
	store := newStore(t, startNATS(t))
	h := startHub(t, "a", store)
	v := newDevice("d1")
	v.do = only(delivered)
	h.connect(v)
	id := h.send(commands.Request{Device: "d1"}).ID
	h.want(id, commands.Delivered)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var seen []uint32
	watching, watched := make(chan struct{}), make(chan error, 1)
	go func() {
		watched <- h.d.Watch(ctx, commands.WatchFilter{ID: id}, func(c commands.Command) error {
			if seen = append(seen, c.Progress); len(seen) == 1 {
				close(watching)
			}
			return nil
		})
	}()
	select {
	case <-watching:
	case err := <-watched:
		t.Fatalf("the watch tells nothing: %v", err)
	}
	for i := range 300 {
		u := word(id, running)
		u.ProgressPercent = uint32(i % 101)
		v.say(u)
	}
	v.say(word(id, succeeded))
	if err := <-watched; err != nil {
		t.Fatal(err)
	}
	c := h.want(id, commands.Succeeded)
	if len(c.Events) > commands.MaxEvents || c.Elided == 0 {
		t.Errorf("%d events, %d elided", len(c.Events), c.Elided)
	}
	got := states(c)
	if got[0] != commands.Queued || got[1] != commands.Sent || got[2] != commands.Delivered || got[len(got)-1] != commands.Succeeded {
		t.Errorf("story:\n%s", story(c))
	}
	if len(seen) < 2 || seen[len(seen)-1] != 100 {
		t.Errorf("watched %v", seen)
	}
}

// soon is long enough for what a test does before a deadline, on a machine that
// is busy.
const soon = 5 * time.Second

func TestDeadlinesOfAnotherNodeAreTakenOver(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	a := startHub(t, "a", newStore(t, nats))
	v := newDevice("d1")
	v.do = only(delivered)
	a.connect(v)
	expiring := a.send(commands.Request{Device: "off", Spec: commands.Spec{TTL: soon}}).ID
	timing := a.send(commands.Request{Device: "d1", Spec: commands.Spec{Timeout: soon}}).ID
	a.want(timing, commands.Delivered)
	a.stop() // and does not come back
	b := startHub(t, "b", newStore(t, nats))
	c := b.want(expiring, commands.Expired)
	if last := c.Events[len(c.Events)-1]; last.Node != "b" {
		t.Errorf("ended by %s", last.Node)
	}
	b.want(timing, commands.TimedOut)
}

func TestOneEndWithTwoNodesAtTheSameDeadline(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	a, b := startHub(t, "a", newStore(t, nats)), startHub(t, "b", newStore(t, nats))
	var ids []string
	for range 40 {
		ids = append(ids, a.send(commands.Request{Device: "off", Spec: commands.Spec{TTL: time.Second}}).ID)
	}
	for _, id := range ids {
		c := a.want(id, commands.Expired)
		if b.want(id, commands.Expired); len(c.Events) != 2 {
			t.Errorf("story:\n%s", story(c))
		}
	}
}

func TestDeadlinesSurviveARestart(t *testing.T) {
	t.Parallel()
	store := newStore(t, startNATS(t))
	h := startHub(t, "a", store)
	v := newDevice("d1")
	v.do = only(delivered)
	h.connect(v)
	timing := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Timeout: soon}}).ID
	expiring := h.send(commands.Request{Device: "off", Spec: commands.Spec{TTL: time.Second}}).ID
	h.want(timing, commands.Delivered)
	v.deafen(true)
	once := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Replay: commands.Once, Timeout: time.Second}}).ID
	h.stop()
	h = startHub(t, "a", store)
	h.want(timing, commands.TimedOut)
	h.want(expiring, commands.Expired)
	if c := h.want(once, commands.TimedOut); !strings.Contains(c.Reason, "not resent") {
		t.Errorf("reason %q", c.Reason)
	}
}
