package hub_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// These are failures of other systems, by the numbers under which their users
// reported them.

// A command was shown as delivered while the device was offline. Here that is
// the device's own word: neither accepting, nor sending into a connection
// that takes it, is delivery.
func TestThingsboard7123_OfflineDeviceIsNotShownDelivered(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	c := h.CreateDevice(t, "pump")
	send(t, h.Endpoint, "pump", "k", &operatorv1.CommandSpec{Name: "act"})
	if now := command(t, h.Endpoint, "k").Command; stateName(now) != "QUEUED" || now.Attempts != 0 {
		t.Fatalf("with the device offline: %v", now)
	}
	p := connectPeer(t, h.Endpoint, c)
	if got := p.wantCommand(); got.Id != "k" || got.Attempt != 1 {
		t.Fatalf("got %v", got)
	}
	if now := await(t, h.Endpoint, "k", "SENT"); now.Attempts != 1 {
		t.Fatalf("after a device has taken it without a word: %v", now)
	}
	_ = p.ws.Close()
	hubtest.Eventually(t, "the device is offline", func() bool { return status(t, h.Endpoint).DevicesOnline == 0 })
	await(t, h.Endpoint, "k", "SENT")
	p = connectPeer(t, h.Endpoint, c)
	if got := p.wantCommand(); got.Id != "k" || got.Attempt != 2 {
		t.Fatalf("on the next connection: %v", got)
	}
	await(t, h.Endpoint, "k", "SENT")
	p.say(&devicev1.CommandUpdate{Id: "k", Phase: phaseDelivered})
	await(t, h.Endpoint, "k", "DELIVERED")
	delivered := 0
	for _, e := range command(t, h.Endpoint, "k").Events {
		if e.State == operatorv1.CommandState_COMMAND_STATE_DELIVERED {
			delivered++
		}
	}
	if delivered != 1 {
		t.Errorf("%d events say delivered", delivered)
	}
}

// States were lost or stuck after a restart. Here each command is where it was,
// and goes on from there.
func TestThingsboard11642_StatesSurviveARestart(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.Listen = hubtest.FreeAddr(t)
	h := hubtest.StartProcess(t, cfg)
	states := map[string]string{"queued": "QUEUED", "sent": "SENT", "delivered": "DELIVERED", "running": "RUNNING", "done": "SUCCEEDED", "canceled": "CANCELED"}
	devices := map[string]device.Credential{}
	bring := func(id string, phases ...devicev1.CommandPhase) {
		p := connectPeer(t, h.Endpoint, devices[id])
		got := p.wantCommand()
		for _, phase := range phases {
			p.say(&devicev1.CommandUpdate{Id: got.Id, Phase: phase, ProgressPercent: 40})
		}
	}
	for id := range states {
		devices[id] = h.CreateDevice(t, id)
		send(t, h.Endpoint, id, id, &operatorv1.CommandSpec{Name: "act", Timeout: durationpb.New(time.Hour)})
	}
	bring("sent")
	bring("delivered", phaseDelivered)
	bring("running", phaseDelivered, devicev1.CommandPhase_COMMAND_PHASE_RUNNING)
	bring("done", phaseDelivered, phaseSucceeded)
	cancel(t, h.Endpoint, "canceled")
	for id, state := range states {
		await(t, h.Endpoint, id, state)
	}
	before := command(t, h.Endpoint, "running").Command
	// Its time is over while the hub is away, or soon after.
	h.CreateDevice(t, "late")
	send(t, h.Endpoint, "late", "expiring", &operatorv1.CommandSpec{Name: "act", Ttl: durationpb.New(2 * time.Second)})
	// A stop in order writes down what devices have said; then a SIGKILL.
	for _, end := range []func(){func() { _ = h.Terminate() }, h.Kill} {
		end()
		h.Start()
		for id, state := range states {
			await(t, h.Endpoint, id, state)
		}
	}
	if now := command(t, h.Endpoint, "running").Command; now.ProgressPercent != 40 || now.Created.AsTime() != before.Created.AsTime() {
		t.Errorf("running: %v; before the restart %v", now, before)
	}
	await(t, h.Endpoint, "expiring", "EXPIRED")
	for _, id := range []string{"queued", "sent"} {
		obeying(t, h.Endpoint, devices[id], "act", client.Handler{Run: nothing})
		await(t, h.Endpoint, id, "SUCCEEDED")
	}
	for _, id := range []string{"delivered", "running"} {
		p := connectPeer(t, h.Endpoint, devices[id])
		p.say(&devicev1.CommandUpdate{Id: id, Phase: phaseSucceeded})
		await(t, h.Endpoint, id, "SUCCEEDED")
	}
}

