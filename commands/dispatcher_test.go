package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func states(c commands.Command) []commands.State {
	var out []commands.State
	for _, e := range c.Events {
		out = append(out, e.State)
	}
	return out
}

func TestCommandToAnOnlineDeviceIsSentAtOnce(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	epoch := h.connect(v)
	c := h.send(commands.Request{Device: "d1", Operator: "ann"})
	if c.State != commands.Sent || c.Attempts != 1 || c.SentEpoch != epoch {
		t.Errorf("after Send: %s, attempt %d, session %d", c.State, c.Attempts, c.SentEpoch)
	}
	c = h.want(c.ID, commands.Succeeded)
	want := []commands.State{commands.Queued, commands.Sent, commands.Delivered, commands.Succeeded}
	if !slices.Equal(states(c), want) {
		t.Errorf("story:\n%s", story(c))
	}
	for _, e := range c.Events[1:] {
		if e.Node != "a" || e.Epoch != epoch || e.Attempt != 1 || e.Reason == "" {
			t.Errorf("event does not tell where: %+v", e)
		}
	}
	if !strings.Contains(c.Events[0].Reason, "ann") || !c.Confirmed || c.Ended.IsZero() {
		t.Errorf("%+v", c)
	}
	eventually(t, "acknowledged", func() bool { return len(v.reports()) == 0 })
	if h.d.Pending() != 0 {
		t.Errorf("%d pending", h.d.Pending())
	}
}

// thingsboard#7123: a command was shown delivered while the device was off.
func TestDeliveredOnlyOnTheDevicesWord(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	c := h.send(commands.Request{Device: "d1"})
	if c.State != commands.Queued {
		t.Errorf("offline: %s, want QUEUED", c.State)
	}
	v := newDevice("d1")
	v.deafen(true)
	h.connect(v)
	c = h.want(c.ID, commands.Sent)
	if !c.DeliveredAt.IsZero() {
		t.Error("delivered without the device's word")
	}
	eventually(t, "the device has lost it", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.lost > 0
	})
	h.disconnect("d1")
	v.deafen(false)
	h.connect(v)
	c = h.want(c.ID, commands.Succeeded)
	if c.Attempts != 2 || v.runs(c.ID) != 1 {
		t.Errorf("%d attempts, ran %d times", c.Attempts, v.runs(c.ID))
	}
	if !strings.Contains(story(c), "attempt 2: sent again on a new connection") {
		t.Errorf("story:\n%s", story(c))
	}
}

// thingsboard#11642: commands were stuck after a restart of the server.
func TestStatesSurviveARestart(t *testing.T) {
	store := newStore(t, startNATS(t))
	h := startHub(t, "a", store)
	queued := h.send(commands.Request{Device: "off"})
	v := newDevice("d1")
	v.do = only(delivered, running)
	h.connect(v)
	runningID := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Timeout: time.Hour}}).ID
	h.want(runningID, commands.Running)
	h.stop()

	h = startHub(t, "a", store)
	if got := h.want(queued.ID, commands.Queued); got.Expires != queued.Expires {
		t.Errorf("expires %s, want %s", got.Expires, queued.Expires)
	}
	h.want(runningID, commands.Running)
	h.connect(v)
	v.say(word(runningID, succeeded))
	h.want(runningID, commands.Succeeded)
	h.connect(newDevice("off"))
	h.want(queued.ID, commands.Succeeded)
}

