package commands

import (
	"context"
	"errors"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// push hands a command that is recorded as SENT to the session. The caller
// holds e.step.
func (d *Dispatcher) push(ctx context.Context, e *entry, c *Command) error {
	f := &devicev1.Command{
		Id: c.ID, Name: c.Spec.Name, Attempt: c.Attempts,
		TimeoutMs: uint32(c.Spec.Timeout.Milliseconds()),
	}
	if c.Spec.Payload.JSON != "" {
		f.Payload = &devicev1.Command_Json{Json: c.Spec.Payload.JSON}
	} else {
		f.Payload = &devicev1.Command_Protobuf{Protobuf: c.Spec.Payload.Protobuf}
	}
	epoch, ok := d.cfg.Sender.Send(c.Device, &devicev1.HubFrame{Frame: &devicev1.HubFrame_Command{Command: f}})
	if ok {
		d.stats.sent.Add(1)
		if c.Attempts > 1 {
			d.stats.resent.Add(1)
		}
		d.mu.Lock()
		e.pushed, e.owed, e.takeBack = epoch, false, false
		d.mu.Unlock()
		return nil
	}
	d.mu.Lock()
	e.queue.hold = true // until retryLater, which the caller goes on to
	d.mu.Unlock()
	if c.Attempts > 1 {
		// It may have reached the device before: it stays SENT.
		d.mu.Lock()
		e.owed = false
		d.mu.Unlock()
		return errNoSession
	}
	if err := d.unsend(ctx, e, noSessionLeft); err != nil {
		return err // still owed
	}
	return errNoSession
}

// Why a sending is taken back.
const (
	noSessionLeft = "the connection was gone before it was sent; waiting for the next"
	noAnswerCame  = "it was not put on the wire: the answer of the store that this was recorded came too late; it is sent now, or when the device connects"
)

// unsend takes back a first sending of which no byte has left. The caller
// holds e.step.
func (d *Dispatcher) unsend(ctx context.Context, e *entry, why string) error {
	_, err := d.change(ctx, e, func(c *Command) (*Command, error) {
		if c.State != Sent || c.Attempts != 1 {
			return c, nil
		}
		return c.unsent(d.here(0), why)
	})
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	d.mu.Lock()
	e.owed, e.takeBack = false, false
	d.mu.Unlock()
	return nil
}

// pushCancel asks the device to stop the command, once a session.
func (d *Dispatcher) pushCancel(e *entry, epoch uint64) error {
	d.mu.Lock()
	done := e.canceled == epoch
	d.mu.Unlock()
	if done {
		return nil
	}
	epoch, ok := d.cfg.Sender.Send(e.queue.device, &devicev1.HubFrame{
		Frame: &devicev1.HubFrame_CommandCancel{CommandCancel: &devicev1.CommandCancel{Id: e.id}},
	})
	if !ok {
		return errNoSession
	}
	d.mu.Lock()
	e.canceled = epoch
	d.mu.Unlock()
	return nil
}
