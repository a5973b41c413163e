package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

const (
	phaseDelivered = devicev1.CommandPhase_COMMAND_PHASE_DELIVERED
	phaseRunning   = devicev1.CommandPhase_COMMAND_PHASE_RUNNING
	phaseSucceeded = devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED
	phaseFailed    = devicev1.CommandPhase_COMMAND_PHASE_FAILED
	phaseRejected  = devicev1.CommandPhase_COMMAND_PHASE_REJECTED
	phaseCanceled  = devicev1.CommandPhase_COMMAND_PHASE_CANCELED
)

func (c *peerConn) command(id, name, json string) {
	c.t.Helper()
	c.commandWithin(id, name, json, 30*time.Second)
}

func (c *peerConn) commandWithin(id, name, json string, timeout time.Duration) {
	c.t.Helper()
	cmd := &devicev1.Command{Id: id, Name: name, TimeoutMs: uint32(timeout / time.Millisecond), Attempt: 1}
	if json != "" {
		cmd.Payload = &devicev1.Command_Json{Json: json}
	}
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Command{Command: cmd}})
}

func (c *peerConn) cancelCommand(id string) {
	c.t.Helper()
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_CommandCancel{CommandCancel: &devicev1.CommandCancel{Id: id}}})
}

func (c *peerConn) ackCommand(id string) {
	c.t.Helper()
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_CommandAck{CommandAck: &devicev1.CommandAck{Id: id}}})
}

func (c *peerConn) wantUpdate(id string, phase devicev1.CommandPhase, code Code) *devicev1.CommandUpdate {
	c.t.Helper()
	u := c.update()
	if u.Id != id || u.Phase != phase || u.Code != uint32(code) {
		c.t.Fatalf("got %v, want %s of %s with code %d", u, phase, id, code)
	}
	return u
}

// relay is a command whose executions are counted and can be held.
type relay struct {
	runs    chan string
	proceed chan struct{}
}

func newRelay() *relay { return &relay{runs: make(chan string, 64), proceed: make(chan struct{})} }

