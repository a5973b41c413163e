package client

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// runSerial runs the commands that want to be alone, until there is none.
func (x *executor) runSerial() {
	x.mu.Lock()
	for {
		i := slices.IndexFunc(x.jobs, func(j *job) bool { return !j.handler.Concurrent })
		if i < 0 {
			break
		}
		x.run(x.jobs[i])
	}
	x.serial = false
	x.ended()
	x.mu.Unlock()
}

func (x *executor) runOne(j *job) {
	x.mu.Lock()
	if j.entry.end == nil {
		x.run(j)
	}
	x.ended()
	x.mu.Unlock()
}

func (x *executor) ended() {
	x.running--
	if x.stopping && x.running == 0 {
		close(x.idle)
	}
}

// run runs one command from begin to end. It lets go of x.mu meanwhile.
func (x *executor) run(j *job) {
	if !j.deadline.IsZero() && !time.Now().Before(j.deadline) {
		x.tooLate(j)
		return
	}
	if j.handler.CompleteOnRestart {
		if err := x.journal.begin(j.entry); err != nil {
			x.log.Error("command cannot be remembered and is not run", "device", x.id, "command", j.entry.id, "error", err)
			x.finish(j.entry, ending(j.ctx, j.cmd.payload, j.handler, Result{},
				Reject(CodeUnavailable, "the device cannot remember the command")))
			return
		}
	}
	j.begun = true
	x.begun.Add(1)
	x.mu.Unlock()
	ctx, cancel := j.ctx, context.CancelFunc(func() {})
	if !j.deadline.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, j.deadline)
	}
	result, err := x.call(ctx, j)
	u := ending(ctx, j.cmd.payload, j.handler, result, err)
	cancel()
	x.mu.Lock()
	x.finish(j.entry, u)
}

// call turns a panic of the handler, and one that ends its goroutine
// (runtime.Goexit), into an error.
func (x *executor) call(ctx context.Context, j *job) (r Result, err error) {
	err = Fail(CodeInternal, "the handler ended its goroutine")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				x.log.Error("command handler panics", "device", x.id, "command", j.entry.id, "name", j.cmd.Name,
					"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				err = Fail(CodeInternal, "the handler panicked")
			}
		}()
		r, err = j.handler.Run(ctx, j.cmd)
	}()
	<-done
	return r, err
}

// late ends a command that has waited behind another until its deadline.
func (x *executor) late(j *job) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if j.entry.live == j && !j.begun {
		x.tooLate(j)
	}
}

func (x *executor) tooLate(j *job) {
	x.finish(j.entry, ending(j.ctx, j.cmd.payload, j.handler, Result{},
		Fail(CodeDeadlineExceeded, "not begun in time; not run")))
}

// finish records an end and tells it.
func (x *executor) finish(e *entry, u *devicev1.CommandUpdate) {
	if err := x.journal.finish(e, u); err != nil {
		x.log.Error("end of a command is not recorded", "device", x.id, "command", e.id, "error", err)
	}
	if j := e.live; j != nil {
		j.cancel(nil)
		if j.waits != nil {
			j.waits.Stop()
		}
		e.live = nil
		x.jobs = slices.DeleteFunc(x.jobs, func(other *job) bool { return other == j })
	}
	x.unacked = append(x.unacked, e)
	x.tell(e, tellEnd)
}
