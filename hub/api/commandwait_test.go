package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/hub/registry"
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

// Who is removed while its call waits is told so, and what became of the
// command; it has one record, of what was done.
func TestRemovedWhileItWaits(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.device("a-0", "a")
	for i, option := range [][]connect.ClientOption{nil, {connect.WithGRPC()}} {
		name := fmt.Sprint("ann-", i)
		c := h.as(h.token(name, registry.RoleOperator, ""), option...)
		answered := make(chan error, 1)
		m := waiting(time.Minute, time.Hour)
		m.Key = fmt.Sprint("k-", i)
		go func() { answered <- fail(c.commands.SendCommand(testContext(t), req(m))) }()
		eventually(t, "the command is accepted", func() bool { return h.commands.Pending() == i+1 })
		if err := h.registry.DeleteOperator(testContext(t), name); err != nil {
			t.Fatal(err)
		}
		err := <-answered
		wantCode(t, "the call that waited", err, connect.CodeUnauthenticated)
		if want := "revoked while the call was under way; what it asked for has been done: CommandService/SendCommand a-0 command=set-relay id=" + m.Key; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
		if got := h.audited(name); len(got) != 1 || !strings.HasPrefix(got[0], "a-0|ok|") {
			t.Errorf("records %q", got)
		}
	}
}

// Calls that wait are counted by themselves: they leave room for others, and
// one too many is refused before its command is accepted.
func TestWaitingCallsHaveABoundOfTheirOwn(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.server.SetMaxWaiting(2)
	h.device("a-0", "a")
	ctx, leave := context.WithCancel(testContext(t))
	c := h.as(h.admin)
	gone := make(chan error, 2)
	for range 2 {
		go func() { gone <- fail(c.commands.SendCommand(ctx, req(waiting(time.Minute, time.Hour)))) }()
	}
	eventually(t, "two wait", func() bool { return h.commands.Pending() == 2 })
	err := fail(c.commands.SendCommand(testContext(t), req(waiting(time.Minute, time.Hour))))
	wantCode(t, "a third", err, connect.CodeResourceExhausted)
	if err == nil || !strings.Contains(err.Error(), "was not accepted") || !strings.Contains(err.Error(), "WatchCommands") {
		t.Errorf("the refusal: %v", err)
	}
	if n := h.commands.Pending(); n != 2 {
		t.Errorf("%d commands were accepted", n)
	}
	h.as(h.token("other", registry.RoleOperator, "")).send(t, waiting(time.Millisecond, time.Hour)) // another operator's may
	c.send(t, toDevice("a-0", ""))                                                                  // without waiting it goes
	leave()
	<-gone
	<-gone
	eventually(t, "nobody waits", func() bool { return h.server.Calls("root") == 0 })
	c.send(t, waiting(time.Millisecond, time.Hour))
}
