package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// scene is a command that comes to an end, and how operators are shown it.
type scene struct {
	name  string
	flags []string // of hubctl command send
	// play has it sent and brings it to its end. The key is the scene's name.
	play  func(t *testing.T, d *desk, c device.Credential, send func())
	state string
	exit  int      // of hubctl command send --wait
	why   []string // parts of the story, in this order
}

var scenes = []scene{
	{name: "succeeded", flags: []string{"--arg", "on=true"}, play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		obeying(t, d.Endpoint, c, "act", client.Handler{Run: func(context.Context, *client.Command) (client.Result, error) {
			return client.JSONResult(map[string]int{"was": 0})
		}})
		send()
	}, state: "SUCCEEDED", why: []string{`Payload: {"on":true}`, "accepted from admin", "sent to the device", "node test-node, session", "the device reports success", `It did what it should. Result: {"was":0}`}},

	{name: "failed", play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		obeying(t, d.Endpoint, c, "act", client.Handler{Run: func(context.Context, *client.Command) (client.Result, error) {
			return client.Result{}, client.Fail(client.CodeFailed, "valve stuck")
		}})
		send()
	}, state: "FAILED", exit: 10, why: []string{`the device reports failure, code 9 (failed_precondition); it says "valve stuck"`, "It is not sent again."}},

	{name: "rejected", play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		obeying(t, d.Endpoint, c, "other", client.Handler{Run: nothing})
		send()
	}, state: "REJECTED", exit: 11, why: []string{"the device does not accept it; nothing was done, code 12 (unimplemented)", "refused it and did nothing"}},

	{name: "never-connected", flags: []string{"--ttl", "1s"}, play: func(_ *testing.T, _ *desk, _ device.Credential, send func()) { send() },
		state: "EXPIRED", exit: 13, why: []string{"accepted", "the device was not connected within the TTL of 1s; it was never sent", "The device never got it and did nothing."}},

	{name: "not-confirmed", flags: []string{"--ttl", "5s"}, play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		p := connectPeer(t, d.Endpoint, c)
		send()
		p.wantCommand()
	}, state: "EXPIRED", exit: 13, why: []string{"sent to the device", "not confirmed within the TTL of 5s: it may have reached the device", "Whether the device got it is not known."}},

	{name: "no-answer", flags: []string{"--timeout", "300ms"}, play: silence,
		state: "TIMED_OUT", exit: 12, why: []string{"the device has it", "delivered, but no end within 300ms", "whether it has done it is not known. Should its answer still come"}},

	{name: "late-answer", flags: []string{"--timeout", "300ms"}, play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		p := connectPeer(t, d.Endpoint, c)
		send()
		id := p.wantCommand().Id
		p.say(&devicev1.CommandUpdate{Id: id, Phase: phaseDelivered})
		await(t, d.Endpoint, id, "TIMED_OUT")
		p.say(&devicev1.CommandUpdate{Id: id, Phase: phaseSucceeded, Result: &devicev1.CommandUpdate_Json{Json: `{"late":true}`}})
	}, state: "SUCCEEDED", why: []string{"no end within 300ms", "the device reports success, after the hub had ended it as TIMED_OUT", `Result: {"late":true}`}},

	{name: "once-and-lost", flags: []string{"--replay", "once", "--timeout", "1s"}, play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		p := connectPeer(t, d.Endpoint, c)
		send()
		p.wantCommand()
		_ = p.ws.Close()
		p = connectPeer(t, d.Endpoint, c)
		d.want(t, 0, "command", "send", c.ID, "act", "--key", "after-once")
		if got := p.wantCommand(); got.Id != "after-once" {
			t.Errorf("%s has come on the next connection", got.Id)
		}
		p.say(&devicev1.CommandUpdate{Id: "after-once", Phase: phaseSucceeded})
	}, state: "TIMED_OUT", exit: 12, why: []string{"It is sent once", "delivery unknown; not resent: the connection was lost", "is not known"}},

	{name: "canceled-unsent", play: func(t *testing.T, d *desk, _ device.Credential, send func()) {
		send()
		d.want(t, 0, "command", "cancel", "canceled-unsent")
	}, state: "CANCELED", exit: 14, why: []string{"canceled by admin before it was sent", "The device never got it and did nothing."}},

	{name: "canceled-sent", play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		p := connectPeer(t, d.Endpoint, c)
		send()
		id := p.wantCommand().Id
		d.want(t, 0, "command", "cancel", id)
		p.wantCancel(id)
		if now := command(t, d.Endpoint, id).Command; stateName(now) != "SENT" || now.Reason != "cancellation requested by admin" {
			t.Errorf("before the device's word: %v", now)
		}
		p.say(&devicev1.CommandUpdate{Id: id, Phase: phaseCanceled})
	}, state: "CANCELED", exit: 14, why: []string{"sent to the device", "cancellation requested by admin", "the device has stopped it", "what it had done by then, if it had begun, stays done"}},

	{name: "canceled-running", play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		obeying(t, d.Endpoint, c, "act", client.Handler{Run: func(ctx context.Context, cmd *client.Command) (client.Result, error) {
			cmd.Progress(40, "half open")
			<-ctx.Done()
			return client.Result{}, errors.New("stopped half open")
		}})
		send()
		await(t, d.Endpoint, "canceled-running", "RUNNING")
		d.want(t, 0, "command", "cancel", "canceled-running")
	}, state: "CANCELED", exit: 14, why: []string{`the device reports 40 %; it says "half open"`, "cancellation requested by admin", `the device has stopped it; it says "stopped half open"`}},

	{name: "canceled-too-late", play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		begun, goOn := make(chan struct{}), make(chan struct{})
		obeying(t, d.Endpoint, c, "act", client.Handler{Run: func(context.Context, *client.Command) (client.Result, error) {
			close(begun)
			<-goOn
			return client.Result{}, nil
		}})
		send()
		<-begun
		d.want(t, 0, "command", "cancel", "canceled-too-late")
		close(goOn)
	}, state: "SUCCEEDED", why: []string{"cancellation requested by admin", "the device reports success", "It did what it should."}},

	{name: "superseded", flags: []string{"--replay", "latest-wins"}, play: func(t *testing.T, d *desk, c device.Credential, send func()) {
		send()
		d.want(t, 0, "command", "send", c.ID, "act", "--replay", "latest-wins", "--key", "newer")
	}, state: "CANCELED", exit: 14, why: []string{"superseded by the newer command newer", "The device never got it and did nothing."}},
}