func (r *relay) handler(ctx context.Context, cmd *Command) (Result, error) {
	r.runs <- cmd.ID
	select {
	case <-r.proceed:
		return JSONResult(map[string]any{"on": true})
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

func (r *relay) wantRun(t *testing.T, id string) {
	t.Helper()
	select {
	case got := <-r.runs:
		if got != id {
			t.Fatalf("%s runs, want %s", got, id)
		}
	case <-time.After(patience):
		t.Fatalf("%s does not run", id)
	}
}

func commandPeer(t *testing.T, h Handler) (*peer, Config, *relay) {
	t.Helper()
	hub := newPeer(t)
	r := newRelay()
	if h.Run == nil {
		h.Run = r.handler
	}
	cfg := hub.config()
	cfg.JournalPath = filepath.Join(t.TempDir(), "commands")
	cfg.Commands = map[string]Handler{"relay": h}
	return hub, cfg, r
}

func TestCommandRunsAndItsEndIsKept(t *testing.T) {
	hub, cfg, relay := commandPeer(t, Handler{})
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.command("c1", "relay", `{"on":true}`)
	conn.wantUpdate("c1", phaseDelivered, 0)
	relay.wantRun(t, "c1")
	conn.command("c1", "relay", `{"on":true}`) // again, while it runs
	conn.wantUpdate("c1", phaseDelivered, 0)
	relay.proceed <- struct{}{}
	if u := conn.wantUpdate("c1", phaseSucceeded, 0); u.GetJson() != `{"on":true}` {
		t.Fatalf("result %v", u)
	}
	// Not acknowledged: told again in the next session, and not run again.
	conn.ws.Close()
	conn = hub.accept(t).welcome()
	conn.wantUpdate("c1", phaseSucceeded, 0)
	conn.ackCommand("c1")
	conn.command("c1", "relay", "")
	if u := conn.wantUpdate("c1", phaseSucceeded, 0); u.GetJson() != `{"on":true}` {
		t.Fatalf("recorded result %v", u)
	}
	conn.ackCommand("c1")
	eventually(t, "settled", c.executor.settled)
	conn.ws.Close()
	conn = hub.accept(t).welcome()
	c.publish(t, 1)
	conn.telemetry(1) // nothing before it
	if c.Stats().Commands != 1 || len(relay.runs) != 0 {
		t.Fatalf("%+v", c.Stats())
	}
}

func TestCommandIDsAreRememberedOverARestart(t *testing.T) {
	hub, cfg, relay := commandPeer(t, Handler{})
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.command("c1", "relay", "")
	conn.wantUpdate("c1", phaseDelivered, 0)
	relay.wantRun(t, "c1")
	relay.proceed <- struct{}{}
	conn.wantUpdate("c1", phaseSucceeded, 0)
	c.stop(t)

	start(t, cfg)
	conn = hub.accept(t).welcome()
	if u := conn.wantUpdate("c1", phaseSucceeded, 0); u.GetJson() != `{"on":true}` {
		t.Fatalf("recorded result %v", u)
	}
	conn.command("c1", "relay", "")
	conn.wantUpdate("c1", phaseSucceeded, 0)
	if len(relay.runs) != 0 {
		t.Fatal("the relay was switched twice")
	}
}

// copyJournal is the journal as a crash at this moment would leave it.
func copyJournal(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestCommandInterruptedByACrashIsNotRunAgain(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("CompleteOnRestart=", restart), func(t *testing.T) {
			hub, cfg, relay := commandPeer(t, Handler{CompleteOnRestart: restart})
			c := start(t, cfg)
			conn := hub.accept(t).welcome()
			conn.command("c1", "relay", "")
			conn.wantUpdate("c1", phaseDelivered, 0)
			relay.wantRun(t, "c1")
			crashed := copyJournal(t, cfg.JournalPath)
			c.stop(t)

			cfg.JournalPath = crashed
			start(t, cfg)
			conn = hub.accept(t).welcome()
			if restart {
				conn.wantUpdate("c1", phaseSucceeded, 0)
			} else {
				conn.wantUpdate("c1", phaseFailed, CodeAborted)
			}
			conn.command("c1", "relay", "")
			conn.update()
			if len(relay.runs) != 0 {
				t.Fatal("the relay was switched twice")
			}
		})
	}
}

// Before DELIVERED is told, the id is on disk.
func TestDeliveredIsDurable(t *testing.T) {
	hub, cfg, relay := commandPeer(t, Handler{})
	start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.command("c1", "relay", "")
	conn.wantUpdate("c1", phaseDelivered, 0)
	j, err := openJournal(copyJournal(t, cfg.JournalPath))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	if j.entries["c1"] == nil {
		t.Fatal("DELIVERED of an id that a crash would forget")
	}
	relay.wantRun(t, "c1")
}

func TestStopCancelsCommandsAndTellsTheHub(t *testing.T) {
	for _, restart := range []bool{false, true} {
		hub, cfg, relay := commandPeer(t, Handler{CompleteOnRestart: restart})
		cfg.FlushTimeout = patience
		c := start(t, cfg)
		conn := hub.accept(t).welcome()
		conn.command("c1", "relay", "")
		conn.command("c2", "relay", "")
		conn.wantUpdate("c1", phaseDelivered, 0)
		conn.wantUpdate("c2", phaseDelivered, 0)
		relay.wantRun(t, "c1")
		c.cancel()
		got := map[string]*devicev1.CommandUpdate{}
		for range 2 {
			u := conn.update()
			got[u.Id] = u
			conn.ackCommand(u.Id)
		}
		conn.wantClose(1000)
		c.wait(t)
		want := phaseFailed
		if restart {
			want = phaseSucceeded
		}
		if got["c1"].Phase != want || got["c2"].Phase != phaseFailed || got["c2"].Code != uint32(CodeAborted) {
			t.Fatalf("%v", got)
		}
	}
}

func TestCommandsRunOneAtATimeInOrder(t *testing.T) {
	hub, cfg, relay := commandPeer(t, Handler{})
	fast := newRelay()
	cfg.Commands["fast"] = Handler{Run: fast.handler, Concurrent: true}
	start(t, cfg)
	conn := hub.accept(t).welcome()
	for _, id := range []string{"c1", "c2", "c3"} {
		conn.command(id, "relay", "")
		conn.wantUpdate(id, phaseDelivered, 0)
	}
	conn.command("f1", "fast", "")
	conn.wantUpdate("f1", phaseDelivered, 0)
	fast.wantRun(t, "f1") // beside c1
	for _, id := range []string{"c1", "c2", "c3"} {
		relay.wantRun(t, id)
		if len(relay.runs) != 0 {
			t.Fatal("two at once")
		}
		relay.proceed <- struct{}{}
		conn.wantUpdate(id, phaseSucceeded, 0)
	}
	close(fast.proceed)
	conn.wantUpdate("f1", phaseSucceeded, 0)
}

func TestCancel(t *testing.T) {
	hub, cfg, relay := commandPeer(t, Handler{})
	start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.command("c1", "relay", "")
	conn.command("c2", "relay", "")
	conn.wantUpdate("c1", phaseDelivered, 0)
	conn.wantUpdate("c2", phaseDelivered, 0)
	relay.wantRun(t, "c1")
	conn.cancelCommand("c2") // has not begun
	conn.wantUpdate("c2", phaseCanceled, 0)
	conn.cancelCommand("c1") // runs
	conn.wantUpdate("c1", phaseCanceled, 0)
	conn.cancelCommand("c3") // never seen: it must not run later
	conn.wantUpdate("c3", phaseCanceled, 0)
	conn.command("c3", "relay", "")
	conn.wantUpdate("c3", phaseCanceled, 0)
	conn.cancelCommand("c1") // has ended
	conn.wantUpdate("c1", phaseCanceled, 0)
	if len(relay.runs) != 0 {
		t.Fatal("a canceled command ran")
	}
}

func TestHowCommandsEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		run     func(ctx context.Context, cmd *Command) (Result, error)
		payload string
		phase   devicev1.CommandPhase
		code    Code
		message string
	}{
		"fails": {func(context.Context, *Command) (Result, error) { return Result{}, errors.New("stuck") },
			"", phaseFailed, CodeUnknown, "stuck"},
		"fails with a code": {func(context.Context, *Command) (Result, error) {
			return Result{}, fmt.Errorf("relay: %w", Fail(CodeFailed, "door is open"))
		}, "", phaseFailed, CodeFailed, "door is open"},
		"rejects": {func(context.Context, *Command) (Result, error) { return Result{}, Reject(CodeNotFound, "no relay 9") }, "", phaseRejected, CodeNotFound, "no relay 9"},
		"panics":  {func(context.Context, *Command) (Result, error) { panic("secret") }, "", phaseFailed, CodeInternal, "the handler panicked"},
		"ends its goroutine": {func(context.Context, *Command) (Result, error) { runtime.Goexit(); return Result{}, nil },
			"", phaseFailed, CodeInternal, "the handler ended its goroutine"},
		"too late": {func(ctx context.Context, _ *Command) (Result, error) { <-ctx.Done(); return Result{}, ctx.Err() }, "late", phaseFailed, CodeDeadlineExceeded, "context deadline exceeded"},
		"missing argument": {func(_ context.Context, cmd *Command) (Result, error) {
			_, err := cmd.Float("level")
			return Result{}, err
		}, `{"on":true}`, phaseRejected, CodeInvalidArgument, "argument level: is missing; a number is wanted"},
		"not an object": {nil, `[1]`, phaseRejected, CodeInvalidArgument, "the payload is not a JSON object"},
		"message": {func(context.Context, *Command) (Result, error) { return Result{}.WithMessage("done"), nil },
			"", phaseSucceeded, 0, "done"},
		"large result": {func(context.Context, *Command) (Result, error) { return JSONResult(strings.Repeat("x", 20000)) },
			"", phaseSucceeded, 0, "result left out: 20002 bytes, at most 16384; "},
		"protobuf": {func(context.Context, *Command) (Result, error) { return ProtobufResult(wrapperspb.Int32(5)) },
			"", phaseSucceeded, 0, ""},
		"long message": {func(context.Context, *Command) (Result, error) {
			return Result{}, errors.New(strings.Repeat("é", 1000))
		},
			"", phaseFailed, CodeUnknown, strings.Repeat("é", 511)},
	} {
		t.Run(name, func(t *testing.T) {
			hub, cfg, _ := commandPeer(t, Handler{Run: tc.run})
			start(t, cfg)
			conn := hub.accept(t).welcome()
			if tc.payload == "late" {
				conn.commandWithin("c1", "relay", "", time.Second) // it begins within that
			} else {
				conn.command("c1", "relay", tc.payload)
			}
			u := conn.update()
			if u.Phase == phaseDelivered {
				u = conn.update()
			}
			if u.Phase != tc.phase || u.Code != uint32(tc.code) || u.Message != tc.message {
				t.Fatalf("%v", u)
			}
			if name == "protobuf" && len(u.GetProtobuf()) == 0 {
				t.Fatalf("%v", u)
			}
		})
	}
}

