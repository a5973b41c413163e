package client

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// executor runs commands, each id at most once, and says how they end.
//
//	Command ─► journal (fsync) ─► DELIVERED ─► handler ─► journal (fsync) ─► end ─► CommandAck
//
// Its methods may be called at once. It calls nothing of the Client but wake.
type executor struct {
	// Set once.
	id       string // of the device
	handlers map[string]Handler
	wake     func()
	clock    func() time.Time
	log      *slog.Logger
	begun    atomic.Uint64

	mu       sync.Mutex
	journal  *journal
	jobs     []*job   // accepted and not ended, by arrival
	serial   bool     // a goroutine works through those that are not concurrent
	running  int      // goroutines
	outbox   []*entry // with something to tell
	unacked  []*entry // with an end that the hub has not acknowledged
	stopping bool
	idle     chan struct{} // closed when stopping and nothing runs
}

// job is a command that has been accepted and has not ended.
type job struct {
	cmd        *Command
	entry      *entry
	handler    Handler
	deadline   time.Time   // zero: none
	waits      *time.Timer // ends it at its deadline when it has not begun; nil: none
	begun      bool
	ctx        context.Context
	cancel     context.CancelCauseFunc
	percent    uint32
	message    string
	progressAt time.Time // zero: no progress yet
}

func newExecutor(c *Client) (*executor, error) {
	j, err := openJournal(c.cfg.JournalPath)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	x := &executor{
		id: c.id, handlers: c.cfg.Commands, wake: c.wakeWriter, clock: c.cfg.Clock, log: c.log,
		journal: j, idle: make(chan struct{}),
	}
	if j.torn > 0 {
		x.log.Warn("command journal had a torn end", "device", c.id, "bytes", j.torn)
	}
	for _, e := range j.order {
		if e.end == nil {
			x.interrupted(e)
		}
		if !e.acked {
			x.unacked = append(x.unacked, e)
		}
	}
	return x, nil
}

// interrupted ends a command of an earlier process.
func (x *executor) interrupted(e *entry) {
	u := &devicev1.CommandUpdate{Id: e.id}
	if e.restart {
		u.Phase = devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED
		u.Message = "completed by the restart"
	} else {
		finish(u, devicev1.CommandPhase_COMMAND_PHASE_FAILED, CodeAborted, "interrupted by a restart; not run again")
	}
	if err := x.journal.finish(e, u); err != nil {
		x.log.Error("end of a command is not recorded", "device", x.id, "command", e.id, "error", err)
	}
}

// command takes a Command of the hub.
func (x *executor) command(cmd *devicev1.Command) {
	if !validCommandID(cmd.Id) {
		x.log.Warn("command without a usable id is ignored", "device", x.id)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.journal.entries[cmd.Id]; e != nil {
		x.repeat(e)
		return
	}
	if x.stopping {
		return // its id is not remembered: the hub may send it to the next process
	}
	e, err := x.journal.deliver(cmd.Id, x.clock())
	if err != nil {
		x.log.Error("command cannot be remembered and is not run", "device", x.id, "command", cmd.Id, "error", err)
		e = &entry{id: cmd.Id}
		u := &devicev1.CommandUpdate{Id: cmd.Id}
		finish(u, devicev1.CommandPhase_COMMAND_PHASE_REJECTED, CodeUnavailable, "the device cannot remember the command")
		(&journal{}).finish(e, u)
		x.tell(e, tellEnd)
		return
	}
	if err := x.journal.compact(); err != nil {
		x.log.Error("command journal stays as it is", "device", x.id, "error", err)
	}
	if err := x.accept(e, cmd); err != nil {
		u := ending(context.Background(), cmd, Handler{}, Result{}, err)
		x.finish(e, u)
	}
}

// repeat answers a Command whose id is known.
func (x *executor) repeat(e *entry) {
	switch {
	case e.end == nil:
		x.tellPhase(e)
	default:
		if !slices.Contains(x.unacked, e) {
			e.acked = false
			x.unacked = append(x.unacked, e)
		}
		x.tell(e, tellEnd)
	}
}

// tellPhase says how far a command has come that has not ended.
func (x *executor) tellPhase(e *entry) {
	x.tell(e, tellDelivered)
	if e.live != nil && !e.live.progressAt.IsZero() {
		x.tell(e, tellProgress)
	}
}

// accept puts a new command in line. Its errors reject it.
func (x *executor) accept(e *entry, cmd *devicev1.Command) error {
	h, ok := x.handlers[cmd.Name]
	if !ok {
		return Reject(CodeUnimplemented, fmt.Sprintf("no command of the name %.80q", cmd.Name))
	}
	if len(cmd.GetJson())+len(cmd.GetProtobuf()) > MaxPayloadBytes {
		return Reject(CodeResourceExhausted, fmt.Sprintf("the payload is over %d bytes", MaxPayloadBytes))
	}
	args, err := arguments(cmd.GetJson())
	if err != nil {
		return err
	}
	if len(x.jobs) >= maxQueued {
		return Reject(CodeResourceExhausted, fmt.Sprintf("%d commands are waiting already", maxQueued))
	}
	j := &job{entry: e, handler: h}
	j.cmd = &Command{ID: cmd.Id, Name: cmd.Name, Attempt: cmd.Attempt, payload: cmd, args: args}
	j.cmd.progress = func(percent int, message string) { x.progress(j, percent, message) }
	j.ctx, j.cancel = context.WithCancelCause(context.Background())
	if cmd.TimeoutMs > 0 {
		wait := time.Duration(cmd.TimeoutMs) * time.Millisecond
		j.deadline = time.Now().Add(wait)
		if !h.Concurrent {
			j.waits = time.AfterFunc(wait, func() { x.late(j) })
		}
	}
	e.live = j
	x.jobs = append(x.jobs, j)
	x.tell(e, tellDelivered)
	switch {
	case h.Concurrent:
		x.running++
		go x.runOne(j)
	case !x.serial:
		x.serial = true
		x.running++
		go x.runSerial()
	}
	return nil
}

// cancel takes a CommandCancel of the hub.
func (x *executor) cancel(id string) {
	if !validCommandID(id) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.journal.entries[id]
	if e == nil {
		// It must not be run should it still come.
		var err error
		if e, err = x.journal.deliver(id, x.clock()); err != nil {
			x.log.Error("cancellation cannot be remembered", "device", x.id, "command", id, "error", err)
			return
		}
	}
	switch {
	case e.end != nil:
		x.repeat(e)
	case e.live != nil && e.live.begun:
		e.live.cancel(ErrCommandCanceled)
	default:
		x.finish(e, &devicev1.CommandUpdate{
			Id: id, Phase: devicev1.CommandPhase_COMMAND_PHASE_CANCELED, Message: "it had not begun",
		})
	}
}

// acknowledge takes a CommandAck of the hub.
func (x *executor) acknowledge(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.journal.entries[id]
	if e == nil || e.end == nil || e.acked {
		return
	}
	if err := x.journal.acknowledge(e); err != nil {
		x.log.Error("acknowledged command will be reported again", "device", x.id, "command", id, "error", err)
	}
	x.unacked = slices.DeleteFunc(x.unacked, func(other *entry) bool { return other == e })
	e.tell &^= tellEnd
	x.wake() // a client that is about to end may wait for this
}

func validCommandID(id string) bool {
	if len(id) == 0 || len(id) > maxCommandID {
		return false
	}
	for i := range len(id) {
		if id[i] < 0x20 || id[i] > 0x7e {
			return false
		}
	}
	return true
}