// thingsboard#8712: a command without an answer blocked those behind it.
func TestACommandNeverBlocksAnothersExpiry(t *testing.T) {
	t.Parallel()
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	v.do = func(c *devicev1.Command) []*devicev1.CommandUpdate {
		if c.GetName() == "hang" {
			return only(delivered)(c)
		}
		return nil
	}
	h.connect(v)
	hang := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Name: "hang"}})
	short := h.send(commands.Request{Device: "d1", Spec: commands.Spec{TTL: soon}})
	offline := h.send(commands.Request{Device: "off", Spec: commands.Spec{TTL: time.Second}})
	v.mu.Lock()
	v.do = nil
	v.mu.Unlock()
	quick := h.send(commands.Request{Device: "d1"})
	h.want(quick.ID, commands.Succeeded)
	if c := h.want(short.ID, commands.Expired); !strings.Contains(c.Reason, "may have reached the device") {
		t.Errorf("reason %q", c.Reason)
	}
	if c := h.want(offline.ID, commands.Expired); !strings.Contains(c.Reason, "never sent") {
		t.Errorf("reason %q", c.Reason)
	}
	h.want(hang.ID, commands.Delivered)
}

// hono#1632, hono#2576: a command went to the dead socket after the device had
// moved to another node.
func TestCommandFollowsTheDeviceToAnotherNode(t *testing.T) {
	nats := startNATS(t)
	a, b := startHub(t, "a", newStore(t, nats)), startHub(t, "b", newStore(t, nats))
	v := newDevice("d1")
	old := a.connect(v)
	b.connect(v)
	c := b.send(commands.Request{Device: "d1"})
	b.want(c.ID, commands.Succeeded)
	// Late news of the old session changes nothing; a's own goodbye comes last.
	b.d.Disconnected("d1", old)
	c = b.send(commands.Request{Device: "d1"})
	c = b.want(c.ID, commands.Succeeded)
	if c.SentNode != "b" || c.Attempts != 1 {
		t.Errorf("sent by %s, %d attempts", c.SentNode, c.Attempts)
	}
	a.disconnect("d1")
	// Accepted by the node that does not hold the session.
	c = a.send(commands.Request{Device: "d1"})
	c = a.want(c.ID, commands.Succeeded)
	if c.SentNode != "b" || c.Events[0].Node != "a" || v.runs(c.ID) != 1 {
		t.Errorf("accepted by %s, sent by %s, ran %d times", c.Events[0].Node, c.SentNode, v.runs(c.ID))
	}
}

// The same, while the node that the device has left still believes in its
// session: what goes to the dead socket is sent again on the living one, and
// what the living one has got does not go to the dead one.
func TestCommandToADeadSocketIsSentOnTheLivingOne(t *testing.T) {
	nats := startNATS(t)
	a, b := startHub(t, "a", newStore(t, nats)), startHub(t, "b", newStore(t, nats))
	v := newDevice("d1")
	a.connect(v)
	a.sever("d1")
	epoch := b.connect(v)
	c := a.send(commands.Request{Device: "d1"})
	c = b.want(c.ID, commands.Succeeded)
	if c.Attempts != 2 || c.SentNode != "b" || c.SentEpoch != epoch || v.runs(c.ID) != 1 {
		t.Errorf("ran %d times\n%s", v.runs(c.ID), story(c))
	}
	v.deafen(true)
	held := b.send(commands.Request{Device: "d1"})
	a.want(held.ID, commands.Sent)
	eventually(t, "lost by the device", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.lost == 1
	})
	v.deafen(false)
	c = a.send(commands.Request{Device: "d1"})
	b.want(c.ID, commands.Succeeded)
	if c := a.want(held.ID, commands.Sent); c.SentNode != "b" || c.Attempts != 1 {
		t.Errorf("sent from the living session to the dead one\n%s", story(c))
	}
}

// takenBack is a session that turns out to have taken nothing, late.
type takenBack struct{ after <-chan struct{} }

func (s takenBack) Send(string, *devicev1.HubFrame) (uint64, bool) {
	<-s.after
	return 0, false
}

