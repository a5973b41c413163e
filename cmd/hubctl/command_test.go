package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

const (
	queued  = operatorv1.CommandState_COMMAND_STATE_QUEUED
	sent    = operatorv1.CommandState_COMMAND_STATE_SENT
	running = operatorv1.CommandState_COMMAND_STATE_RUNNING
	failed  = operatorv1.CommandState_COMMAND_STATE_FAILED
	expired = operatorv1.CommandState_COMMAND_STATE_EXPIRED
)

func TestCommandSendPassesEverythingOn(t *testing.T) {
	p := newPeer(t)
	var got *operatorv1.SendCommandRequest
	answer(p, rpc.CommandServiceSendCommandProcedure, func(r *operatorv1.SendCommandRequest) (*operatorv1.SendCommandResponse, error) {
		got = r
		return &operatorv1.SendCommandResponse{Command: &operatorv1.Command{Id: r.Key, DeviceId: r.DeviceId, State: queued}}, nil
	})
	out := p.hubctl("command", "send", "pump-1", "set", "--arg", "on=true", "--ttl", "2d", "--timeout", "90s", "--replay", "once", "--key", "k:1").want(t, exitOK)
	wantText(t, out.out, "command k:1 to pump-1 is QUEUED\n")
	if s := got.Spec; got.DeviceId != "pump-1" || s.Name != "set" || s.GetJson() != `{"on":true}` || s.Ttl.AsDuration() != 48*time.Hour ||
		s.Timeout.AsDuration() != 90*time.Second || s.Replay != operatorv1.ReplayClass_REPLAY_CLASS_ONCE {
		t.Errorf("sent %v", got)
	}
	runWith(t, p.env(), ` { "a" : 1 } `, "command", "send", "pump-1", "set", "--json", "@-").want(t, exitOK)
	if got.Spec.GetJson() != `{"a":1}` || len(got.Key) != 36 {
		t.Errorf("sent %v", got)
	}
	before := len(p.called())
	for _, bad := range []string{"--json []", "--json {}{}", "--json {} --arg a=1", "--replay always", "--ttl x", "--timeout -1s", "--rate 5", "--key a/b", "--selector a=b"} {
		p.hubctl(append([]string{"command", "send", "pump-1", "set"}, strings.Fields(bad)...)...).want(t, exitUsage)
	}
	tooLong := runWith(t, p.env(), strings.Repeat(" ", 2*maxJSONInput), "command", "send", "pump-1", "set", "--json", "@-").want(t, exitUsage)
	wantContains(t, tooLong.stderr, "more than 65536 bytes, over the limit of 16384", "fetch it")
	if len(p.called()) != before {
		t.Error("a wrong command line reached the hub")
	}
	// What it can read it leaves to the hub, whose audit log then has it.
	p.hubctl("command", "send", "pump-1", "set", "--arg", "a="+strings.Repeat("x", maxPayload)).want(t, exitOK)
	if len(got.Spec.GetJson()) <= maxPayload {
		t.Errorf("sent %d bytes", len(got.Spec.GetJson()))
	}
}

// An answer that is lost leaves a doubt; the key resolves it.
func TestCommandSendNamesTheKeyWhenTheAnswerIsLost(t *testing.T) {
	p := newPeer(t)
	var key string
	answer(p, rpc.CommandServiceSendCommandProcedure, func(r *operatorv1.SendCommandRequest) (*operatorv1.SendCommandResponse, error) {
		key = r.Key
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("draining"))
	})
	got := p.hubctl("command", "send", "pump-1", "go").want(t, exitUnreachable)
	wantContains(t, got.stderr, "--key "+key)
	// A hub whose store is frozen says so itself: that is not a hub that is silent.
	p = newPeer(t)
	answer(p, rpc.CommandServiceSendCommandProcedure, func(*operatorv1.SendCommandRequest) (*operatorv1.SendCommandResponse, error) {
		return nil, connect.NewError(connect.CodeDeadlineExceeded, errors.New("the call took too long"))
	})
	got = p.hubctl("command", "send", "pump-1", "go", "--key", "k1", "--wait").want(t, exitUnreachable)
	wantContains(t, got.stderr, "Whether the hub has accepted it is not known: 'hubctl command why k1' tells, and sending it again with --key k1 does it only once.",
		"did not come to an end in time (the call took too long)")
	if strings.Contains(got.stderr, "no answer from") {
		t.Error(got.stderr)
	}
	env := p.env()
	env["TETHERLINE_HUB"] = "https://127.0.0.1:1"
	if got := runWith(t, env, "", "command", "send", "pump-1", "go").want(t, exitUnreachable); strings.Contains(got.stderr, "--key") {
		t.Errorf("nothing was sent, yet: %s", got.stderr)
	}
}

