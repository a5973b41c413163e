package hub_test

import (
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// What was meant for a device that is deleted never reaches another one that
// is given its name.
func TestCommandsOfADeletedDeviceEnd(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	h.CreateDevice(t, "door")
	for _, key := range []string{"unlock-1", "unlock-2"} {
		send(t, h.Endpoint, "door", key, &operatorv1.CommandSpec{Name: "unlock"})
	}
	if _, err := h.Devices.DeleteDevice(t.Context(), connect.NewRequest(&operatorv1.DeleteDeviceRequest{Id: "door"})); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"unlock-1", "unlock-2"} {
		answer, err := h.Commands.GetCommand(t.Context(), connect.NewRequest(&operatorv1.GetCommandRequest{Id: key}))
		if err != nil {
			t.Fatal(err)
		}
		if c := answer.Msg.Command; c.State != operatorv1.CommandState_COMMAND_STATE_CANCELED || c.Attempts != 0 {
			t.Errorf("%s is %v after %d attempts: %s", key, c.State, c.Attempts, c.Reason)
		} else if c.Reason != "canceled, because the device was removed by admin, before it was sent" {
			t.Errorf("%s: %s", key, c.Reason)
		}
	}
	if n := status(t, h.Endpoint).CommandsPending; n != 0 {
		t.Errorf("%d commands are pending", n)
	}
	// A live device's commands do not end because its name is asked for again.
	h.CreateDevice(t, "door")
	send(t, h.Endpoint, "door", "lock", &operatorv1.CommandSpec{Name: "lock"})
	if _, err := h.Devices.CreateDevice(t.Context(), connect.NewRequest(&operatorv1.CreateDeviceRequest{Device: &operatorv1.NewDevice{Id: "door"}})); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("a second door: %v", err)
	}
	if n := status(t, h.Endpoint).CommandsPending; n != 1 {
		t.Errorf("%d commands are pending; want the one of the new door", n)
	}
}