// A node records SENT, and finds that its session takes nothing when the next
// node has sent the command already: it stays SENT. As QUEUED it could be
// canceled, or sent once more, as if the device had not got it.
func TestSentByTheNextNodeIsNotTakenBack(t *testing.T) {
	nats := startNATS(t)
	got := make(chan struct{})
	a := startHub(t, "a", newStore(t, nats), func(c *commands.Config) { c.Sender = takenBack{got} })
	b := startHub(t, "b", newStore(t, nats))
	v := newDevice("d1")
	v.do = func(*devicev1.Command) []*devicev1.CommandUpdate {
		close(got)
		return nil
	}
	a.d.Connected("d1", 1)
	v.epoch = 1
	epoch := b.connect(v)
	id := a.send(commands.Request{Device: "d1"}).ID
	c := b.want(id, commands.Sent)
	if c.Attempts != 2 || c.SentNode != "b" || c.SentEpoch != epoch {
		t.Errorf("taken back\n%s", story(c))
	}
	if c, err := a.d.Cancel(context.Background(), id, "ann"); err != nil || c.State != commands.Sent || !c.CancelRequested {
		t.Errorf("canceled as if it had not been sent: %v\n%s", err, story(c))
	}
}

// racingStore lets something else happen right before the next update.
type racingStore struct {
	commands.Store
	mu   sync.Mutex
	race func()
}

func (s *racingStore) Update(ctx context.Context, c *commands.Command) error {
	s.mu.Lock()
	race := s.race
	s.race = nil
	s.mu.Unlock()
	if race != nil {
		race()
	}
	return s.Store.Update(ctx, c)
}

// Two nodes change a command at the same moment: both changes count.
func TestTwoNodesChangeACommandAtTheSameMoment(t *testing.T) {
	nats := startNATS(t)
	racing := &racingStore{Store: newStore(t, nats)}
	a, b := startHub(t, "a", racing), startHub(t, "b", newStore(t, nats))
	v := newDevice("d1")
	v.do = only(delivered)
	a.connect(v)
	id := a.send(commands.Request{Device: "d1"}).ID
	b.want(id, commands.Delivered)
	racing.mu.Lock()
	racing.race = func() {
		if _, err := b.d.Cancel(context.Background(), id, "ann"); err != nil {
			t.Error(err)
		}
	}
	racing.mu.Unlock()
	v.say(word(id, succeeded))
	c := b.want(id, commands.Succeeded)
	if !c.CancelRequested || !strings.Contains(story(c), "ann") {
		t.Errorf("the cancellation is not in the story\n%s", story(c))
	}
	if n := a.d.Stats().StoreErrors; n != 0 {
		t.Errorf("%d steps failed", n)
	}

	// And where the other node's change is an end.
	queued := a.send(commands.Request{Device: "d2"}).ID
	b.want(queued, commands.Queued)
	racing.mu.Lock()
	racing.race = func() {
		if _, err := b.d.Cancel(context.Background(), queued, "ann"); err != nil {
			t.Error(err)
		}
	}
	racing.mu.Unlock()
	w := newDevice("d2")
	a.connect(w)
	a.want(queued, commands.Canceled)
	after := a.send(commands.Request{Device: "d2"}).ID
	a.want(after, commands.Succeeded)
	if w.runs(queued) != 0 {
		t.Error("a command ran that was canceled before it was sent")
	}
}

// lorawan-stack#4289: a confirmed reboot looped for ever. A device that
// reboots on a command, and so never answers on that connection, runs it once.
func TestARebootDoesNotLoop(t *testing.T) {
	for _, replay := range []commands.Replay{commands.Once, commands.UntilDelivered, commands.LatestWins} {
		t.Run(replay.String(), func(t *testing.T) {
			h := startHub(t, "a", newStore(t, startNATS(t)))
			v := newDevice("d1")
			reboots := make(chan string, 16)
			v.do = func(c *devicev1.Command) []*devicev1.CommandUpdate {
				reboots <- c.GetId()
				return nil
			}
			h.connect(v)
			c := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Name: "reboot", Replay: replay, Timeout: 300 * time.Millisecond}})
			<-reboots
			v.mu.Lock()
			v.sayLocked(word(c.ID, succeeded)) // recorded before it went down
			v.mu.Unlock()
			h.disconnect("d1")
			for range 3 {
				h.connect(v)
				h.want(c.ID, commands.Succeeded)
				h.disconnect("d1")
			}
			if v.runs(c.ID) != 1 {
				t.Errorf("rebooted %d times", v.runs(c.ID))
			}
		})
	}
}