// --wait follows a command through a lost stream, and exits by its outcome.
func TestCommandWaitExitsByOutcome(t *testing.T) {
	for n, code := range map[string]int{"SUCCEEDED": 0, "FAILED": 10, "REJECTED": 11, "TIMED_OUT": 12, "EXPIRED": 13, "CANCELED": 14} {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			end := operatorv1.CommandState(operatorv1.CommandState_value["COMMAND_STATE_"+n])
			always(p, rpc.CommandServiceSendCommandProcedure, &operatorv1.SendCommandRequest{}, &operatorv1.SendCommandResponse{Command: &operatorv1.Command{Id: "c1", State: queued}})
			var tries atomic.Int32
			streams(p, rpc.CommandServiceWatchCommandsProcedure, func(_ context.Context, r *operatorv1.WatchCommandsRequest, send func(*operatorv1.WatchCommandsResponse)) error {
				if tries.Add(1) == 1 {
					send(&operatorv1.WatchCommandsResponse{Command: &operatorv1.Command{Id: r.Id, State: sent}})
					return connect.NewError(connect.CodeUnavailable, errors.New("draining"))
				}
				send(&operatorv1.WatchCommandsResponse{Command: &operatorv1.Command{Id: r.Id, State: running, ProgressPercent: 40}})
				send(&operatorv1.WatchCommandsResponse{Command: &operatorv1.Command{Id: r.Id, State: end, Code: 3, Message: "too \x07hot", Result: &operatorv1.Command_Json{Json: `{"t":90}`}}})
				return nil
			})
			got := p.hubctl("command", "send", "pump-1", "go", "--wait").want(t, code)
			wantContains(t, got.out, n, `too \x07hot`, `{"t":90}`, "invalid_argument")
			wantContains(t, got.stderr, "lost the hub", "trying again")
		})
	}
}

// A stream that breaks off in the middle of a message, as when the hub is
// killed, is a lost hub and no wrong command line.
func TestCommandWaitOutlastsAKilledHub(t *testing.T) {
	p := newPeer(t)
	always(p, rpc.CommandServiceSendCommandProcedure, &operatorv1.SendCommandRequest{}, &operatorv1.SendCommandResponse{Command: &operatorv1.Command{Id: "c1", State: queued}})
	var tries atomic.Int32
	streams(p, rpc.CommandServiceWatchCommandsProcedure, func(_ context.Context, r *operatorv1.WatchCommandsRequest, send func(*operatorv1.WatchCommandsResponse)) error {
		if tries.Add(1) == 1 {
			send(&operatorv1.WatchCommandsResponse{Command: &operatorv1.Command{Id: r.Id, State: sent}})
			panic(http.ErrAbortHandler)
		}
		send(&operatorv1.WatchCommandsResponse{Command: &operatorv1.Command{Id: r.Id, State: operatorv1.CommandState_COMMAND_STATE_SUCCEEDED}})
		return nil
	})
	got := p.hubctl("command", "send", "pump-1", "go", "--wait").want(t, exitOK)
	wantContains(t, got.stderr, "lost the hub", "trying again")
}