func nothing(context.Context, *client.Command) (client.Result, error) { return client.Result{}, nil }

// silence is a device that takes a command and is not heard of again.
func silence(t *testing.T, d *desk, c device.Credential, send func()) {
	p := connectPeer(t, d.Endpoint, c)
	send()
	p.say(&devicev1.CommandUpdate{Id: p.wantCommand().Id, Phase: phaseDelivered})
}

// However a command ends, the API, hubctl's lists, its exit code and the
// story of why agree.
func TestEveryEndIsShownTheSameEverywhere(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	h := hubtest.Start(t, cfg)
	d := &desk{Endpoint: h.Endpoint, hubctl: filepath.Join(programs(t), "hubctl"), ca: filepath.Join(cfg.Data, "ca.pem")}
	t.Run("scenes", func(t *testing.T) {
		for _, s := range scenes {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				c := d.CreateDevice(t, "device-"+s.name)
				args := append([]string{"command", "send", c.ID, "act", "--key", s.name}, s.flags...)
				s.play(t, d, c, func() { d.want(t, 0, args...) })
				await(t, d.Endpoint, s.name, s.state)
				d.wantShown(t, &s, c.ID)
				// The same key and body is the same command: nothing is sent,
				// and the exit code is that of its end.
				if out := d.want(t, s.exit, append(args, "--wait")...); !strings.Contains(out, "nothing new was sent") {
					t.Errorf("the repeated request says:\n%s", out)
				}
			})
		}
	})
	if pending := status(t, d.Endpoint).CommandsPending; pending != 1 { // "newer"
		t.Errorf("%d commands are pending; want one", pending)
	}
}

// wantShown compares the ways to look at a command.
func (d *desk) wantShown(t *testing.T, s *scene, deviceID string) {
	t.Helper()
	byAPI := command(t, d.Endpoint, s.name)
	list, err := d.Commands.ListCommands(t.Context(), connect.NewRequest(&operatorv1.ListCommandsRequest{DeviceId: deviceID, States: []operatorv1.CommandState{byAPI.Command.State}}))
	if err != nil || !slices.ContainsFunc(list.Msg.Commands, func(c *operatorv1.Command) bool { return c.Id == s.name && c.Reason == byAPI.Command.Reason }) {
		t.Errorf("the list of the API: %v, %v", list, err)
	}
	var shown struct{ State, Reason string }
	if err := json.Unmarshal([]byte(d.want(t, 0, "-o", "json", "command", "show", s.name)), &shown); err != nil {
		t.Error(err)
	}
	if !strings.HasSuffix(shown.State, s.state) || shown.Reason != byAPI.Command.Reason {
		t.Errorf("hubctl shows %+v; the API %v", shown, byAPI.Command)
	}
	if table := d.want(t, 0, "command", "ls", "--device", deviceID, "--state", s.state); !strings.Contains(table, s.name) {
		t.Errorf("hubctl lists:\n%s", table)
	}
	story := d.want(t, 0, "command", "why", s.name)
	head, rest, _ := strings.Cut(story, "\n")
	if !strings.Contains(head, `"act" to `+deviceID+": "+s.state) {
		t.Errorf("the story begins with %q", head)
	}
	for _, part := range s.why {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Errorf("the story does not say %q, or not in its place:\n%s", part, story)
			continue
		}
		rest = after
	}
	lines := strings.Split(strings.TrimSpace(story), "\n")
	if last := byAPI.Events[len(byAPI.Events)-1]; !strings.Contains(lines[len(lines)-3], last.Reason) || strings.Contains(lines[len(lines)-1], last.Reason) {
		t.Errorf("the story tells its end %q not once:\n%s", last.Reason, story)
	}
}
