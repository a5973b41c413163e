package hub_test

import (
	"context"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A command travels down the connection of the readings, runs once, and its
// result comes back.
func TestCommandRunsAndItsResultComesBack(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	cfg := h.Client(h.CreateDevice(t, "relay-1"))
	ran := make(chan bool, 10)
	cfg.Commands = map[string]client.Handler{"set-relay": {Run: func(_ context.Context, cmd *client.Command) (client.Result, error) {
		var args struct{ On bool }
		if err := cmd.Decode(&args); err != nil {
			return client.Result{}, err
		}
		ran <- args.On
		return client.JSONResult(map[string]bool{"was": false})
	}}}
	hubtest.Run(t, cfg)
	sent, err := h.Commands.SendCommand(t.Context(), connect.NewRequest(&operatorv1.SendCommandRequest{
		DeviceId: "relay-1",
		Spec:     &operatorv1.CommandSpec{Name: "set-relay", Payload: &operatorv1.CommandSpec_Json{Json: `{"on":true}`}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := h.Commands.WatchCommands(t.Context(), connect.NewRequest(&operatorv1.WatchCommandsRequest{Id: sent.Msg.Command.Id}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	var last *operatorv1.Command
	for stream.Receive() {
		last = stream.Msg().Command
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if last.GetState() != operatorv1.CommandState_COMMAND_STATE_SUCCEEDED || last.GetJson() != `{"was":false}` {
		t.Fatalf("the command ended as %v", last)
	}
	if on := <-ran; !on || len(ran) != 0 {
		t.Fatalf("ran with on=%v, and %d times more", on, len(ran))
	}
}
