package registry

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/natsd"
)

// Bounds of one message of the audit log: records and bytes. A message takes
// at least one record, whatever its size.
const (
	auditGroup      = 1023
	auditGroupBytes = 256 << 10
)

const (
	// auditWriteTimeout bounds the writing of one message.
	auditWriteTimeout = 10 * time.Second
	// auditDelay is how long an owed record waits for company.
	auditDelay = 50 * time.Millisecond
	// auditRetry is the pause after owed records could not be written.
	auditRetry = time.Second
	// maxAuditOwed bounds the records that wait with nobody waiting for them.
	maxAuditOwed = 16 << 20
)

// auditing writes records of the audit log in groups: while a message is on
// its way to the disk, those that come are gathered for the next, one record
// a line. So many calls at once cost one fsync, and one call alone does not
// wait for others. What waits is bounded: by the callers, each of whom waits
// for its own, and by maxAuditOwed.
type auditing struct {
	js  jetstream.JetStream // set once; its own, because of the time-out
	log *slog.Logger

	mu      sync.Mutex
	waiting []auditLine
	owed    int         // bytes of the owed records that are not written
	failing bool        // the last message was not written
	timer   *time.Timer // writes what waits; nil: there is no need
	writing bool        // a message is on its way
	closed  bool
	running sync.WaitGroup
}

// auditLine is one encoded record. One without data only asks whether those
// before it are written.
type auditLine struct {
	data    []byte
	written chan error // capacity 1; nil: an owed record
}

func (a *auditing) init(js jetstream.JetStream, log *slog.Logger) (err error) {
	a.log = log
	a.js, err = natsd.Another(js, jetstream.WithPublishAsyncTimeout(auditWriteTimeout))
	return err
}

// add begins to write an encoded record, and returns where the outcome will
// come. A record that finds no other on its way is sent before add returns.
func (a *auditing) add(data []byte) <-chan error {
	line := auditLine{data: data, written: make(chan error, 1)}
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		line.written <- ErrClosed
		return line.written
	}
	a.waiting = append(a.waiting, line)
	a.writeLocked()
	return line.written
}

// owe adds a record that nobody waits for; false: too many are owed already,
// they cannot be written at present, or no more are taken.
func (a *auditing) owe(data []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.failing || a.owed+len(data) > maxAuditOwed {
		return false
	}
	a.owed += len(data)
	a.waiting = append(a.waiting, auditLine{data: data})
	a.laterLocked(auditDelay)
	return true
}

// laterLocked has what waits written after a time, unless it is sooner.
func (a *auditing) laterLocked(delay time.Duration) {
	if a.writing || a.timer != nil {
		return
	}
	a.timer = time.AfterFunc(delay, func() {
		a.mu.Lock()
		a.timer = nil
		a.writeLocked()
	})
}

// writeLocked sends what waits, unless a message is on its way, behind which
// it is sent. It unlocks mu.
func (a *auditing) writeLocked() {
	if a.writing || len(a.waiting) == 0 {
		a.mu.Unlock()
		return
	}
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	a.writing = true
	group := a.takeLocked()
	a.running.Add(1)
	a.mu.Unlock()
	sent, err := a.send(group)
	go a.follow(group, sent, err)
}

// follow tells of the group that was sent, and writes the groups behind it
// until nothing waits.
func (a *auditing) follow(group []auditLine, sent jetstream.PubAckFuture, err error) {
	defer a.running.Done()
	for {
		if err == nil {
			err = outcome(sent)
		}
		for _, line := range group {
			if line.written != nil {
				line.written <- err
			}
		}
		a.mu.Lock()
		pause := a.settleLocked(group, err)
		if group = nil; !pause {
			group = a.takeLocked()
		}
		if a.writing = len(group) > 0; !a.writing && len(a.waiting) > 0 {
			a.laterLocked(auditRetry)
		}
		a.mu.Unlock()
		if len(group) == 0 {
			return
		}
		sent, err = a.send(group)
	}
}

// settleLocked takes the owed records of a group as written, or has them
// written again. pause: they are all that waits.
func (a *auditing) settleLocked(group []auditLine, err error) (pause bool) {
	a.failing = err != nil
	var again []auditLine
	size := 0
	for _, line := range group {
		if line.written == nil {
			again, size = append(again, line), size+len(line.data)
		}
	}
	if err == nil || a.closed || len(again) == 0 {
		if a.owed -= size; err != nil && len(again) > 0 {
			a.log.Error("audit records are not written; the next start makes them good", "records", len(again), "error", err)
		}
		return false
	}
	a.log.Warn("audit records are not written yet; trying again", "records", len(again), "error", err)
	pause = true
	for _, line := range a.waiting {
		pause = pause && line.written == nil
	}
	a.waiting = append(again, a.waiting...)
	return pause
}

// takeLocked takes the lines of the next message.
func (a *auditing) takeLocked() []auditLine {
	n, size := 0, 0
	for n < len(a.waiting) && n < auditGroup {
		size += len(a.waiting[n].data) + 1
		if n > 0 && size > auditGroupBytes {
			break
		}
		n++
	}
	group := a.waiting[:n:n]
	if a.waiting = a.waiting[n:]; len(a.waiting) == 0 {
		a.waiting = nil
	}
	return group
}

// send begins to write a group; a nil future: there is nothing to write.
func (a *auditing) send(group []auditLine) (jetstream.PubAckFuture, error) {
	lines := make([][]byte, 0, len(group))
	for i := range group {
		if group[i].data != nil {
			lines = append(lines, group[i].data)
		}
	}
	if len(lines) == 0 {
		return nil, nil
	}
	return a.js.PublishMsgAsync(&nats.Msg{Subject: auditSubject, Data: bytes.Join(lines, []byte{'\n'})})
}

// outcome of a message that was sent: nil when it is durable. It comes within
// auditWriteTimeout.
func outcome(sent jetstream.PubAckFuture) error {
	if sent == nil {
		return nil
	}
	select {
	case <-sent.Ok():
		return nil
	case err := <-sent.Err():
		return err
	}
}

// flush writes what waits, and tells how that came out.
func (a *auditing) flush(ctx context.Context) error {
	a.mu.Lock()
	idle := len(a.waiting) == 0 && !a.writing
	a.mu.Unlock()
	if idle {
		return nil
	}
	select {
	case err := <-a.add(nil):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close takes no more records and waits until those there are have been
// written, or have failed.
func (a *auditing) close() {
	a.mu.Lock()
	a.closed = true
	a.writeLocked()
	a.running.Wait()
}
