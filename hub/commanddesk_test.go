package hub_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// builtPrograms are what users have, built once for all tests.
var builtPrograms struct {
	once sync.Once
	dir  string
	err  error
}

// programs is the folder of hubd, hubctl and firmware-sim.
func programs(t testing.TB) (bin string) {
	t.Helper()
	b := &builtPrograms
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "tetherline-programs-"); b.err != nil {
			return
		}
		if out, err := exec.Command("go", "build", "-o", b.dir+string(filepath.Separator), "../cmd/...").CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatalf("build the programs: %v", b.err)
	}
	return b.dir
}

// removePrograms is for the end of all tests.
func removePrograms() {
	if dir := builtPrograms.dir; dir != "" {
		_ = os.RemoveAll(dir)
	}
}

// desk is an operator's place: the API, and hubctl as a program of its own.
type desk struct {
	hubtest.Endpoint
	hubctl string
	ca     string
}

// run runs hubctl with the admin's token.
func (d *desk) run(t testing.TB, args ...string) (code int, out, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), d.hubctl, args...)
	cmd.Env = []string{"TETHERLINE_HUB=" + d.URL, "TETHERLINE_TOKEN=" + d.Token, "TETHERLINE_CA=" + d.ca, "TZ=UTC", "HOME=" + os.DevNull}
	var stdout, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &words
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run hubctl: %v", err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), words.String()
}

// want runs hubctl and fails where it exits otherwise.
func (d *desk) want(t testing.TB, code int, args ...string) (out string) {
	t.Helper()
	got, out, stderr := d.run(t, args...)
	if got != code {
		t.Fatalf("hubctl %s exits %d; want %d\n%s%s", strings.Join(args, " "), got, code, out, stderr)
	}
	return out + stderr
}

// command reads a command by the API.
func command(t testing.TB, h hubtest.Endpoint, id string) *operatorv1.GetCommandResponse {
	t.Helper()
	answer, err := h.Commands.GetCommand(t.Context(), connect.NewRequest(&operatorv1.GetCommandRequest{Id: id}))
	if err != nil {
		t.Fatalf("command %s: %v", id, err)
	}
	return answer.Msg
}

// send sends a command by the API. The spec's name stands for its key too.
func send(t testing.TB, h hubtest.Endpoint, id, key string, spec *operatorv1.CommandSpec) {
	t.Helper()
	_, err := h.Commands.SendCommand(t.Context(), connect.NewRequest(&operatorv1.SendCommandRequest{DeviceId: id, Key: key, Spec: spec}))
	if err != nil {
		t.Fatalf("send %s: %v", key, err)
	}
}

// await waits until a command is in a state, by its name in the tables.
func await(t testing.TB, h hubtest.Endpoint, id, state string) *operatorv1.Command {
	t.Helper()
	var now *operatorv1.Command
	var events []*operatorv1.CommandEvent
	defer func() {
		if t.Failed() {
			t.Logf("%s is %s: %v", id, stateName(now), events)
		}
	}()
	hubtest.Eventually(t, id+" is "+state, func() bool {
		answer := command(t, h, id)
		now, events = answer.Command, answer.Events
		if s := stateName(now); s != state && ended(now.State) && !decidedByHub(now.State) {
			t.Fatalf("%s has ended as %s (%s); want %s", id, s, now.Reason, state)
		}
		return stateName(now) == state
	})
	return now
}

func stateName(c *operatorv1.Command) string {
	return strings.TrimPrefix(c.GetState().String(), "COMMAND_STATE_")
}

// wantCommand reads frames until a command comes.
func (p *peer) wantCommand() *devicev1.Command {
	p.t.Helper()
	for {
		if c := p.next().GetCommand(); c != nil {
			return c
		}
	}
}

// wantCancel reads frames until a cancellation comes.
func (p *peer) wantCancel(id string) {
	p.t.Helper()
	for {
		if c := p.next().GetCommandCancel(); c != nil {
			if c.Id != id {
				p.t.Fatalf("cancellation of %s; want %s", c.Id, id)
			}
			return
		}
	}
}

// say sends the device's word on a command.
func (p *peer) say(u *devicev1.CommandUpdate) {
	p.t.Helper()
	p.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_CommandUpdate{CommandUpdate: u}})
}

// obeying is an SDK device with one command.
func obeying(t testing.TB, h hubtest.Endpoint, c device.Credential, name string, handler client.Handler) (*client.Client, func() error) {
	t.Helper()
	cfg := h.Client(c)
	cfg.Commands = map[string]client.Handler{name: handler}
	return hubtest.Run(t, cfg)
}

const (
	phaseDelivered = devicev1.CommandPhase_COMMAND_PHASE_DELIVERED
	phaseSucceeded = devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED
	phaseCanceled  = devicev1.CommandPhase_COMMAND_PHASE_CANCELED
)