// One command without an answer blocked the queue. Here it holds up neither
// the delivery, nor the result, nor the expiry of another.
func TestThingsboard8712_OneUnansweredCommandBlocksNoOther(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	c := h.CreateDevice(t, "pump")
	p := connectPeer(t, h.Endpoint, c)
	send(t, h.Endpoint, "pump", "unanswered", &operatorv1.CommandSpec{Name: "act"})
	send(t, h.Endpoint, "pump", "expiring", &operatorv1.CommandSpec{Name: "act", Ttl: durationpb.New(5 * time.Second)}) // it is to be sent before
	send(t, h.Endpoint, "pump", "timing-out", &operatorv1.CommandSpec{Name: "act", Timeout: durationpb.New(200 * time.Millisecond)})
	send(t, h.Endpoint, "pump", "answered", &operatorv1.CommandSpec{Name: "act"})
	for _, want := range []string{"unanswered", "expiring", "timing-out", "answered"} {
		if got := p.wantCommand(); got.Id != want {
			t.Fatalf("got %s; want %s: the order of acceptance", got.Id, want)
		}
	}
	p.say(&devicev1.CommandUpdate{Id: "timing-out", Phase: phaseDelivered})
	p.say(&devicev1.CommandUpdate{Id: "answered", Phase: phaseSucceeded})
	await(t, h.Endpoint, "answered", "SUCCEEDED")
	await(t, h.Endpoint, "timing-out", "TIMED_OUT")
	await(t, h.Endpoint, "expiring", "EXPIRED")
	await(t, h.Endpoint, "unanswered", "SENT")
}

// A command went to the dead socket after the device had moved. Here it goes
// to the newest session; what the dead one swallowed goes out again on the
// living one, and runs once.
func TestHono1632_CommandGoesToTheLivingSession(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	c := h.CreateDevice(t, "pump")
	// The first connection dies without a sign: what the hub sends vanishes.
	dead := newLink(t, h.Addr)
	far := h.Endpoint
	far.Addr = dead.addr()
	p := connectPeer(t, far, c)
	dead.swallow("downstream")
	send(t, h.Endpoint, "pump", "into-the-dead-one", &operatorv1.CommandSpec{Name: "act"})
	await(t, h.Endpoint, "into-the-dead-one", "SENT")
	// The device has moved.
	ran := make(chan string, 16)
	obeying(t, h.Endpoint, c, "act", client.Handler{Run: func(_ context.Context, cmd *client.Command) (client.Result, error) {
		ran <- cmd.ID
		return client.Result{}, nil
	}})
	await(t, h.Endpoint, "into-the-dead-one", "SUCCEEDED")
	send(t, h.Endpoint, "pump", "to-the-living-one", &operatorv1.CommandSpec{Name: "act"})
	if now := await(t, h.Endpoint, "to-the-living-one", "SUCCEEDED"); now.Attempts != 1 {
		t.Errorf("to the living session it took %d attempts", now.Attempts)
	}
	// The end of the old session comes late, and takes nothing with it.
	_ = p.ws.Close()
	dead.down()
	send(t, h.Endpoint, "pump", "afterwards", &operatorv1.CommandSpec{Name: "act"})
	await(t, h.Endpoint, "afterwards", "SUCCEEDED")
	for _, want := range []string{"into-the-dead-one", "to-the-living-one", "afterwards"} {
		if got := <-ran; got != want {
			t.Errorf("ran %s; want %s", got, want)
		}
	}
	if len(ran) != 0 {
		t.Errorf("%d more have run", len(ran))
	}
}