// Tasmota#744, Tasmota#5228: a retained command switched relays at every
// start. What has ended is never sent to a device that connects.
func TestWhatHasEndedIsNotSentToADeviceThatConnects(t *testing.T) {
	store := newStore(t, startNATS(t))
	h := startHub(t, "a", store)
	v := newDevice("d1")
	h.connect(v)
	for range 3 {
		h.want(h.send(commands.Request{Device: "d1"}).ID, commands.Succeeded)
	}
	for range 3 {
		h.stop()
		h = startHub(t, "a", store)
		fresh := newDevice("d1") // has lost its memory
		fresh.epoch = v.epoch + 10
		v.epoch = fresh.epoch
		h.connect(fresh)
		h.want(h.send(commands.Request{Device: "d1", Spec: commands.Spec{Name: "identify"}}).ID, commands.Succeeded)
		if got := fresh.got(); len(got) != 1 {
			t.Errorf("the device got %d commands, want the new one only", len(got))
		}
	}
}

func TestOnceIsNeverResent(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	v.deafen(true)
	h.connect(v)
	c := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Replay: commands.Once, Timeout: 200 * time.Millisecond}})
	h.disconnect("d1")
	v.deafen(false)
	h.connect(v)
	c = h.want(c.ID, commands.TimedOut)
	if !strings.HasPrefix(c.Reason, "delivery unknown; not resent") || c.Attempts != 1 || len(v.got()) != 0 {
		t.Errorf("%q after %d attempts, the device got %v", c.Reason, c.Attempts, v.got())
	}
	// The device had it after all.
	v.say(word(c.ID, failed))
	c = h.want(c.ID, commands.Failed)
	if !strings.Contains(c.Reason, "TIMED_OUT") || !c.Confirmed || c.Code != 2 || !c.NoCode {
		t.Errorf("late: %q, confirmed %v, code %d", c.Reason, c.Confirmed, c.Code)
	}
}

func TestOnceThatNeverLeftWaitsForTheNextSession(t *testing.T) {
	t.Parallel()
	h := startHub(t, "a", newStore(t, startNATS(t)))
	// The dispatcher believes in a session that is gone already.
	h.d.Connected("d1", 1)
	c := h.send(commands.Request{Device: "d1", Spec: commands.Spec{Replay: commands.Once}})
	if c.State != commands.Queued || c.Attempts != 0 {
		t.Errorf("%s after %d attempts, want QUEUED\n%s", c.State, c.Attempts, story(c))
	}
	// Not tried again in a hot loop.
	var refused []time.Time
	eventually(t, "a second try", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		refused = h.refused
		return len(refused) > 1
	})
	if pause := refused[1].Sub(refused[0]); pause < 500*time.Millisecond {
		t.Errorf("tried again after %s", pause)
	}
	h.d.Disconnected("d1", 1)
	v := newDevice("d1")
	v.epoch = 1
	h.connect(v)
	c = h.want(c.ID, commands.Succeeded)
	if c.Attempts != 1 || v.runs(c.ID) != 1 {
		t.Errorf("%d attempts, ran %d times", c.Attempts, v.runs(c.ID))
	}
}

func TestOrderIsThatOfAcceptance(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	var want []string
	for range 20 {
		want = append(want, h.send(commands.Request{Device: "d1"}).ID)
	}
	v := newDevice("d1")
	h.connect(v)
	for range 20 {
		want = append(want, h.send(commands.Request{Device: "d1"}).ID)
	}
	for _, id := range want {
		h.want(id, commands.Succeeded)
	}
	if got := v.got(); !slices.Equal(got, want) {
		t.Errorf("the device got\n%v\nwant\n%v", got, want)
	}
}