func TestCommandWaitCanBeInterrupted(t *testing.T) {
	p := newPeer(t)
	always(p, rpc.CommandServiceSendCommandProcedure, &operatorv1.SendCommandRequest{}, &operatorv1.SendCommandResponse{Command: &operatorv1.Command{Id: "c1", State: queued}})
	ctx, cancel := context.WithCancel(t.Context())
	streams(p, rpc.CommandServiceWatchCommandsProcedure, func(ctx context.Context, _ *operatorv1.WatchCommandsRequest, send func(*operatorv1.WatchCommandsResponse)) error {
		send(&operatorv1.WatchCommandsResponse{Command: &operatorv1.Command{Id: "c1", State: sent}})
		cancel()
		<-ctx.Done()
		return nil
	})
	got := runContext(t, ctx, p.env(), "", "command", "send", "pump-1", "go", "--wait").want(t, exitInterrupted)
	wantContains(t, got.stderr, "The hub has accepted the command", "hubctl command why c1", "hubctl command cancel c1")
}

func TestGroupCommandWaitsForAll(t *testing.T) {
	p := newPeer(t)
	var got *operatorv1.SendGroupCommandRequest
	asked := 0
	end := &operatorv1.Group{Id: "g", State: "DONE", Total: 3, Issued: 3, ByState: map[string]uint32{"SUCCEEDED": 2, "FAILED": 1}}
	answer(p, rpc.CommandServiceSendGroupCommandProcedure, func(r *operatorv1.SendGroupCommandRequest) (*operatorv1.SendGroupCommandResponse, error) {
		got = r
		return &operatorv1.SendGroupCommandResponse{Group: &operatorv1.Group{Id: "g", State: "RUNNING", Total: 3}}, nil
	})
	answer(p, rpc.CommandServiceGetGroupProcedure, func(*operatorv1.GetGroupRequest) (*operatorv1.GetGroupResponse, error) {
		if asked++; asked == 1 {
			return &operatorv1.GetGroupResponse{Group: &operatorv1.Group{Id: "g", State: "RUNNING", Total: 3, Issued: 1}}, nil
		}
		return &operatorv1.GetGroupResponse{Group: end}, nil
	})
	args := []string{"command", "send", "--selector", "site=north", "reboot", "--rate", "2.5", "--stop-after-failures", "10%", "--max-devices", "9", "--wait"}
	wantContains(t, p.hubctl(args...).want(t, exitPartial).out, "1 FAILED", "2 SUCCEEDED", "DONE")
	if got.Selector != "site=north" || got.Spec.Name != "reboot" || got.RatePerSecond != 2.5 || got.StopAfterFailureShare != 0.1 || got.MaxDevices != 9 {
		t.Errorf("sent %v", got)
	}
	end.ByState = map[string]uint32{"SUCCEEDED": 3}
	p.hubctl(args...).want(t, exitOK)
}

