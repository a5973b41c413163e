package commands

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/tetherline/tetherline/device"
)

// Send accepts a command, durably, and returns it as it stands: SENT when the
// device is connected to this node, else QUEUED. existed: the key was used
// for the same request before; the command is that one.
//
// Errors wrap ErrInvalid, ErrUnknownDevice, ErrDeviceDisabled,
// ErrTooManyPending or ErrConflict, and nothing was accepted. After any other
// error it may have been: ask again with the same key.
func (d *Dispatcher) Send(ctx context.Context, r Request) (c Command, existed bool, err error) {
	if err := device.CheckID(r.Device); err != nil {
		return Command{}, false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := r.Spec.normalize(); err != nil {
		return Command{}, false, err
	}
	if r.Key != "" {
		if err := CheckKey(r.Key); err != nil {
			return Command{}, false, err
		}
	}
	if err := d.wait(ctx); err != nil {
		return Command{}, false, err
	}
	return d.accept(ctx, &r, "")
}

// accept a checked request.
func (d *Dispatcher) accept(ctx context.Context, r *Request, group string) (Command, bool, error) {
	id := r.Key
	if id == "" {
		var err error
		if id, err = newID(); err != nil {
			return Command{}, false, err
		}
	} else {
		if group == "" {
			release, err := d.claimKey(id, false)
			if err != nil {
				return Command{}, false, err
			}
			defer release()
		}
		if c, err := d.existing(ctx, id, r); err != nil || c != nil {
			return deref(c), c != nil, err
		}
		if group == "" {
			if err := d.noGroupHas(ctx, id); err != nil {
				return Command{}, false, err
			}
		}
	}
	registration := d.cfg.Devices.Registration(r.Device)
	if err := d.cfg.Devices.CheckDevice(ctx, r.Device); err != nil {
		return Command{}, false, err
	}
	q := d.acquire(r.Device)
	defer d.release(q)
	if err := d.admit(q, id, &r.Spec); err != nil {
		d.stats.refused.Add(1)
		return Command{}, false, err
	}
	defer d.admitted(q, id)
	q.lane.Lock()
	defer q.lane.Unlock()
	n := newCommand(id, r, group, d.cfg.Node, d.here(0).time)
	n.Registration = registration
	return d.create(ctx, q, n, r)
}

// existing is the command that a key was used for; nil: none.
func (d *Dispatcher) existing(ctx context.Context, id string, r *Request) (*Command, error) {
	var c *Command
	if e := d.entry(id); e != nil {
		c = d.look(e)
	}
	if c == nil {
		var err error
		if c, err = d.cfg.Store.Command(ctx, id); errors.Is(err, ErrNotFound) {
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("look up the key %s: %w", id, err)
		}
		if !c.State.Ended() {
			d.install(c, false) // its record was made without an answer, or by another node
		}
	}
	if c.Device != r.Device || c.Digest != digest(r.Device, &r.Spec) {
		return nil, fmt.Errorf("key %s: %w", id, ErrConflict)
	}
	return c, nil
}

// admit reserves a place among the pending commands, until admitted.
func (d *Dispatcher) admit(q *queue, id string, s *Spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(q.pending)
	for _, other := range q.admitting {
		if d.entries[other] == nil {
			n++
		}
	}
	if s.Replay == LatestWins {
		for _, e := range q.pending { // those it takes the place of
			if c := e.view; c.State == Queued && c.Spec.Replay == LatestWins && c.Spec.Name == s.Name {
				n--
			}
		}
	}
	if n >= d.cfg.MaxPending {
		return fmt.Errorf("device %s has %d commands without an end, and may have %d: %w; wait for one to end, or cancel one", q.device, n, d.cfg.MaxPending, ErrTooManyPending)
	}
	q.admitting = append(q.admitting, id)
	return nil
}

func (d *Dispatcher) admitted(q *queue, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(q.admitting, id); i >= 0 {
		q.admitting = slices.Delete(q.admitting, i, i+1)
	}
}

// create stores the command, as SENT at once where it can go out at once, and
// hands it over. The caller holds the lane.
func (d *Dispatcher) create(ctx context.Context, q *queue, c *Command, r *Request) (Command, bool, error) {
	direct, epoch := false, d.open(q)
	held := epoch != 0 && d.holds(q.device)
	if epoch != 0 && !held {
		n, err := c.sent(d.handing(q.device, epoch))
		if err != nil {
			return Command{}, false, err
		}
		c, direct = n, true
	} else {
		c.wait("waiting for the device to connect, or for those before it")
	}
	wctx, cancel := storeContext(ctx)
	defer cancel()
	known, stored, err := createOrFind(wctx, c.ID, func() error { return d.cfg.Store.Create(wctx, c) },
		func() (*Command, error) { return d.existing(ctx, c.ID, r) })
	switch {
	case stored != nil:
		return Command{}, false, d.notCreated(c, stored)
	case err != nil || known != nil:
		return deref(known), known != nil, err
	}
	d.stats.accepted.Add(1)
	e := d.installNew(c, direct)
	d.admitted(q, c.ID)
	switch {
	case e == nil:
	case held:
		d.retryLater(q, e, errNoSession)
	case direct:
		if err := d.pushNew(ctx, e); err != nil {
			d.retryLater(q, e, err)
		}
	}
	if c.Spec.Replay == LatestWins {
		d.mu.Lock()
		pending := slices.Clone(q.pending)
		d.mu.Unlock()
		if err := d.supersede(ctx, pending); err != nil {
			d.retryLater(q, pending[0], err)
		}
	}
	if e != nil && d.orphaned(c) {
		// The device was removed meanwhile: nobody else may know of this one.
		if err := d.endOrphan(ctx, e); err != nil {
			d.log.Warn("a command of a device that was removed was not ended; trying again", "command", c.ID, "device", c.Device, "error", err)
		}
		if now, err := d.command(ctx, c.ID); err == nil {
			c = now
		}
	} else if e != nil {
		if now := d.look(e); now != nil {
			c = now
		}
	}
	return *c, false, nil
}

// notCreated is for a command that the store did not take, or may have taken.
func (d *Dispatcher) notCreated(c *Command, err error) error {
	if errors.Is(err, ErrFull) {
		d.stats.full.Add(1)
	} else {
		d.stats.storeErrors.Add(1)
		d.doubt(c)
	}
	return fmt.Errorf("record the command %s: %w", c.ID, err)
}

// pushNew hands over a command that was just created as SENT, unless its time
// is over or it was canceled meanwhile.
func (d *Dispatcher) pushNew(ctx context.Context, e *entry) error {
	e.step.Lock()
	defer e.step.Unlock()
	c := d.look(e)
	if c == nil || c.State != Sent || c.Attempts != 1 || !time.Now().Before(c.Expires) {
		return nil
	}
	if c.CancelRequested {
		return d.unsend(ctx, e, noSessionLeft)
	}
	if c.Group != "" && !d.leased(c.Group) {
		if ended, err := d.endOvertaken(ctx, e, c); err != nil || ended {
			return err
		}
	}
	err := d.push(ctx, e, c)
	// The session's writer, which has just been started, goes first: the
	// device waits for it, and whoever has called Send for the device.
	runtime.Gosched()
	return err
}

// installNew puts a command that was just created into the index.
func (d *Dispatcher) installNew(c *Command, owed bool) *entry {
	e := d.install(c, true)
	if e != nil && owed {
		d.mu.Lock()
		d.knownLocked(e.id)
		e.owed, e.takeBack = !e.gone && e.pushed == 0, false
		d.mu.Unlock()
	}
	return e
}

// open is the session that the command can go out on at once: the device is
// here, and nothing that was accepted earlier is still to be sent. 0: none.
func (d *Dispatcher) open(q *queue) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.epoch == 0 || q.hold {
		return 0
	}
	for _, e := range q.pending {
		v := e.view
		if v.State == Sent && e.pushed != q.epoch && v.Spec.Replay != Once && !v.CancelRequested {
			return 0
		}
		if v.State == Queued {
			return 0
		}
	}
	return q.epoch
}

func deref(c *Command) Command {
	if c == nil {
		return Command{}
	}
	return *c
}
