package jsbuffer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/telemetry"
)

// Selection of rows in quarantine: exactly one of its fields is set.
type Selection struct {
	IDs    []uint64
	Device string // all of one device
	All    bool
}

// ErrBadSelection says that a Selection selects nothing, or twice.
var ErrBadSelection = errors.New("select rows by their ids, by device, or all of them")

func (s Selection) check() error {
	set := 0
	for _, is := range []bool{len(s.IDs) > 0, s.Device != "", s.All} {
		if is {
			set++
		}
	}
	if set != 1 {
		return ErrBadSelection
	}
	if s.Device != "" {
		return checkToken(s.Device)
	}
	return nil
}

// How Replay goes about.
const (
	replayGroup = 256 // rows that are made durable before they are deleted
	replayPause = 100 * time.Millisecond
)

// Replay hands the selected rows to the buffer, as if they were received now,
// and deletes each from quarantine when it is durable there. Rows that are
// not there any more are left out, rows that come in meanwhile too. n is how
// many were replayed, also with an error. A full buffer is waited for.
func (q *Quarantine) Replay(ctx context.Context, s Selection, to telemetry.Buffer) (n uint64, err error) {
	err = q.each(ctx, s, func(msgs []*jetstream.RawStreamMsg) error {
		if err := appendDurably(ctx, msgs, to); err != nil {
			return err
		}
		for _, msg := range msgs {
			if err := q.remove(ctx, msg.Sequence); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// Drop deletes the selected rows for good and returns how many there were.
// Rows that come in meanwhile stay.
func (q *Quarantine) Drop(ctx context.Context, s Selection) (n uint64, err error) {
	if err := s.check(); err != nil {
		return 0, err
	}
	if len(s.IDs) == 0 {
		return q.purge(ctx, s.Device)
	}
	err = q.each(ctx, s, func(msgs []*jetstream.RawStreamMsg) error {
		for _, msg := range msgs {
			if err := q.remove(ctx, msg.Sequence); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// purge deletes everything of a device, or of all where device is "".
func (q *Quarantine) purge(ctx context.Context, device string) (n uint64, err error) {
	subject := quarantineSubject + "*"
	if device != "" {
		subject = quarantineSubject + device
	}
	info, err := q.stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, fmt.Errorf("read the state of the quarantine: %w", err)
	}
	err = q.stream.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(info.State.LastSeq+1))
	if err != nil {
		return 0, fmt.Errorf("drop rows from quarantine: %w", err)
	}
	for _, count := range info.State.Subjects {
		n += count
	}
	return n, nil
}

// remove deletes one message; it may be gone already.
func (q *Quarantine) remove(ctx context.Context, id uint64) error {
	err := q.stream.DeleteMsg(ctx, id)
	if err == nil {
		return nil
	}
	if _, missing := q.read(ctx, id); errors.Is(missing, ErrNotFound) {
		return nil
	}
	return fmt.Errorf("delete row %d from quarantine: %w", id, err)
}

// each calls f with the selected messages that are there now, replayGroup at
// a time.
func (q *Quarantine) each(ctx context.Context, s Selection, f func([]*jetstream.RawStreamMsg) error) error {
	if err := s.check(); err != nil {
		return err
	}
	next, err := q.selected(ctx, s)
	if err != nil {
		return err
	}
	for {
		msgs := make([]*jetstream.RawStreamMsg, 0, replayGroup)
		for len(msgs) < replayGroup {
			msg, err := next()
			if err != nil {
				return err
			}
			if msg == nil {
				break
			}
			msgs = append(msgs, msg)
		}
		if len(msgs) == 0 {
			return nil
		}
		if err := f(msgs); err != nil {
			return err
		}
	}
}

// selected returns a function that gives one message after the other, then
// nil.
func (q *Quarantine) selected(ctx context.Context, s Selection) (func() (*jetstream.RawStreamMsg, error), error) {
	if len(s.IDs) > 0 {
		ids := s.IDs
		return func() (*jetstream.RawStreamMsg, error) {
			for len(ids) > 0 {
				msg, err := q.read(ctx, ids[0])
				ids = ids[1:]
				if !errors.Is(err, ErrNotFound) {
					return msg, err
				}
			}
			return nil, nil
		}, nil
	}
	info, err := q.stream.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the state of the quarantine: %w", err)
	}
	after, last := uint64(0), info.State.LastSeq
	return func() (*jetstream.RawStreamMsg, error) {
		msg, err := q.next(ctx, s.Device, after)
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		if err != nil || msg.Sequence > last {
			return nil, err
		}
		after = msg.Sequence
		return msg, nil
	}, nil
}

// appendDurably returns when everything in msgs is durable in the buffer.
func appendDurably(ctx context.Context, msgs []*jetstream.RawStreamMsg, to telemetry.Buffer) error {
	var seq uint64
	waiter := &durableWaiter{changed: make(chan struct{}, 1)}
	for _, msg := range msgs {
		entries, err := decodeChunk(msg.Data)
		if err != nil {
			return fmt.Errorf("row %d cannot be replayed, only dropped: %w", msg.Sequence, err)
		}
		for _, e := range entries {
			e.Received = time.Now().UnixNano()
			seq++
			if err := appendPatiently(ctx, e, seq, waiter, to); err != nil {
				return fmt.Errorf("replay row %d: %w", msg.Sequence, err)
			}
		}
	}
	return waiter.wait(ctx, seq)
}

func appendPatiently(ctx context.Context, e telemetry.Entry, seq uint64, waiter *durableWaiter, to telemetry.Buffer) error {
	for {
		err := to.Append(e, seq, waiter)
		if !errors.Is(err, telemetry.ErrFull) {
			return err
		}
		timer := time.NewTimer(replayPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
