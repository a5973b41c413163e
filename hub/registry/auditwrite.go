package registry

import (
	"bytes"
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

// auditWriteTimeout bounds the writing of one message.
const auditWriteTimeout = 10 * time.Second

// auditing writes records of the audit log in groups: while a message is on
// its way to the disk, those that come are gathered for the next, one record
// a line. So many calls at once cost one fsync, and one call alone does not
// wait for others. What waits is bounded by the callers: each waits for its
// own.
type auditing struct {
	js jetstream.JetStream // set once; its own, because of the time-out

	mu      sync.Mutex
	waiting []auditLine
	writing bool // a message is on its way
	closed  bool
	running sync.WaitGroup
}

// auditLine is one encoded record.
type auditLine struct {
	data    []byte
	written chan error // capacity 1
}

func (a *auditing) init(js jetstream.JetStream) (err error) {
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
	if a.writing {
		a.mu.Unlock()
		return line.written
	}
	a.writing = true
	group := a.takeLocked()
	a.running.Add(1)
	a.mu.Unlock()
	sent, err := a.send(group)
	go a.follow(group, sent, err)
	return line.written
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
			line.written <- err
		}
		a.mu.Lock()
		group = a.takeLocked()
		a.writing = len(group) > 0
		a.mu.Unlock()
		if len(group) == 0 {
			return
		}
		sent, err = a.send(group)
	}
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

func (a *auditing) send(group []auditLine) (jetstream.PubAckFuture, error) {
	lines := make([][]byte, len(group))
	for i := range group {
		lines[i] = group[i].data
	}
	return a.js.PublishMsgAsync(&nats.Msg{Subject: auditSubject, Data: bytes.Join(lines, []byte{'\n'})})
}

// outcome of a message that was sent: nil when it is durable. It comes within
// auditWriteTimeout.
func outcome(sent jetstream.PubAckFuture) error {
	select {
	case <-sent.Ok():
		return nil
	case err := <-sent.Err():
		return err
	}
}

// close takes no more records and waits until those there are have been
// written, or have failed.
func (a *auditing) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.running.Wait()
}