// Nobody ends a command but its own device, nor another way what has ended.
func TestOnlyTheDeviceItselfAnswers(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	pump, thief := h.CreateDevice(t, "pump"), h.CreateDevice(t, "thief")
	send(t, h.Endpoint, "pump", "k", &operatorv1.CommandSpec{Name: "act"})
	p := connectPeer(t, h.Endpoint, thief)
	claim := func(id string) {
		p.say(&devicev1.CommandUpdate{Id: id, Phase: phaseSucceeded})
		for p.next().GetCommandAck().GetId() != id { // so that it does not say it for ever
		}
	}
	claim("k")
	await(t, h.Endpoint, "k", "QUEUED")
	// What has ended without a word of its device takes one, and no other's.
	send(t, h.Endpoint, "pump", "CANCELED", &operatorv1.CommandSpec{Name: "act"})
	cancel(t, h.Endpoint, "CANCELED")
	send(t, h.Endpoint, "pump", "EXPIRED", &operatorv1.CommandSpec{Name: "act", Ttl: durationpb.New(time.Second)})
	for _, id := range []string{"CANCELED", "EXPIRED"} {
		await(t, h.Endpoint, id, id)
		claim(id)
		if now := command(t, h.Endpoint, id).Command; stateName(now) != id {
			t.Errorf("%s: the thief is believed: %v", id, now)
		}
	}
	obeying(t, h.Endpoint, pump, "act", client.Handler{Run: nothing})
	if now := await(t, h.Endpoint, "k", "SUCCEEDED"); now.Attempts != 1 {
		t.Errorf("%v", now)
	}
}

// A confirmed reboot looped: the restart lost the confirmation, so the
// command came again. Here the device remembers that it has restarted.
func TestLorawanStack4289_RebootDoesNotLoop(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.Listen = hubtest.FreeAddr(t)
	h := hubtest.StartProcess(t, cfg)
	var reboots atomic.Int32
	accepted := make(chan struct{})
	d := runSimulated(t, h.Endpoint, "board", t.TempDir(), func(name string) {
		if name != "reboot" {
			return
		}
		if reboots.Load() == 0 {
			<-accepted // the operator has the hub's answer
			h.Kill()   // at the worst moment: nothing the device says is heard
		}
		reboots.Add(1)
	})
	func() {
		defer close(accepted)
		send(t, h.Endpoint, "board", "k", &operatorv1.CommandSpec{Name: "reboot"})
	}()
	hubtest.Eventually(t, "the device reboots", func() bool { return reboots.Load() == 1 })
	d.awaitBoots(t, 2)
	h.Start()
	await(t, h.Endpoint, "k", "SUCCEEDED")
	for i := range 3 { // however often it comes back
		d.restart(t)
		key := fmt.Sprint("after-", i)
		send(t, h.Endpoint, "board", key, &operatorv1.CommandSpec{Name: "identify"})
		await(t, h.Endpoint, key, "SUCCEEDED")
	}
	if n := reboots.Load(); n != 1 {
		t.Errorf("rebooted %d times", n)
	}
}

// A retained command switched relays at every start. Here a command that was
// obeyed is not obeyed again, whoever restarts.
func TestTasmota744And5228_NothingIsSwitchedAtEveryStart(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.Listen = hubtest.FreeAddr(t)
	h := hubtest.StartProcess(t, cfg)
	var switched atomic.Int32
	d := runSimulated(t, h.Endpoint, "plug", t.TempDir(), func(name string) {
		if name == "set-relay" {
			switched.Add(1)
		}
	})
	for i, replay := range []operatorv1.ReplayClass{
		operatorv1.ReplayClass_REPLAY_CLASS_ONCE, operatorv1.ReplayClass_REPLAY_CLASS_UNTIL_DELIVERED, operatorv1.ReplayClass_REPLAY_CLASS_LATEST_WINS,
	} {
		key := fmt.Sprint("k", i)
		send(t, h.Endpoint, "plug", key, &operatorv1.CommandSpec{Name: "set-relay", Replay: replay, Payload: &operatorv1.CommandSpec_Json{Json: `{"on":true}`}})
		await(t, h.Endpoint, key, "SUCCEEDED")
	}
	for i := range 3 {
		d.restart(t)
		if i == 1 {
			h.Kill()
			h.Start()
		}
		key := fmt.Sprint("after-", i)
		send(t, h.Endpoint, "plug", key, &operatorv1.CommandSpec{Name: "identify"})
		await(t, h.Endpoint, key, "SUCCEEDED") // in order: nothing came before it
	}
	if n := switched.Load(); n != 3 {
		t.Errorf("three commands have switched the relay %d times", n)
	}
}