func TestCommandWhyTellsTheStory(t *testing.T) {
	p := newPeer(t)
	created := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(created.Add(d)) }
	cmd := &operatorv1.Command{
		Id: "c1", DeviceId: "pump-1", State: expired, Created: at(0), Ended: at(time.Hour), Attempts: 1, Operator: "alice", Reason: "not delivered within 1 h",
		Spec: &operatorv1.CommandSpec{Name: "open", Payload: &operatorv1.CommandSpec_Json{Json: `{"n":1}`}, Ttl: durationpb.New(time.Hour), Timeout: durationpb.New(30 * time.Second)},
	}
	events := []*operatorv1.CommandEvent{
		{Time: at(0), State: queued, Node: "n1"},
		{Time: at(2 * time.Millisecond), State: sent, Attempt: 1, Node: "n1", SessionEpoch: 42},
		{Time: at(12 * time.Second), State: queued, Attempt: 1, Reason: "heartbeat missed"},
		{Time: at(13 * time.Second), State: sent, Attempt: 2, Node: "n1", SessionEpoch: 43, Reason: "attempt 2: sent again"},
		{Time: at(14 * time.Second), State: operatorv1.CommandState_COMMAND_STATE_DELIVERED, Attempt: 2, Node: "n1", SessionEpoch: 43},
		{Time: at(time.Hour), State: expired, Reason: "not delivered within 1 h", Code: 4, Message: "to\ao hot"},
	}
	answer(p, rpc.CommandServiceGetCommandProcedure, func(*operatorv1.GetCommandRequest) (*operatorv1.GetCommandResponse, error) {
		return &operatorv1.GetCommandResponse{Command: cmd, Events: events}, nil
	})
	got := p.hubctl("command", "why", "c1").want(t, exitOK).out
	head, story, _ := strings.Cut(got, "\n\n")
	wantContains(t, head, `"open" to pump-1: EXPIRED after 1 h`, "Sent by alice on 2026-03-01 12:00:00.000 UTC", `Payload: {"n":1}`, "for at most 1 h; the device has 30 s to answer")
	wantText(t, story, `      +0 s  queued (node n1)
     +2 ms  sent to the device (node n1, session 42)
     +12 s  heartbeat missed
     +13 s  attempt 2: sent again (node n1, session 43)
     +14 s  the device has it
      +1 h  not delivered within 1 h, code 4 (deadline_exceeded); it says "to\ao hot"

The device has taken it; whether it has done it is not known. Should its answer still come, it is recorded here.
`)
	wantContains(t, p.hubctl("command", "why", "c1", "-o", "json").want(t, exitOK).out, `"session_epoch": "42"`)
	wantContains(t, p.hubctl("command", "why", "c1", "-o", "csv").want(t, exitOK).out, "2026-03-01T12:00:12Z,QUEUED,1,,0,0,0,,heartbeat missed\n")

	cmd.State, cmd.Ended, cmd.Expires = queued, nil, timestamppb.New(time.Now().Add(time.Hour))
	always(p, rpc.DeviceServiceGetDeviceProcedure, &operatorv1.GetDeviceRequest{}, &operatorv1.GetDeviceResponse{Device: &operatorv1.Device{
		Enabled: true, Presence: &operatorv1.Presence{Since: timestamppb.New(time.Now().Add(-2 * time.Hour)), Reason: "heartbeat missed"}}})
	wantContains(t, p.hubctl("command", "why", "c1").want(t, exitOK).out, "It waits for the device, which went offline 2 h ago (heartbeat missed); it expires in")

	wantText(t, whereabouts(&operatorv1.Device{Id: "d", DisabledBy: "bob", DisabledSince: timestamppb.New(time.Now().Add(-2*time.Hour - time.Second))}),
		", which is disabled by bob 2 h ago ('hubctl device enable d'),")

	// One that is not sent again, on a connection that is gone.
	cmd.State, cmd.Spec.Replay = sent, operatorv1.ReplayClass_REPLAY_CLASS_ONCE
	events = []*operatorv1.CommandEvent{{Time: timestamppb.Now(), State: sent, SessionEpoch: 42}}
	wantContains(t, p.hubctl("command", "why", "c1").want(t, exitOK).out, "The connection that it was sent on is gone, and a command of the class once is not sent again", "TIMED_OUT within 30 s")

	// One that the device has: by when its answer must come.
	cmd.State, cmd.Spec.Timeout = operatorv1.CommandState_COMMAND_STATE_RUNNING, durationpb.New(time.Hour)
	events = []*operatorv1.CommandEvent{
		{Time: timestamppb.New(time.Now().Add(-10*time.Minute - time.Second)), State: operatorv1.CommandState_COMMAND_STATE_DELIVERED},
		{Time: timestamppb.Now(), State: operatorv1.CommandState_COMMAND_STATE_RUNNING},
	}
	wantContains(t, p.hubctl("command", "why", "c1").want(t, exitOK).out,
		"It waits for the result of the device, which went offline 2 h ago (heartbeat missed); the hub gives up in 49 min")
}

