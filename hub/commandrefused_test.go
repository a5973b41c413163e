package hub_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// What is not accepted is told in the same words by the API, by hubctl and, by
// its key, by the story of why; it leaves nothing else behind.
func TestRefusedCommandsSayWhy(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	h := hubtest.Start(t, cfg)
	d := &desk{Endpoint: h.Endpoint, hubctl: filepath.Join(programs(t), "hubctl"), ca: filepath.Join(cfg.Data, "ca.pem")}
	for _, id := range []string{"full", "off", "free"} {
		d.CreateDevice(t, id)
	}
	d.want(t, 0, "device", "disable", "off")
	for range commands.DefaultMaxPending {
		send(t, d.Endpoint, "full", "", &operatorv1.CommandSpec{Name: "act"})
	}
	send(t, d.Endpoint, "free", "taken", &operatorv1.CommandSpec{Name: "act"})
	before := status(t, d.Endpoint).CommandsPending
	large := `{"text":"` + strings.Repeat("x", commands.MaxPayloadBytes) + `"}`
	for _, c := range []struct {
		name, device, key, command, json string
		code                             connect.Code
		exit                             int
		says                             string
	}{
		{name: "51st pending", device: "full", code: connect.CodeResourceExhausted, exit: 1, says: "device full has 50 commands without an end, and may have 50"},
		{name: "unknown device", device: "none", code: connect.CodeNotFound, exit: 4, says: `device "none"`},
		{name: "disabled device", device: "off", code: connect.CodeFailedPrecondition, exit: 1, says: "device off: device is disabled by admin on 20"},
		{name: "key of another command", device: "free", key: "taken", command: "other", code: connect.CodeAlreadyExists, exit: 1, says: "key taken: the key was used for a different command"},
		{name: "payload too large", device: "free", json: large, code: connect.CodeInvalidArgument, exit: 2, says: "over the limit of 16384: a device that needs more has to fetch it"},
		{name: "bad name", device: "free", command: "a b", code: connect.CodeInvalidArgument, exit: 2, says: `command name "a b"`},
	} {
		if c.command == "" {
			c.command = "act"
		}
		spec := &operatorv1.CommandSpec{Name: c.command}
		args := []string{"command", "send", c.device, c.command}
		if c.json != "" {
			spec.Payload = &operatorv1.CommandSpec_Json{Json: c.json}
			args = append(args, "--json", c.json)
		}
		if c.key == "" {
			c.key = "refused-" + strings.ReplaceAll(c.name, " ", "-")
		}
		args = append(args, "--key", c.key)
		_, err := d.Commands.SendCommand(t.Context(), connect.NewRequest(&operatorv1.SendCommandRequest{DeviceId: c.device, Key: c.key, Spec: spec}))
		var e *connect.Error
		if !errors.As(err, &e) || e.Code() != c.code || !strings.Contains(e.Message(), c.says) {
			t.Errorf("%s: the API answers %v; want %v with %q", c.name, err, c.code, c.says)
		}
		if out := d.want(t, c.exit, args...); !strings.Contains(out, e.Message()) || !strings.Contains(out, "nothing was sent") {
			t.Errorf("%s: hubctl says %q; the API %v", c.name, out, err)
		}
		told := fmt.Sprintf("admin sent %q to %s: %s (%s)\n", c.command, c.device, e.Message(), c.code)
		if story := d.want(t, 0, "command", "why", c.key); strings.Count(story, told) != 2 {
			t.Errorf("%s: why says\n%s\nwant twice\n%s", c.name, story, told)
		}
	}
	if now := status(t, d.Endpoint).CommandsPending; now != before {
		t.Errorf("%d commands are pending; %d were", now, before)
	}
	if out := d.want(t, 4, "command", "why", "never-sent"); !strings.Contains(out, "no such command") {
		t.Errorf("why of nothing: %s", out)
	}
	d.want(t, 0, "command", "cancel", "taken")
	if out := d.want(t, 1, "command", "cancel", "taken"); !strings.Contains(out, "command taken is CANCELED: has ended already") {
		t.Errorf("cancel of what has ended: %s", out)
	}
	// One that ends makes room for the next.
	list, err := d.Commands.ListCommands(t.Context(), connect.NewRequest(&operatorv1.ListCommandsRequest{DeviceId: "full", PageSize: 1}))
	if err != nil {
		t.Fatal(err)
	}
	d.want(t, 0, "command", "cancel", list.Msg.Commands[0].Id)
	d.want(t, 0, "command", "send", "full", "act")
}
