package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// toDevice is a command as an operator asks for it.
func toDevice(id, key string) *operatorv1.SendCommandRequest {
	return &operatorv1.SendCommandRequest{DeviceId: id, Key: key, Spec: &operatorv1.CommandSpec{
		Name: "set-relay", Payload: &operatorv1.CommandSpec_Json{Json: `{"on":true}`},
	}}
}

// send sends a command that must be accepted.
func (c clients) send(t testing.TB, m *operatorv1.SendCommandRequest) *operatorv1.SendCommandResponse {
	t.Helper()
	return must(c.commands.SendCommand(testContext(t), req(m)))(t).Msg
}

// The two enums are cast to each other.
func TestCommandStatesHaveTheNumbersOfTheProto(t *testing.T) {
	names := operatorv1.CommandState_name
	if len(names) != len(commands.States())+1 {
		t.Errorf("the proto has %d states, the package %d", len(names)-1, len(commands.States()))
	}
	for _, s := range commands.States() {
		if want := "COMMAND_STATE_" + s.String(); names[int32(s)] != want {
			t.Errorf("state %v is %d, which is %q in the proto", s, s, names[int32(s)])
		}
	}
}

// What is sent comes back as it was, with the defaults filled in.
func TestCommandKeepsItsTerms(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	c := h.as(h.admin)
	for name, spec := range map[string]*operatorv1.CommandSpec{
		"all":      {Name: "set-relay", Payload: &operatorv1.CommandSpec_Json{Json: `{"on":true}`}, Ttl: durationpb.New(2 * time.Hour), Timeout: durationpb.New(time.Minute), Replay: operatorv1.ReplayClass_REPLAY_CLASS_ONCE},
		"latest":   {Name: "show", Payload: &operatorv1.CommandSpec_Protobuf{Protobuf: []byte{0, 1, 255}}, Replay: operatorv1.ReplayClass_REPLAY_CLASS_LATEST_WINS},
		"defaults": {Name: "identify"},
	} {
		sent := c.send(t, &operatorv1.SendCommandRequest{DeviceId: "a-0", Key: name, Spec: spec})
		got := must(c.commands.GetCommand(testContext(t), req(&operatorv1.GetCommandRequest{Id: name})))(t).Msg
		if !proto.Equal(got.GetCommand(), sent.GetCommand()) || sent.GetExisted() || sent.GetCommand().GetId() != name {
			t.Errorf("%s: sent %v, got %v", name, sent, got.GetCommand())
		}
		want := proto.CloneOf(spec)
		if want.Payload == nil {
			want.Payload = &operatorv1.CommandSpec_Json{Json: "{}"}
		}
		if want.Ttl == nil {
			want.Ttl = durationpb.New(time.Hour)
		}
		if want.Timeout == nil {
			want.Timeout = durationpb.New(30 * time.Second)
		}
		if want.Replay == operatorv1.ReplayClass_REPLAY_CLASS_UNSPECIFIED {
			want.Replay = operatorv1.ReplayClass_REPLAY_CLASS_UNTIL_DELIVERED
		}
		if !proto.Equal(got.GetCommand().GetSpec(), want) {
			t.Errorf("%s: spec %v, want %v", name, got.GetCommand().GetSpec(), want)
		}
		if x := got.GetCommand(); x.GetState() != operatorv1.CommandState_COMMAND_STATE_QUEUED || x.GetOperator() != "root" ||
			x.GetExpires().AsTime().Sub(x.GetCreated().AsTime()) != want.Ttl.AsDuration() || x.GetEnded() != nil || len(got.GetEvents()) != 1 {
			t.Errorf("%s: %v with %v", name, x, got.GetEvents())
		}
	}
}

