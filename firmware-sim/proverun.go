package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// Bounds of the time after the last fault.
const (
	firstRows   = 2 * time.Minute  // for the fleet to be online and its first rows stored
	afterglow   = 2 * time.Second  // in which the fleet goes on publishing
	stuckAfter  = 90 * time.Second // without any progress
	quietWithin = 3 * time.Minute  // for the hub to be as it was before a device came: it keeps idle connections to InfluxDB for 90 s
)

// run has everything happen, and waits until all is said and stored. An error
// says why it ended early; what was done until then can be judged.
func (r *proof) run(ctx context.Context, plan *provePlan) error {
	fleet, parting := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer parting()
	for _, d := range r.devices {
		all.Go(func() {
			if err := d.run(fleet); err != nil {
				r.find(theRun, "%v", err)
			}
		})
	}
	measuring, quiet := context.WithCancel(ctx)
	var publishing sync.WaitGroup
	defer publishing.Wait()
	defer quiet()
	period := r.cfg.period()
	for _, d := range r.devices {
		publishing.Go(func() {
			if err := d.publish(measuring, period); err != nil {
				r.find(theRun, "publish: %v", err)
			}
		})
	}
	if err := r.awaitFirstRows(ctx); err != nil {
		return err
	}
	r.began = time.Now() // of the schedule
	r.watch.restart(r.began)
	sending, enough := context.WithCancel(ctx)
	settling, giveUp := context.WithCancel(ctx)
	defer giveUp()
	all.Go(func() { r.watch.run(sending) })
	sent := make(chan struct{})
	go func() { defer close(sent); r.sendOrders(sending, settling) }()
	broken := r.breakThings(ctx, plan)
	if broken == nil {
		sleep(ctx, time.Until(r.began.Add(r.cfg.For)))
		broken = r.tryTheRest(ctx)
	}
	enough()
	if broken != nil {
		r.find(theRun, "%v", broken)
		giveUp()
		<-sent
		return broken
	}
	r.say("all faults are over: waiting until everything is said and stored")
	sleep(ctx, afterglow)
	quiet()
	publishing.Wait()
	err := r.settle(ctx, sent)
	giveUp()
	<-sent
	if err == nil {
		r.verdict.Retained, err = r.weighFrames(ctx)
	}
	if err == nil {
		r.verdict.Leaks, err = r.weighSessions(ctx)
	}
	if err != nil {
		r.find(brokenBy(err), "%v", err)
		r.hub.dump() // where it is stuck stands in its log
		return err
	}
	r.countDrops(ctx)
	r.say("comparing every row and every command")
	if err := errors.Join(r.checkRows(ctx), r.checkOrders(ctx)); err != nil {
		r.find(theRun, "%v", err)
		return err
	}
	parting()
	all.Wait()
	r.awaitQuiet(ctx)
	for _, d := range r.devices {
		d.close()
	}
	if err := r.hub.stop(programStop); err != nil {
		r.find(theRun, "%v", err)
	}
	return nil
}