func TestUnknownAndExcessCommandsAreRejected(t *testing.T) {
	hub, cfg, relay := commandPeer(t, Handler{})
	start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.command("u1", "fly", "")
	conn.wantUpdate("u1", phaseRejected, CodeUnimplemented)
	conn.ackCommand("u1")
	for i := range maxQueued {
		conn.command(fmt.Sprint("c", i), "relay", "")
		conn.wantUpdate(fmt.Sprint("c", i), phaseDelivered, 0)
	}
	conn.command("over", "relay", "")
	conn.wantUpdate("over", phaseRejected, CodeResourceExhausted)
	relay.wantRun(t, "c0")
}

// A command that waits behind one that does not end, nor heeds its context,
// ends by itself: the hub is told that it was not begun.
func TestCommandThatWaitedTooLongIsNotRun(t *testing.T) {
	hub, cfg, relay := commandPeer(t, Handler{})
	start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.command("c1", "relay", "")
	conn.wantUpdate("c1", phaseDelivered, 0)
	relay.wantRun(t, "c1")
	conn.commandWithin("c2", "relay", "", time.Millisecond)
	u := conn.update()
	if u.Phase == phaseDelivered {
		u = conn.update()
	}
	if u.Id != "c2" || u.Phase != phaseFailed || u.Code != uint32(CodeDeadlineExceeded) || u.Message != "not begun in time; not run" {
		t.Fatalf("%v", u)
	}
	relay.proceed <- struct{}{}
	conn.wantUpdate("c1", phaseSucceeded, 0)
	conn.command("c3", "relay", "")
	conn.wantUpdate("c3", phaseDelivered, 0)
	relay.wantRun(t, "c3")
	if len(relay.runs) != 0 {
		t.Fatal("the relay was switched late")
	}
}