// Each refusal has its code and says what is wrong; nothing was accepted.
func TestCommandRefusals(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	c := h.as(h.admin)
	h.device("a-0", "a")
	h.device("full", "a")
	h.device("off", "a")
	must(c.devices.SetDeviceEnabled(ctx, req(&operatorv1.SetDeviceEnabledRequest{Id: "off", Enabled: false})))(t)
	for i := range commands.DefaultMaxPending {
		c.send(t, toDevice("full", fmt.Sprint("k", i)))
	}
	c.send(t, toDevice("a-0", "taken"))
	before := h.commands.Pending()
	with := func(change func(*operatorv1.SendCommandRequest)) *operatorv1.SendCommandRequest {
		m := toDevice("a-0", "")
		change(m)
		return m
	}
	for name, want := range map[string]struct {
		m    *operatorv1.SendCommandRequest
		code connect.Code
		says string
	}{
		"51st pending":    {toDevice("full", ""), connect.CodeResourceExhausted, "has 50 commands without an end, and may have 50"},
		"unknown device":  {toDevice("none", ""), connect.CodeNotFound, `device "none"`},
		"no device":       {toDevice("", ""), connect.CodeInvalidArgument, "device id"},
		"disabled device": {toDevice("off", ""), connect.CodeFailedPrecondition, "device off: device is disabled"},
		"payload too large": {with(func(m *operatorv1.SendCommandRequest) {
			m.Spec.Payload = &operatorv1.CommandSpec_Json{Json: `{"a":"` + strings.Repeat("x", 16<<10) + `"}`}
		}), connect.CodeInvalidArgument, "payload of 16392 bytes is over the limit of 16384"},
		"payload is no object": {with(func(m *operatorv1.SendCommandRequest) { m.Spec.Payload = &operatorv1.CommandSpec_Json{Json: `[1]`} }),
			connect.CodeInvalidArgument, "not one JSON object"},
		"key of another command": {with(func(m *operatorv1.SendCommandRequest) { m.Key, m.Spec.Name = "taken", "identify" }),
			connect.CodeAlreadyExists, "the key was used for a different command"},
		"key of another device": {toDevice("full", "taken"), connect.CodeAlreadyExists, "the key was used"},
		"bad key":               {toDevice("a-0", "a b"), connect.CodeInvalidArgument, "key"},
		"no spec":               {with(func(m *operatorv1.SendCommandRequest) { m.Spec = nil }), connect.CodeInvalidArgument, "spec is missing"},
		"bad name":              {with(func(m *operatorv1.SendCommandRequest) { m.Spec.Name = "a b" }), connect.CodeInvalidArgument, "command name"},
		"ttl of nothing":        {with(func(m *operatorv1.SendCommandRequest) { m.Spec.Ttl = durationpb.New(0) }), connect.CodeInvalidArgument, "ttl must be above 0"},
		"ttl of two months":     {with(func(m *operatorv1.SendCommandRequest) { m.Spec.Ttl = durationpb.New(1500 * time.Hour) }), connect.CodeInvalidArgument, "ttl"},
		"timeout of a week":     {with(func(m *operatorv1.SendCommandRequest) { m.Spec.Timeout = durationpb.New(168 * time.Hour) }), connect.CodeInvalidArgument, "timeout"},
		"unknown replay class":  {with(func(m *operatorv1.SendCommandRequest) { m.Spec.Replay = 9 }), connect.CodeInvalidArgument, "replay class 9"},
	} {
		_, err := c.commands.SendCommand(ctx, req(want.m))
		wantCode(t, name, err, want.code)
		var e *connect.Error
		if errors.As(err, &e) && !strings.Contains(e.Message(), want.says) {
			t.Errorf("%s: says %q, want %q in it", name, e.Message(), want.says)
		}
	}
	if now := h.commands.Pending(); now != before {
		t.Errorf("%d commands are pending, %d were", now, before)
	}
	_, err := c.commands.GetCommand(ctx, req(&operatorv1.GetCommandRequest{Id: "none"}))
	wantCode(t, "get of none", err, connect.CodeNotFound)
	_, err = c.commands.CancelCommand(ctx, req(&operatorv1.CancelCommandRequest{Id: "none"}))
	wantCode(t, "cancel of none", err, connect.CodeNotFound)
	must(c.commands.CancelCommand(ctx, req(&operatorv1.CancelCommandRequest{Id: "taken"})))(t)
	_, err = c.commands.CancelCommand(ctx, req(&operatorv1.CancelCommandRequest{Id: "taken"}))
	wantCode(t, "cancel of what has ended", err, connect.CodeFailedPrecondition)
	_, err = c.commands.ListCommands(ctx, req(&operatorv1.ListCommandsRequest{States: []operatorv1.CommandState{11}}))
	wantCode(t, "a list of an unknown state", err, connect.CodeInvalidArgument)
	_, err = c.commands.ListCommands(ctx, req(&operatorv1.ListCommandsRequest{PageToken: "AAAA"}))
	wantCode(t, "a list with a bad token", err, connect.CodeInvalidArgument)
}

