package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

func noCommand(p *peer) {
	answer(p, rpc.CommandServiceGetCommandProcedure, func(r *operatorv1.GetCommandRequest) (*operatorv1.GetCommandResponse, error) {
		return nil, connect.NewError(connect.CodeNotFound, errors.New(`command "`+r.Id+`": no such command`))
	})
}

func noGroup(p *peer) {
	answer(p, rpc.CommandServiceGetGroupProcedure, func(*operatorv1.GetGroupRequest) (*operatorv1.GetGroupResponse, error) {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such command"))
	})
}

// A refused command has a story: who sent it, when, to what, and what was
// wrong; and what there is none of says how far back it was looked for.
func TestWhyTellsOfARefusedCommand(t *testing.T) {
	p := newPeer(t)
	noCommand(p)
	noGroup(p)
	at := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	answer(p, rpc.CommandServiceListRefusedCommandsProcedure, func(r *operatorv1.ListRefusedCommandsRequest) (*operatorv1.ListRefusedCommandsResponse, error) {
		if r.Key != "night" {
			return &operatorv1.ListRefusedCommandsResponse{SearchedSince: at}, nil
		}
		return &operatorv1.ListRefusedCommandsResponse{Refused: []*operatorv1.RefusedCommand{
			{Time: at, Operator: "ann", DeviceId: "pump-1", Name: "re\aboot", Code: "resource_exhausted", Reason: "device pump-1 has 50 commands"},
			{Time: at, Operator: "bob", Selector: "site=a", Name: "reboot", Code: "failed_precondition", Reason: "matches too many"},
		}}, nil
	})
	got := p.hubctl("command", "why", "night").want(t, exitOK).out
	wantContains(t, got, "night: REFUSED by the hub; nothing was sent", "2026-03-01 12:00:00.000 UTC", `ann sent "re\aboot" to pump-1: device pump-1 has 50 commands (resource_exhausted)`,
		`bob sent "reboot" to all that match site=a: matches too many (failed_precondition)`, "may be sent again")
	wantContains(t, p.hubctl("command", "why", "night", "-o", "json").want(t, exitOK).out, `"resource_exhausted"`)
	wantContains(t, p.hubctl("command", "why", "night", "-o", "csv").want(t, exitOK).out, "2026-03-01T12:00:00Z,bob,,site=a,reboot,failed_precondition,matches too many\n")
	wantContains(t, p.hubctl("command", "why", "day").want(t, exitNotFound).stderr, `command "day": no such command`, "audit log back to 2026-03-01", "hubctl command ls")

	// A key that a command has, and that was tried for another one.
	p = newPeer(t)
	always(p, rpc.CommandServiceGetCommandProcedure, &operatorv1.GetCommandRequest{}, &operatorv1.GetCommandResponse{
		Command: &operatorv1.Command{Id: "night", State: failed, Ended: at}})
	always(p, rpc.CommandServiceListRefusedCommandsProcedure, &operatorv1.ListRefusedCommandsRequest{}, &operatorv1.ListRefusedCommandsResponse{
		Refused: []*operatorv1.RefusedCommand{{Time: at, Operator: "bob", DeviceId: "d", Name: "other", Code: "already_exists", Reason: "another command's"}}})
	wantContains(t, p.hubctl("command", "why", "night").want(t, exitOK).out, "refused what was sent with the same key", "bob sent")
}

// A refused send says that nothing was sent, and where that can be read again.
func TestRefusedSendNamesWhy(t *testing.T) {
	p := newPeer(t)
	answer(p, rpc.CommandServiceSendCommandProcedure, func(*operatorv1.SendCommandRequest) (*operatorv1.SendCommandResponse, error) {
		return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("device pump-1 has 50 commands; wait for one to end"))
	})
	got := p.hubctl("command", "send", "pump-1", "go", "--key", "k1").want(t, exitError)
	wantContains(t, got.stderr, "nothing was sent", "'hubctl command why k1'", "has 50 commands; wait for one to end")
	if got := p.hubctl("command", "send", "pump-1", "go").want(t, exitError); strings.Contains(got.stderr, "command why") {
		t.Errorf("a key that nobody knows: %s", got.stderr)
	}
}