func TestProgressAndArguments(t *testing.T) {
	type args struct {
		Level float64
		Count int64
		On    bool
		Name  string
	}
	var got args
	var decoded struct {
		Level, Count float64
		On           bool
		Name         string
	}
	hub, cfg, _ := commandPeer(t, Handler{Run: func(_ context.Context, cmd *Command) (Result, error) {
		cmd.Progress(40, "halfway")
		var errs [4]error
		got.Level, errs[0] = cmd.Float("level")
		got.Count, errs[1] = cmd.Int("count")
		got.On, errs[2] = cmd.Bool("on")
		got.Name, errs[3] = cmd.Text("name")
		if _, err := cmd.Int("level"); err == nil {
			return Result{}, errors.New("1.5 is a whole number")
		}
		if _, err := cmd.Bool("none"); err == nil || cmd.Has("none") {
			return Result{}, errors.New("null is a bool")
		}
		if err := cmd.Decode(new(struct{})); err == nil {
			return Result{}, errors.New("unknown fields decode")
		}
		return Result{}, errors.Join(append(errs[:], cmd.Decode(&decoded))...)
	}})
	start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.command("c1", "relay", `{"level":1.5,"count":1e3,"on":true,"name":"x","none":null}`)
	conn.wantUpdate("c1", phaseDelivered, 0)
	u := conn.update()
	if u.Phase == phaseRunning {
		if u.ProgressPercent != 40 || u.Message != "halfway" {
			t.Fatalf("%v", u)
		}
		u = conn.update()
	}
	// Decode meets null, which the struct has no field for.
	if u.Phase != phaseRejected || u.Message != "argument none: is not known; this command takes level, count, on, name" {
		t.Fatalf("%v", u)
	}
	if want := (args{1.5, 1000, true, "x"}); got != want {
		t.Fatalf("%+v", got)
	}
}