// The same key and body is the same command, whatever has become of it.
func TestCommandKeyAnswersTheSame(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	c := h.as(h.admin)
	first := c.send(t, toDevice("a-0", "k"))
	again := toDevice("a-0", "k")
	again.Spec.Payload = &operatorv1.CommandSpec_Json{Json: ` { "on" : true } `}
	if second := c.send(t, again); !second.GetExisted() || !proto.Equal(second.GetCommand(), first.GetCommand()) {
		t.Errorf("first %v, second %v", first, second)
	}
	if n := h.commands.Pending(); n != 1 {
		t.Errorf("%d commands are pending", n)
	}
	canceled := must(c.commands.CancelCommand(testContext(t), req(&operatorv1.CancelCommandRequest{Id: "k"})))(t).Msg
	if third := c.send(t, toDevice("a-0", "k")); !third.GetExisted() || !proto.Equal(third.GetCommand(), canceled.GetCommand()) {
		t.Errorf("after its end: %v", third)
	}
	must(c.commands.SendCommand(testContext(t), req(toDevice("a-0", ""))))(t)
	if n := h.commands.Pending(); n != 1 {
		t.Errorf("%d commands are pending after one without a key", n)
	}
}

// A watcher of one command sees each state and then the end of the stream.
func TestWatchOneCommandToItsEnd(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	c := h.as(h.token("ann", registry.RoleViewer, "site=a"))
	id := h.as(h.admin).send(t, toDevice("a-0", "")).GetCommand().GetId()
	stream := must(c.commands.WatchCommands(testContext(t), req(&operatorv1.WatchCommandsRequest{Id: id})))(t)
	defer stream.Close()
	next := func(want operatorv1.CommandState) *operatorv1.Command {
		t.Helper()
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		if got := stream.Msg().GetCommand(); got.GetState() != want || got.GetId() != id {
			t.Fatalf("got %v, want %v", got, want)
		}
		return stream.Msg().GetCommand()
	}
	next(operatorv1.CommandState_COMMAND_STATE_QUEUED)
	must(h.as(h.admin).commands.CancelCommand(testContext(t), req(&operatorv1.CancelCommandRequest{Id: id})))(t)
	if c := next(operatorv1.CommandState_COMMAND_STATE_CANCELED); c.GetReason() != "canceled by root before it was sent" {
		t.Errorf("reason %q", c.GetReason())
	}
	if stream.Receive() || stream.Err() != nil {
		t.Errorf("after its end: %v, %v", stream.Msg(), stream.Err())
	}
	_, err := h.commands.Update(context.Background(), "a-0", 1, &devicev1.CommandUpdate{Id: id, Phase: devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED})
	if err != nil {
		t.Error(err)
	}
	// Only a hub whose data was put back from an older copy hears such words.
	if got := must(c.commands.GetCommand(testContext(t), req(&operatorv1.GetCommandRequest{Id: id})))(t).Msg.GetCommand(); !strings.Contains(got.GetReason(), "no record of having sent it") {
		t.Errorf("reason %q", got.GetReason())
	}
}