func TestThe51stPendingCommandIsRefused(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	errs := make(chan error, 60)
	for range 60 {
		go func() {
			_, _, err := h.d.Send(context.Background(), commands.Request{Device: "d1", Spec: commands.Spec{Name: "x"}})
			errs <- err
		}()
	}
	accepted := 0
	for range 60 {
		if err := <-errs; err == nil {
			accepted++
		} else {
			wantError(t, err, commands.ErrTooManyPending)
		}
	}
	if accepted != commands.DefaultMaxPending {
		t.Errorf("%d accepted", accepted)
	}
	if _, _, err := h.d.Send(context.Background(), commands.Request{Device: "d2", Spec: commands.Spec{Name: "x"}}); err != nil {
		t.Errorf("another device: %v", err)
	}
	h.connect(newDevice("d1"))
	eventually(t, "room again", func() bool {
		_, _, err := h.d.Send(context.Background(), commands.Request{Device: "d1", Spec: commands.Spec{Name: "x"}})
		return err == nil
	})
}

func TestIdempotencyKey(t *testing.T) {
	store := newStore(t, startNATS(t))
	h := startHub(t, "a", store)
	v := newDevice("d1")
	h.connect(v)
	ctx := context.Background()
	r := commands.Request{Device: "d1", Key: "job:7.b", Spec: commands.Spec{Name: "set-relay", Payload: commands.Payload{JSON: `{"on":true,"n":1}`}}}
	c, existed, err := h.d.Send(ctx, r)
	if err != nil || existed || c.ID != "job:7.b" {
		t.Fatalf("%v %v %v", c.ID, existed, err)
	}
	again := r
	again.Spec.Payload.JSON = ` { "n": 1, "on": true } `
	for range 2 {
		c, existed, err = h.d.Send(ctx, again)
		if err != nil || !existed || c.ID != "job:7.b" {
			t.Errorf("same key and body: %v %v %v", c.ID, existed, err)
		}
		h.want(c.ID, commands.Succeeded) // now it is in the history
	}
	for _, change := range []func(*commands.Request){
		func(r *commands.Request) { r.Spec.Payload.JSON = `{"on":false,"n":1}` },
		func(r *commands.Request) { r.Device = "d2" },
		func(r *commands.Request) { r.Spec.Name = "other" },
		func(r *commands.Request) { r.Spec.TTL = time.Minute },
		func(r *commands.Request) { r.Spec.Replay = commands.Once },
	} {
		other := r
		change(&other)
		_, _, err := h.d.Send(ctx, other)
		wantError(t, err, commands.ErrConflict)
	}
	h.stop()
	h = startHub(t, "a", store)
	if c, existed, err = h.d.Send(ctx, r); err != nil || !existed || c.State != commands.Succeeded {
		t.Errorf("after a restart: %v %v %v", c.State, existed, err)
	}
	if v.runs("job:7.b") != 1 {
		t.Errorf("ran %d times", v.runs("job:7.b"))
	}
}

func TestSameKeyAtTheSameMomentOnTwoNodes(t *testing.T) {
	nats := startNATS(t)
	a, b := startHub(t, "a", newStore(t, nats)), startHub(t, "b", newStore(t, nats))
	v := newDevice("d1")
	a.connect(v)
	for i := range 20 {
		r := commands.Request{Device: "d1", Key: fmt.Sprint("k", i), Spec: commands.Spec{Name: "x"}}
		results := make(chan bool, 2)
		for _, h := range []*hub{a, b} {
			go func() {
				_, existed, err := h.d.Send(context.Background(), r)
				if err != nil {
					t.Error(err)
				}
				results <- existed
			}()
		}
		if first, second := <-results, <-results; first == second {
			t.Errorf("existed %v and %v", first, second)
		}
		a.want(r.Key, commands.Succeeded)
		if v.runs(r.Key) != 1 {
			t.Errorf("%s ran %d times", r.Key, v.runs(r.Key))
		}
	}
}