func TestProgressReachesTheHub(t *testing.T) {
	relay := newRelay()
	hub, cfg, _ := commandPeer(t, Handler{Run: func(ctx context.Context, cmd *Command) (Result, error) {
		cmd.Progress(40, "halfway")
		return relay.handler(ctx, cmd)
	}})
	start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.command("c1", "relay", "")
	conn.wantUpdate("c1", phaseDelivered, 0)
	if u := conn.wantUpdate("c1", phaseRunning, 0); u.ProgressPercent != 40 || u.Message != "halfway" {
		t.Fatalf("%v", u)
	}
	// A new session hears how far it has come.
	conn.ws.Close()
	conn = hub.accept(t).welcome()
	conn.wantUpdate("c1", phaseDelivered, 0)
	conn.wantUpdate("c1", phaseRunning, 0)
	relay.proceed <- struct{}{}
	conn.wantUpdate("c1", phaseSucceeded, 0)
}

// A journal that cannot be written lets no command run.
func TestCommandThatCannotBeRememberedIsNotRun(t *testing.T) {
	hub, cfg, relay := commandPeer(t, Handler{})
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	c.executor.mu.Lock()
	c.executor.journal.file.Close()
	c.executor.mu.Unlock()
	conn.command("c1", "relay", "")
	conn.wantUpdate("c1", phaseRejected, CodeUnavailable)
	if len(relay.runs) != 0 {
		t.Fatal("it ran")
	}
	c.cancel()
	if err := c.wait(t); err == nil {
		t.Fatal("Run hides that the journal failed")
	}
}

func TestJournalIsBoundedAndKeepsWhatMatters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "commands")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	end := func(e *entry, acked bool) {
		t.Helper()
		u := &devicev1.CommandUpdate{Id: e.id, Phase: phaseSucceeded, Result: &devicev1.CommandUpdate_Json{Json: strings.Repeat("x", 4000)}}
		if err := j.finish(e, u); err != nil {
			t.Fatal(err)
		}
		if acked {
			if err := j.acknowledge(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := j.file
	j.file = nil // 3,000 fsyncs prove nothing more
	for i := range 3 * journalIDs {
		e, err := j.deliver(fmt.Sprint("c", i), now)
		if err != nil {
			t.Fatal(err)
		}
		end(e, i != 5) // c5 is never acknowledged
	}
	if len(j.order) > journalIDs || j.results > journalBytes+8000 || j.entries["c5"] == nil || j.entries["c5"].acked {
		t.Fatalf("%d entries, %d bytes", len(j.order), j.results)
	}
	j.file, j.records = file, 1<<20
	if err := j.compact(); err != nil {
		t.Fatal(err)
	}
	old, err := j.deliver("old", now.Add(-40*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	end(old, true)
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if j, err = openJournal(path); err != nil || j.torn != 0 || j.entries["old"] == nil || len(j.order) > journalIDs+1 {
		t.Fatalf("%d entries after the restart: %v", len(j.order), err)
	}
	defer j.close()
	if _, err := j.deliver("new", now); err != nil || j.entries["old"] != nil || j.entries["c5"] == nil {
		t.Fatalf("%v: an id of 40 days ago is kept, or one without an ack is not", err)
	}
}

func TestJournalTornAtEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "commands")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := j.deliver("first", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.finish(e, &devicev1.CommandUpdate{Id: "first", Phase: phaseSucceeded}); err != nil {
		t.Fatal(err)
	}
	whole := int(j.size)
	if _, err := j.deliver("second", time.Now()); err != nil {
		t.Fatal(err)
	}
	j.close()
	data, _ := os.ReadFile(path)
	for cut := len(data) - 1; cut >= whole; cut-- {
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := openJournal(path)
		if err != nil || j.entries["first"] == nil || j.entries["first"].end == nil || j.entries["second"] != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		j.close()
	}
}
