package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}

// Every command says what it is, and its examples name commands, flags and
// numbers of arguments that there are.
func TestHelpIsCompleteAndItsExamplesParse(t *testing.T) {
	a := &app{env: func(string) string { return "" }}
	examples := 0
	walk(a.root(), func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.CommandPath())
		}
		if !cmd.Runnable() {
			if cmd.Long == "" {
				t.Errorf("the topic %s says nothing", cmd.CommandPath())
			}
			return
		}
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, line := range strings.Split(cmd.Example, "\n") {
			_, text, ok := strings.Cut(line, "hubctl ")
			if !ok {
				t.Errorf("%s: example %q", cmd.CommandPath(), line)
				continue
			}
			for _, end := range []string{" | ", " > ", ")"} {
				text, _, _ = strings.Cut(text, end)
			}
			root := a.root()
			found, rest, err := root.Find(strings.Fields(text))
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil {
				err = found.ValidateArgs(found.Flags().Args())
			}
			if err != nil || found == root && len(found.Flags().Args()) > 0 {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			}
			examples++
		}
	})
	if examples < 50 {
		t.Errorf("only %d examples", examples)
	}
}

func TestHelpListsExitCodes(t *testing.T) {
	got := runWith(t, nil, "", "help", "exit-codes").want(t, exitOK).out
	for state, code := range outcomeExit {
		if code != exitOK {
			wantContains(t, got, stateName(state))
		}
	}
	wantContains(t, runWith(t, nil, "", "help", "connecting").want(t, exitOK).out, "TETHERLINE_CONTEXT")
}

func TestCompletion(t *testing.T) {
	p := newPeer(t)
	answer(p, rpc.DeviceServiceListDevicesProcedure, func(r *operatorv1.ListDevicesRequest) (*operatorv1.ListDevicesResponse, error) {
		if r.IdPrefix != "pu" {
			t.Errorf("prefix %q", r.IdPrefix)
		}
		return &operatorv1.ListDevicesResponse{Devices: []*operatorv1.Device{{Id: "pump-1", Enabled: true}, {Id: "pu$(rm -rf)"}}}, nil
	})
	always(p, rpc.DeviceServiceGetDeviceProcedure, &operatorv1.GetDeviceRequest{}, &operatorv1.GetDeviceResponse{Device: &operatorv1.Device{
		Description: &operatorv1.Description{
			Commands: []*operatorv1.CommandDescription{{Name: "set_speed"}, {Name: "`reboot`"}},
			Fields:   []*operatorv1.FieldDescription{{Name: "flow"}},
		}}})
	wantText(t, p.hubctl("__complete", "device", "show", "pu").want(t, exitOK).out, "pump-1\tnever seen\n:4\n")
	wantText(t, p.hubctl("__complete", "command", "send", "pump-1", "").want(t, exitOK).out, "set_speed\n:4\n")
	wantText(t, p.hubctl("__complete", "telemetry", "plot", "pump-1", "").want(t, exitOK).out, "flow\n:4\n")
	wantText(t, p.hubctl("__complete", "command", "ls", "--state", "Q").want(t, exitOK).out, "QUEUED\n:4\n")
	env := p.env()
	env["TETHERLINE_HUB"] = "https://127.0.0.1:1"
	wantText(t, runWith(t, env, "", "__complete", "device", "show", "pu").want(t, exitOK).out, ":4\n")
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		wantContains(t, p.hubctl("completion", shell).want(t, exitOK).out, "hubctl", "__complete")
	}
	p.hubctl("completion", "tcsh").want(t, exitUsage)
}
