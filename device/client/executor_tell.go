package client

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// What an entry has to tell the hub, in this order.
const (
	tellDelivered = 1 << iota
	tellProgress
	tellEnd
)

const (
	// endResend is how long an end waits for its CommandAck before it is sent
	// again in the same session.
	endResend = 30 * time.Second
	// progressInterval thins out the progress of one command.
	progressInterval = 200 * time.Millisecond
)

// tell puts e in line for the writer. x.mu is held.
func (x *executor) tell(e *entry, what uint8) {
	if e.tell == 0 {
		x.outbox = append(x.outbox, e)
	}
	e.tell |= what
	x.wake()
}

// progress of a handler.
func (x *executor) progress(j *job, percent int, message string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if j.entry.live != j {
		return
	}
	j.percent, j.message = uint32(min(max(percent, 0), 100)), shorten(message)
	if now := time.Now(); now.Sub(j.progressAt) >= progressInterval || percent >= 100 {
		j.progressAt = now
		x.tell(j.entry, tellProgress)
	}
}

// resume makes a new session hear of everything that has no CommandAck.
func (x *executor) resume() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.outbox {
		e.tell = 0
	}
	x.outbox = nil
	for _, j := range x.jobs {
		x.tellPhase(j.entry)
	}
	for _, e := range x.unacked {
		x.tell(e, tellEnd)
	}
}

// next is the next thing to tell the hub; nil: nothing.
func (x *executor) next() *devicev1.CommandUpdate {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	for _, e := range x.unacked {
		if e.tell&tellEnd == 0 && now.Sub(e.endSent) >= endResend {
			x.tell(e, tellEnd)
		}
	}
	for len(x.outbox) > 0 {
		e := x.outbox[0]
		if u := e.take(now); u != nil {
			return u
		}
		x.outbox[0] = nil
		x.outbox = x.outbox[1:]
	}
	x.outbox = nil
	return nil
}

// take is the first thing that e has to tell, and takes it off e.
func (e *entry) take(now time.Time) *devicev1.CommandUpdate {
	switch {
	case e.tell&tellDelivered != 0:
		e.tell &^= tellDelivered
		return &devicev1.CommandUpdate{Id: e.id, Phase: devicev1.CommandPhase_COMMAND_PHASE_DELIVERED}
	case e.tell&tellProgress != 0 && e.live != nil:
		e.tell &^= tellProgress
		return &devicev1.CommandUpdate{
			Id: e.id, Phase: devicev1.CommandPhase_COMMAND_PHASE_RUNNING,
			ProgressPercent: e.live.percent, Message: e.live.message,
		}
	case e.tell&tellEnd != 0 && e.end != nil:
		e.tell &^= tellEnd
		e.endSent = now
		u := new(devicev1.CommandUpdate)
		if proto.Unmarshal(e.end, u) == nil {
			return u
		}
	}
	e.tell = 0
	return nil
}

// resendIn is when an end wants to be sent again; 0: none does.
func (x *executor) resendIn() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.unacked) == 0 {
		return 0
	}
	oldest := slices.MinFunc(x.unacked, func(a, b *entry) int { return a.endSent.Compare(b.endSent) })
	return max(time.Until(oldest.endSent.Add(endResend)), time.Millisecond)
}

// settled reports whether nothing runs and the hub knows every end.
func (x *executor) settled() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.running == 0 && len(x.jobs) == 0 && len(x.unacked) == 0 && len(x.outbox) == 0
}

// shutdown takes no more commands, ends those that have not begun, and asks
// the others to end. It may be called again.
func (x *executor) shutdown() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stopping {
		return
	}
	x.stopping = true
	for _, j := range slices.Clone(x.jobs) {
		if j.begun {
			j.cancel(ErrShutdown)
			continue
		}
		u := &devicev1.CommandUpdate{Id: j.entry.id}
		finish(u, devicev1.CommandPhase_COMMAND_PHASE_FAILED, CodeAborted, "not begun: "+ErrShutdown.Error())
		x.finish(j.entry, u)
	}
	if x.running == 0 {
		close(x.idle)
	}
}

// wait for running handlers, after shutdown.
func (x *executor) wait(timeout time.Duration) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-x.idle:
	case <-timer.C:
		x.log.Error("command handlers do not end; the next start will report them as interrupted", "device", x.id)
	}
}

func (x *executor) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.journal.close()
}
