package hub_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats-server/v2/server"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// twoNodes are two hubs on one external NATS server, with the same keys.
func twoNodes(t *testing.T) (a, b *hubtest.Hub) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(hubtest.Patience) {
		t.Fatal("the NATS server does not start")
	}
	first, second := hubtest.Config(t), hubtest.Config(t)
	first.NATSURL, second.NATSURL = s.ClientURL(), s.ClientURL()
	first.NodeName, second.NodeName = "node-a", "node-b"
	a = hubtest.Start(t, first)
	for _, name := range []string{"master.key", "ca.pem", "ca.key", "admin.token"} {
		data, err := os.ReadFile(filepath.Join(first.Data, name))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(second.Data, name), data)
	}
	return a, hubtest.Start(t, second)
}

// A command was sent to the dead socket after the device had moved to another
// node. Here it goes where the device is, whichever node was asked and
// whatever the old one still believes.
func TestHono2576_CommandFollowsTheDeviceToAnotherNode(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t)
	c := a.CreateDevice(t, "pump")
	// The connection to the first node dies without a sign.
	dead := newLink(t, a.Addr)
	far := a.Endpoint
	far.Addr = dead.addr()
	connectPeer(t, far, c)
	dead.swallow("downstream")
	send(t, a.Endpoint, "pump", "into-the-dead-one", &operatorv1.CommandSpec{Name: "act"})
	await(t, a.Endpoint, "into-the-dead-one", "SENT")
	ran := make(chan string, 16)
	hubtest.Eventually(t, "the other node knows the device", func() bool { return status(t, b.Endpoint).Devices == 1 })
	obeying(t, b.Endpoint, c, "act", client.Handler{Run: func(_ context.Context, cmd *client.Command) (client.Result, error) {
		ran <- cmd.ID
		return client.Result{}, nil
	}})
	await(t, a.Endpoint, "into-the-dead-one", "SUCCEEDED")
	for _, asked := range []*hubtest.Hub{a, b} {
		key := "at-" + asked.Addr
		began := time.Now()
		send(t, asked.Endpoint, "pump", key, &operatorv1.CommandSpec{Name: "act"})
		if now := await(t, asked.Endpoint, key, "SUCCEEDED"); now.Attempts > 2 {
			// While the old session is on its way out, the first attempt may
			// go there: it is made good on the living one, and runs once.
			t.Errorf("asked of %s: %v", asked.Addr, now)
		}
		t.Logf("asked of %s: %v", asked.Addr, time.Since(began))
		events := command(t, asked.Endpoint, key).Events
		if node := events[len(events)-1].Node; node != "node-b" {
			t.Errorf("the end was taken in by %s; want node-b", node)
		}
	}
	for _, want := range []string{"into-the-dead-one", "at-" + a.Addr, "at-" + b.Addr} {
		if got := <-ran; got != want {
			t.Errorf("ran %s; want %s", got, want)
		}
	}
	if len(ran) != 0 {
		t.Errorf("%d more have run", len(ran))
	}
}

// A call on one node waits for the end of a command to a device that is
// connected to the other, and a key of an operator who is bound to a selector
// is the same command on both.
func TestTwoNodesAnswerAlike(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t)
	c := a.CreateDevice(t, "pump")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.Devices.LabelDevice(t.Context(), connect.NewRequest(&operatorv1.LabelDeviceRequest{Id: "pump", Set: map[string]string{"site": "north"}})))
	ann, err := a.Operators.CreateOperator(t.Context(), connect.NewRequest(&operatorv1.CreateOperatorRequest{
		Name: "ann", Role: operatorv1.Role_ROLE_OPERATOR, Selector: "site=north",
	}))
	must(nil, err)
	hubtest.Eventually(t, "the other node knows the device", func() bool { return status(t, b.Endpoint).Devices == 1 })
	var runs atomic.Int32
	obeying(t, b.Endpoint, c, "act", client.Handler{Run: func(context.Context, *client.Command) (client.Result, error) {
		return client.JSONResult(map[string]int32{"run": runs.Add(1)})
	}})
	request := connect.NewRequest(&operatorv1.SendCommandRequest{
		DeviceId: "pump", Key: "k", Wait: durationpb.New(time.Minute),
		Spec: &operatorv1.CommandSpec{Name: "act", Timeout: durationpb.New(hubtest.Patience)},
	})
	first, err := a.Commands.SendCommand(t.Context(), request)
	must(nil, err)
	if got := first.Msg.Command; got.State != operatorv1.CommandState_COMMAND_STATE_SUCCEEDED || got.GetJson() != `{"run":1}` || first.Msg.Existed {
		t.Errorf("asked of the node without the device: %v", first.Msg)
	}
	var last *operatorv1.Command
	for i, h := range []*hubtest.Hub{a, b} {
		bound := h.As(ann.Msg.Token)
		defer bound.Close()
		hubtest.Eventually(t, "the node knows the operator, and the label of the device", func() bool {
			_, err := bound.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: "pump"}))
			return err == nil
		})
		answer, err := bound.Commands.SendCommand(t.Context(), connect.NewRequest(request.Msg))
		must(nil, err)
		got := answer.Msg.Command
		if got.State != operatorv1.CommandState_COMMAND_STATE_SUCCEEDED || answer.Msg.Existed != (i == 1) {
			t.Errorf("node %d: %v", i, answer.Msg)
		}
		if last != nil && !proto.Equal(got, last) {
			t.Errorf("the nodes tell different things:\n%v\n%v", last, got)
		}
		last = got
	}
	if n := runs.Load(); n != 2 {
		t.Errorf("ran %d times; want once for each of the two keys", n)
	}
}
