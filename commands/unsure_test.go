package commands_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// unanswered is a store whose next write is made, and its answer lost.
type unanswered struct {
	commands.Store
	create, update atomic.Bool
}

var errNoAnswer = errors.New("no answer from the stream")

func (s *unanswered) Create(ctx context.Context, c *commands.Command) error {
	err := s.Store.Create(ctx, c)
	if s.create.CompareAndSwap(true, false) {
		return errNoAnswer
	}
	return err
}

func (s *unanswered) Update(ctx context.Context, c *commands.Command) error {
	n := *c
	err := s.Store.Update(ctx, &n)
	if s.update.CompareAndSwap(true, false) {
		return errNoAnswer
	}
	c.Revision = n.Revision
	return err
}

// A command that was recorded as SENT without the hub hearing so was not put
// on the wire: it goes out as soon as the hub finds the record, once.
func TestACommandWhoseRecordWasNotAnsweredIsSent(t *testing.T) {
	t.Parallel()
	for _, replay := range []commands.Replay{commands.UntilDelivered, commands.Once, commands.LatestWins} {
		t.Run(replay.String(), func(t *testing.T) {
			t.Parallel()
			store := &unanswered{Store: newStore(t, startNATS(t))}
			h := startHub(t, "a", store)
			v := newDevice("d1")
			h.connect(v)
			spec := commands.Spec{Name: "x", Replay: replay, Timeout: 20 * time.Second}

			store.create.Store(true)
			request := commands.Request{Device: "d1", Key: "created", Spec: spec}
			if _, _, err := h.d.Send(context.Background(), request); !errors.Is(err, errNoAnswer) {
				t.Fatalf("Send: %v", err)
			}
			c := h.want("created", commands.Succeeded)
			if v.runs("created") != 1 || len(v.got()) != 1 || !strings.Contains(story(c), "not put on the wire") {
				t.Errorf("received %v\n%s", v.got(), story(c))
			}

			// Asked for again at once, with the same key.
			store.create.Store(true)
			request.Key = "again"
			if _, _, err := h.d.Send(context.Background(), request); !errors.Is(err, errNoAnswer) {
				t.Fatalf("Send: %v", err)
			}
			if _, existed, err := h.d.Send(context.Background(), request); err != nil || !existed {
				t.Errorf("the same again: existed %v, %v", existed, err)
			}
			h.want("again", commands.Succeeded)
			if v.runs("again") != 1 || len(v.got()) != 2 {
				t.Errorf("received %v", v.got())
			}
			if h.d.Stats().StoreErrors != 2 {
				t.Errorf("%d store errors", h.d.Stats().StoreErrors)
			}

			// It was QUEUED, and that it goes out is what has no answer.
			h.disconnect("d1")
			id := h.send(commands.Request{Device: "d1", Spec: spec}).ID
			store.update.Store(true)
			h.connect(v)
			c = h.want(id, commands.Succeeded)
			if v.runs(id) != 1 || len(v.got()) != 3 {
				t.Errorf("received %v\n%s", v.got(), story(c))
			}
		})
	}
}

// One that was not recorded either is simply not there.
func TestACommandThatWasNotRecordedIsNotSent(t *testing.T) {
	store := &flakyStore{Store: newStore(t, startNATS(t))}
	h := startHub(t, "a", store)
	v := newDevice("d1")
	h.connect(v)
	store.set(true)
	request := commands.Request{Device: "d1", Key: "k", Spec: commands.Spec{Name: "x", Replay: commands.Once}}
	if _, _, err := h.d.Send(context.Background(), request); err == nil {
		t.Fatal("accepted")
	}
	store.set(false)
	if _, existed, err := h.d.Send(context.Background(), request); existed || err != nil {
		t.Errorf("the same again: existed %v, %v", existed, err)
	}
	h.want("k", commands.Succeeded)
	if len(v.got()) != 1 {
		t.Errorf("received %v", v.got())
	}
}