// A group names who got no command, on the screen, in the story and in CSV.
func TestGroupNamesWhoGotNoCommand(t *testing.T) {
	p := newPeer(t)
	noCommand(p)
	g := &operatorv1.Group{
		Id: "g1", Selector: "site=a", State: "DONE", Total: 106, Issued: 3, Refused: 103, Operator: "ann", RatePerSecond: 10, StopAfterFailureShare: 0.1,
		Spec: &operatorv1.CommandSpec{Name: "reboot"}, ByState: map[string]uint32{"SUCCEEDED": 2, "FAILED": 1}, Reason: "every command has ended",
		Refusals: []*operatorv1.Group_Refusal{{DeviceId: "d1", Reason: "is disabled by bob"}, {DeviceId: "d2", Reason: "has 50 commands without an end"}},
	}
	always(p, rpc.CommandServiceGetGroupProcedure, &operatorv1.GetGroupRequest{}, &operatorv1.GetGroupResponse{Group: g})
	always(p, rpc.CommandServiceSendGroupCommandProcedure, &operatorv1.SendGroupCommandRequest{}, &operatorv1.SendGroupCommandResponse{Group: g})
	answer(p, rpc.CommandServiceListCommandsProcedure, func(r *operatorv1.ListCommandsRequest) (*operatorv1.ListCommandsResponse, error) {
		if r.GroupId != "g1" || len(r.States) != 4 {
			t.Errorf("asked for %v", r)
		}
		return &operatorv1.ListCommandsResponse{Commands: []*operatorv1.Command{{Id: "g1.x", DeviceId: "d7", State: failed, Reason: "the device reports failure", Message: "stuck"}}}, nil
	})
	sent := p.hubctl("command", "send", "--selector", "site=a", "reboot", "--stop-after-failures", "10%", "--wait").want(t, exitPartial)
	wantContains(t, sent.stderr, "issues 10 a second")
	for what, text := range map[string]string{"send": sent.out, "show": p.hubctl("command", "group", "show", "g1").want(t, exitOK).out} {
		for _, part := range []string{"d1 is disabled by bob", "d2 has 50 commands without an end", "and 101 more", "counted of at least 10"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s does not say %q:\n%s", what, part, text)
			}
		}
	}
	wantContains(t, p.hubctl("command", "why", "g1").want(t, exitOK).out, `"reboot" to the 106 devices that match site=a: DONE`, "Sent by ann",
		"3 of 106 issued: 2 SUCCEEDED, 1 FAILED, 103 refused", "  d1 is disabled by bob\n", "  and 101 more\n", "  d7  FAILED  g1.x  the device reports failure; stuck\n")
	wantContains(t, p.hubctl("command", "group", "show", "g1", "-o", "csv").want(t, exitOK).out, "d1 is disabled by bob; d2 has 50 commands without an end; and 101 more")
}

// The progress of a group says at how many failures it stops.
func TestGroupProgressShowsTheFloor(t *testing.T) {
	for _, c := range []struct {
		share        float64
		total, ended uint32
		want         string
	}{
		{0.1, 200, 0, "stops at 1 failed of 10"},
		{0.5, 200, 3, "stops at 5 failed of 10"},
		{0.25, 200, 40, "stops at 10 failed of 40"},
		{0.3, 4, 1, "stops at 2 failed of 4"},
		{0, 4, 1, ""},
	} {
		g := &operatorv1.Group{State: "RUNNING", Total: c.total, StopAfterFailureShare: c.share, ByState: map[string]uint32{"SUCCEEDED": c.ended}}
		wantText(t, groupStops(g), c.want)
	}
}

// An answer without a code shows none, and a result that is not JSON says
// what it is.
func TestAnswersSayWhatTheyAre(t *testing.T) {
	for want, b := range map[string][]byte{
		`"ok\n" (3 bytes, not JSON)`:      []byte("ok\n"),
		`AP8= (2 bytes, as base64)`:       {0, 0xff},
		`"" (0 bytes, not JSON)`:          {},
		`"ü" (2 bytes, not JSON)`:         []byte("ü"),
		`Gw== (1 byte, as base64)`:        {0x1b},
		`Ycw= (2 bytes, as base64)`:       {'a', 0xcc},
		`"a,b" (3 bytes, not JSON)`:       []byte("a,b"),
		`"ein \"x\"" (7 bytes, not JSON)`: []byte(`ein "x"`),
	} {
		wantText(t, commandResult(&operatorv1.Command{Result: &operatorv1.Command_Protobuf{Protobuf: b}}), want)
	}
	wantText(t, answerWords(&operatorv1.Command{State: failed, Code: 2, NoCode: true}), "no code")
	wantText(t, answerWords(&operatorv1.Command{State: failed, Code: 2, NoCode: true, Message: "stuck"}), "no code: stuck")
	wantText(t, eventWords(&operatorv1.CommandEvent{State: failed, Code: 2, NoCode: true, Reason: "the device reports failure", Message: "stuck"}), `the device reports failure, without a code; it says "stuck"`)
	wantText(t, resultEncoding(&operatorv1.Command{Result: &operatorv1.Command_Protobuf{}}), "base64")
}

// A token that ends while a call waits is told as that, with what was done.
func TestRemovedOperatorIsTold(t *testing.T) {
	p := newPeer(t)
	answer(p, rpc.CommandServiceSendCommandProcedure, func(*operatorv1.SendCommandRequest) (*operatorv1.SendCommandResponse, error) {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("the operator's token has been revoked while the call was under way; done: command=go id=k"))
	})
	wantContains(t, p.hubctl("command", "send", "pump-1", "go").want(t, exitUnauthorized).stderr, "has been revoked while the call was under way", "id=k")
}