// awaitFirstRows waits until the store knows what kind each field is, and
// every device is there.
func (r *proof) awaitFirstRows(ctx context.Context) error {
	deadline := time.Now().Add(firstRows)
	for {
		online := 0
		for _, d := range r.devices {
			online += btoi(d.online.Load())
		}
		answer, err := call(ctx, r.hub.telemetry.Count, &operatorv1.CountRequest{DeviceId: r.devices[0].id})
		if err == nil && answer.Rows > 0 && online == len(r.devices) {
			return nil
		}
		if time.Now().After(deadline) {
			err = fmt.Errorf("after %v %d of %d devices are connected, and %d rows of the first one stored (%w)", firstRows, online, len(r.devices), answer.GetRows(), err)
			r.find(theRun, "%v", err)
			return err
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// settle waits until the hub has every row and every command has its end, for
// as long as there is progress.
func (r *proof) settle(ctx context.Context, sent <-chan struct{}) error {
	var suspects []int
	asked := false
	for _, step := range []struct {
		broken promise // where nothing changes any more, and the hub answers
		what   string
		left   func() (int, error)
	}{
		{theRun, "devices have rows that are not acknowledged", r.unsettled},
		{promiseStored, "chunks wait in the hub's buffer", func() (int, error) { return r.buffered(ctx) }},
		{theRun, "requests for commands are not answered", func() (int, error) {
			select {
			case <-sent:
				return 0, nil
			default:
				return 1, nil
			}
		}},
		{promiseCommands, "commands have no end", func() (int, error) {
			s, err := call(ctx, r.hub.status.GetStatus, &operatorv1.GetStatusRequest{})
			for _, c := range s.GetChecks() {
				if c.Name == "commands" && !c.Ok {
					err = errors.New(c.Detail)
				}
			}
			return int(s.GetCommandsPending()), err
		}},
		{promiseCommands, "commands wait for the word of their device", func() (n int, err error) {
			if !asked {
				if suspects, err = r.suspects(ctx); err != nil {
					return 0, err
				}
				asked = true
			}
			suspects = r.overdue(ctx, suspects)
			return len(suspects), nil
		}},
	} {
		if err := r.await(ctx, step.what, step.left); err != nil {
			var stuck *stuckError
			if errors.As(err, &stuck) {
				stuck.broken = step.broken
			}
			return err
		}
	}
	return nil
}

// stuckError says of what something is left, and does not get less.
type stuckError struct {
	broken promise // by that
	what   string
	left   int
	err    error // of the last look; nil: the hub has answered it
}

func (e *stuckError) Error() string {
	words := fmt.Sprintf("%d %s, and nothing has changed for %v", e.left, e.what, stuckAfter)
	if e.err != nil {
		words += "\n" + e.err.Error()
	}
	return words
}

func (e *stuckError) Unwrap() error { return e.err }

// brokenBy is the promise that is broken where a run ends early with err. A hub
// that does not answer has not come back.
func brokenBy(err error) promise {
	var stuck *stuckError
	if errors.As(err, &stuck) && stuck.err == nil {
		return stuck.broken
	}
	return theRun
}

func (r *proof) unsettled() (n int, err error) {
	for _, d := range r.devices {
		n += btoi(!d.settled())
	}
	return n, nil
}

func (r *proof) buffered(ctx context.Context) (chunks int, err error) {
	s, err := call(ctx, r.hub.status.GetStatus, &operatorv1.GetStatusRequest{})
	return int(s.GetBuffer().GetChunks()), err
}

// await polls until nothing is left. Where nothing changes for too long, what
// is left is stuck.
func (r *proof) await(ctx context.Context, what string, left func() (int, error)) error {
	least, since := -1, time.Now()
	for {
		n, err := left()
		if err == nil && n == 0 {
			return nil
		}
		if err == nil && (least < 0 || n < least) {
			least, since = n, time.Now()
		}
		if time.Since(since) > stuckAfter {
			return &stuckError{what: what, left: least, err: err}
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// countDrops compares what devices say they gave up with what an operator
// sees of it.
func (r *proof) countDrops(ctx context.Context) {
	for _, d := range r.devices {
		said := d.spool.Dropped()
		r.count.droppedByDevices += said
		if left := d.ledger.dropped.count(); left != said {
			r.find(theRun, "%s says that it has given up %d rows, and %d have left its spool", d.id, said, left)
		}
		if !d.forgetful && said > 0 {
			r.find(promiseRefuses, "%s has given up %d rows, and was to wait for room", d.id, said)
		}
		var seen uint64
		err := r.await(ctx, "", func() (int, error) {
			answer, err := call(ctx, r.hub.devices.GetDevice, &operatorv1.GetDeviceRequest{Id: d.id})
			seen = answer.GetDevice().GetDroppedRows()
			return btoi(seen != said), err
		})
		if err != nil {
			r.find(promiseRefuses, "%s has given up %d rows, and an operator sees %d", d.id, said, seen)
		}
		r.count.droppedByHub += seen
	}
}

// awaitQuiet waits until the hub holds no more than before the first device
// came.
func (r *proof) awaitQuiet(ctx context.Context) {
	deadline := time.Now().Add(quietWithin)
	for {
		m, err := r.hub.metrics(ctx)
		c := &r.count
		c.connectionsLeft = m["tetherline_connections"]
		c.goroutinesLeft, c.descriptorsLeft = m["go_goroutines"]-r.idle.goroutines, m["process_open_fds"]-r.idle.descriptors
		if err == nil && c.connectionsLeft == 0 && c.goroutinesLeft <= leftSlack && c.descriptorsLeft <= leftSlack {
			return
		}
		if time.Now().After(deadline) || !sleep(ctx, 100*time.Millisecond) {
			r.find(promiseDeadPeers, "%v after the last device left the hub holds %.0f connections, %+.0f goroutines and %+.0f descriptors beside those of an idle hub",
				quietWithin, c.connectionsLeft, c.goroutinesLeft, c.descriptorsLeft)
			return
		}
	}
}

// leftSlack is goroutines and descriptors that a hub may hold more than when
// it had done nothing yet. It keeps up to 16 idle connections to InfluxDB, of
// two goroutines each, and closes them after 90 s; what it may leave of
// sessions is weighed before, by itself.
const leftSlack = 25