// On 80 columns name, state and the begin of the reason can be read.
func TestCommandListOnANarrowScreen(t *testing.T) {
	var rows []command
	for i := range 3 {
		rows = append(rows, &operatorv1.Command{Id: fmt.Sprintf("0198c1d%d-7a3b-7c4d-8e5f-0123456789ab", i), DeviceId: "pump-north-17", State: expired, Attempts: 1,
			Spec: &operatorv1.CommandSpec{Name: "set_setpoint"}, Created: timestamppb.New(time.Now().Add(-754 * time.Second)), Reason: "device was offline for 1 h"})
	}
	var b strings.Builder
	if hidden, err := output.WriteTable(&b, 80, new(app).commandView().table, rows); err != nil || hidden > 0 {
		t.Fatalf("%d hidden, %v", hidden, err)
	}
	wantContains(t, b.String(), "0198c1d0…", "0198c1d2…", "set_setpoint  EXPIRED  12 min", "device was")
}

func TestCommandListFilters(t *testing.T) {
	p := newPeer(t)
	answer(p, rpc.CommandServiceListCommandsProcedure, func(r *operatorv1.ListCommandsRequest) (*operatorv1.ListCommandsResponse, error) {
		if got := fmt.Sprint(r.States, r.DeviceId, r.Name, r.GroupId, r.Selector, r.PageSize); got != fmt.Sprint([]operatorv1.CommandState{failed, expired}, "d", "n", "g", "s", 7) {
			t.Errorf("asked %s", got)
		}
		return &operatorv1.ListCommandsResponse{}, nil
	})
	p.hubctl(strings.Fields("command ls --state failed --state EXPIRED --device d --name n --group g --selector s --limit 7")...).want(t, exitOK)
	p.hubctl("command", "ls", "--state", "BROKEN").want(t, exitUsage)
}

// An id of the other kind is not just unknown.
func TestCommandsAndGroupsPointAtEachOther(t *testing.T) {
	p := newPeer(t)
	answer(p, rpc.CommandServiceGetCommandProcedure, func(r *operatorv1.GetCommandRequest) (*operatorv1.GetCommandResponse, error) {
		if r.Id != "c1" {
			return nil, connect.NewError(connect.CodeNotFound, errors.New("no such command"))
		}
		return &operatorv1.GetCommandResponse{Command: &operatorv1.Command{Id: "c1", GroupId: "g1"}}, nil
	})
	answer(p, rpc.CommandServiceGetGroupProcedure, func(r *operatorv1.GetGroupRequest) (*operatorv1.GetGroupResponse, error) {
		if r.Id != "g1" {
			return nil, connect.NewError(connect.CodeNotFound, errors.New("no such command"))
		}
		return &operatorv1.GetGroupResponse{Group: &operatorv1.Group{Id: "g1"}}, nil
	})
	answer(p, rpc.CommandServiceCancelCommandProcedure, func(*operatorv1.CancelCommandRequest) (*operatorv1.CancelCommandResponse, error) {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such command"))
	})
	answer(p, rpc.CommandServiceCancelGroupProcedure, func(*operatorv1.CancelGroupRequest) (*operatorv1.CancelGroupResponse, error) {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such command"))
	})
	streams(p, rpc.CommandServiceWatchCommandsProcedure, func(context.Context, *operatorv1.WatchCommandsRequest, func(*operatorv1.WatchCommandsResponse)) error {
		return connect.NewError(connect.CodeNotFound, errors.New("no such command"))
	})
	always(p, rpc.CommandServiceListRefusedCommandsProcedure, &operatorv1.ListRefusedCommandsRequest{}, &operatorv1.ListRefusedCommandsResponse{})
	for args, want := range map[string]string{
		"show g1":         "'hubctl command group show g1'",
		"cancel g1":       "'hubctl command group cancel g1'",
		"watch g1":        "'hubctl command watch --group g1'",
		"group show c1":   "one of the group g1: 'hubctl command show c1'",
		"group cancel c1": "one of the group g1: 'hubctl command cancel c1'",
	} {
		got := p.hubctl(strings.Fields("command "+args)...).want(t, exitNotFound)
		wantContains(t, got.stderr, want)
	}
	for _, args := range []string{"why x", "group show x"} {
		if got := p.hubctl(strings.Fields("command "+args)...).want(t, exitNotFound); strings.Contains(got.stderr, "is not a") {
			t.Errorf("%s: %s", args, got.stderr)
		}
	}
}
