package api_test

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// waiting is toDevice for a caller who waits for the end.
func waiting(wait, ttl time.Duration) *operatorv1.SendCommandRequest {
	m := toDevice("a-0", "")
	m.Wait, m.Spec.Ttl = durationpb.New(wait), durationpb.New(ttl)
	return m
}

// One call brings a command and its end, also when that takes longer than the
// server lets an answer take (WriteTimeout, of which HTTP/2 makes an end).
func TestSendWaitsForTheEnd(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	got := h.as(h.admin).send(t, waiting(30*time.Second, 4*time.Second)).GetCommand()
	if got.GetState() != operatorv1.CommandState_COMMAND_STATE_EXPIRED || got.GetEnded() == nil {
		t.Errorf("answered with %v", got)
	}
}

// A command that comes to no end in that time is told as it stands.
func TestSendWaitsNoLongerThanAsked(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	c := h.as(h.admin)
	got := c.send(t, waiting(time.Millisecond, time.Hour)).GetCommand()
	if got.GetState() != operatorv1.CommandState_COMMAND_STATE_QUEUED {
		t.Errorf("answered with %v", got)
	}
	for _, wait := range []time.Duration{-time.Nanosecond, time.Minute + time.Nanosecond} {
		_, err := c.commands.SendCommand(testContext(t), req(waiting(wait, time.Hour)))
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("wait %s: %v", wait, err)
		}
	}
	if n := h.commands.Pending(); n != 1 {
		t.Errorf("%d commands were accepted, want 1", n)
	}
}

// Who goes away is not waited for, and a hub that stops does not wait: the
// command was accepted, and is answered as it stands.
func TestSendStopsWaiting(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	begin := func(ctx context.Context) (answered chan error) {
		answered, before := make(chan error, 1), h.commands.Pending()
		go func() {
			_, err := h.as(h.admin).commands.SendCommand(ctx, req(waiting(time.Minute, time.Hour)))
			answered <- err
		}()
		eventually(t, "the command is accepted", func() bool { return h.commands.Pending() > before })
		return answered
	}
	ctx, leave := context.WithCancel(testContext(t))
	gone := begin(ctx)
	leave()
	eventually(t, "nobody waits", func() bool { return h.server.Calls("root") == 0 })
	<-gone
	stopped := begin(testContext(t))
	h.server.Close()
	if err := <-stopped; err != nil {
		t.Errorf("the hub stops: %v", err)
	}
}