func TestBadRequests(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)), func(c *commands.Config) {
		c.Devices = &devices{disabled: []string{"off"}, unknown: []string{"nobody"}}
	})
	spec := commands.Spec{Name: "x"}
	with := func(change func(*commands.Spec)) commands.Spec { s := spec; change(&s); return s }
	for name, c := range map[string]struct {
		r    commands.Request
		want error
	}{
		"unknown device":  {commands.Request{Device: "nobody", Spec: spec}, commands.ErrUnknownDevice},
		"disabled device": {commands.Request{Device: "off", Spec: spec}, commands.ErrDeviceDisabled},
		"device id":       {commands.Request{Device: "a.b", Spec: spec}, commands.ErrInvalid},
		"no name":         {commands.Request{Device: "d"}, commands.ErrInvalid},
		"name":            {commands.Request{Device: "d", Spec: commands.Spec{Name: "1x"}}, commands.ErrInvalid},
		"long name":       {commands.Request{Device: "d", Spec: commands.Spec{Name: strings.Repeat("x", 65)}}, commands.ErrInvalid},
		"key":             {commands.Request{Device: "d", Spec: spec, Key: "a b"}, commands.ErrInvalid},
		"long key":        {commands.Request{Device: "d", Spec: spec, Key: strings.Repeat("x", 65)}, commands.ErrInvalid},
		"wildcard key":    {commands.Request{Device: "d", Spec: spec, Key: "a.*"}, commands.ErrInvalid},
		"ttl":             {commands.Request{Device: "d", Spec: with(func(s *commands.Spec) { s.TTL = 31 * 24 * time.Hour })}, commands.ErrInvalid},
		"negative ttl":    {commands.Request{Device: "d", Spec: with(func(s *commands.Spec) { s.TTL = -1 })}, commands.ErrInvalid},
		"timeout":         {commands.Request{Device: "d", Spec: with(func(s *commands.Spec) { s.Timeout = 25 * time.Hour })}, commands.ErrInvalid},
		"replay":          {commands.Request{Device: "d", Spec: with(func(s *commands.Spec) { s.Replay = 9 })}, commands.ErrInvalid},
		"array":           {commands.Request{Device: "d", Spec: with(func(s *commands.Spec) { s.Payload.JSON = `[1]` })}, commands.ErrInvalid},
		"null":            {commands.Request{Device: "d", Spec: with(func(s *commands.Spec) { s.Payload.JSON = `null` })}, commands.ErrInvalid},
		"two objects":     {commands.Request{Device: "d", Spec: with(func(s *commands.Spec) { s.Payload.JSON = `{}{}` })}, commands.ErrInvalid},
		"both":            {commands.Request{Device: "d", Spec: with(func(s *commands.Spec) { s.Payload = commands.Payload{JSON: "{}", Protobuf: []byte{1}} })}, commands.ErrInvalid},
		"too large": {commands.Request{Device: "d", Spec: with(func(s *commands.Spec) {
			s.Payload.Protobuf = make([]byte, commands.MaxPayloadBytes+1)
		})}, commands.ErrInvalid},
	} {
		if _, _, err := h.d.Send(context.Background(), c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if h.d.Pending() != 0 {
		t.Errorf("%d pending", h.d.Pending())
	}
	largest := with(func(s *commands.Spec) {
		s.Payload.JSON = `{"a":"` + strings.Repeat("<", commands.MaxPayloadBytes-8) + `"}`
	})
	if _, _, err := h.d.Send(context.Background(), commands.Request{Device: "d", Spec: largest}); err != nil {
		t.Errorf("largest payload: %v", err)
	}
}
