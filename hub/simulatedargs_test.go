package hub_test

import (
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// What a simulated device refuses it refuses in words that name the argument,
// what came, and what is wanted.
func TestSimulatedDevicesRefuseInWords(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	runSimulated(t, h.Endpoint, "sim", t.TempDir(), func(string) {})
	for _, c := range []struct{ name, args, want string }{
		{"set-relay", `{"on":"fast"}`, `argument on: is "fast"; true or false is wanted`},
		{"set-relay", `{}`, `argument on: is missing; true or false is wanted`},
		{"set-relay", `{"on":true,"relay":9}`, `argument relay: is 9; 1 to 4 is wanted`},
		{"set-relay", `{"on":true,"relais":1}`, `argument relais: is not known; this command takes on, relay`},
		{"set-interval", `{}`, `argument seconds: is missing; 0.01 to 3600 is wanted`},
		{"set-interval", `{"seconds":"1s"}`, `argument seconds: is "1s"; a number is wanted`},
		{"set-interval", `{"seconds":0}`, `argument seconds: is 0; 0.01 to 3600 is wanted`},
		{"fail", `{"code":"x"}`, `argument code: is "x"; a whole number from 0 to 4294967295 is wanted`},
	} {
		spec := &operatorv1.CommandSpec{Name: c.name, Payload: &operatorv1.CommandSpec_Json{Json: c.args}, Timeout: durationpb.New(hubtest.Patience)}
		answer, err := h.Commands.SendCommand(t.Context(), connect.NewRequest(&operatorv1.SendCommandRequest{DeviceId: "sim", Spec: spec}))
		if err != nil {
			t.Fatal(err)
		}
		id := answer.Msg.Command.Id
		hubtest.Eventually(t, c.name+c.args+" has ended", func() bool { return ended(command(t, h.Endpoint, id).Command.State) })
		if got := command(t, h.Endpoint, id).Command; got.State != operatorv1.CommandState_COMMAND_STATE_REJECTED || got.Message != c.want {
			t.Errorf("%s %s: %s %q, want %q", c.name, c.args, got.State, got.Message, c.want)
		}
	}
}
