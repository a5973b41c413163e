package commands

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	// groupLease is how long a group stays with a node that says nothing.
	groupLease = 20 * time.Second
	// groupPersist is how often the progress of a group is recorded, at most.
	groupPersist = time.Second
	// groupRenew is how often it is recorded at least, which renews the lease.
	groupRenew = 5 * time.Second
	// groupBurst is the commands of a group that are issued at once.
	groupBurst = 64
)

// groupRun is a group that this node issues.
type groupRun struct {
	d       *Dispatcher
	members []string
	changed chan struct{} // capacity 1

	mu       sync.Mutex
	g        *Group
	loaded   bool // the states of what was issued before are known
	states   map[string]childState
	held     bool      // it waits for the store
	newest   uint64    // revision of the latest change in states
	over     time.Time // since when every command has ended that was issued; zero: not yet
	gone     int       // issued commands that the history no longer has
	lost     int       // those of them whose end is not known
	recorded time.Time // when g was stored last; zero: not by this run
	lease    time.Time // as stored last
	dirty    bool      // g has changed since
}

type childState struct {
	state    State
	revision uint64
}

// runGroups runs the groups that this node accepts, those it has run before a
// restart, and those whose node is gone.
func (d *Dispatcher) runGroups(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.ready:
	}
	var runs errgroup.Group
	defer func() { _ = runs.Wait() }()
	start := func(g *Group) {
		if !g.Ended.IsZero() || g.Runner != d.cfg.Node && time.Now().Before(g.Lease) {
			return
		}
		run := &groupRun{d: d, g: g.clone(), changed: make(chan struct{}, 1), states: map[string]childState{}}
		d.mu.Lock()
		_, running := d.groups[g.ID]
		if !running {
			d.groups[g.ID] = run
		}
		d.mu.Unlock()
		if running {
			return
		}
		runs.Go(func() error {
			defer func() {
				d.mu.Lock()
				delete(d.groups, g.ID)
				d.mu.Unlock()
			}()
			err := run.run(ctx)
			run.leave(err)
			if err != nil && ctx.Err() == nil {
				d.log.Warn("a group command was interrupted; taking it up again soon", "group", g.ID, "error", err)
			}
			return nil
		})
	}
	tick := time.NewTicker(groupRenew)
	defer tick.Stop()
	for {
		groups, err := d.cfg.Store.Groups(ctx)
		if err != nil && ctx.Err() == nil {
			d.log.Warn("reading the group commands failed; trying again", "error", err)
		}
		for _, g := range groups {
			start(g)
		}
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return nil
			case g := <-d.newGroups:
				start(g)
			case <-tick.C:
				again = true
			}
		}
	}
}

// errNotOurs says that another node has taken the group.
var errNotOurs = errors.New("another node runs the group")

// run issues what is to be issued and waits for the ends.
func (r *groupRun) run(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	if err := r.load(ctx); err != nil {
		return err
	}
	if err := r.issue(ctx); err != nil {
		return err
	}
	return r.await(ctx)
}

// issue the commands that were not issued yet, at the group's rate.
func (r *groupRun) issue(ctx context.Context) error {
	burst := groupBurst
	limiter := rate.NewLimiter(rate.Inf, burst)
	if r.g.Rate > 0 {
		burst = max(1, min(groupBurst, int(r.g.Rate/20)))
		limiter = rate.NewLimiter(rate.Limit(r.g.Rate), burst)
	}
	for {
		r.mu.Lock()
		if reason, stop := r.g.tooManyFailed(); stop && r.g.State == GroupRunning {
			r.g.State, r.g.Reason, r.dirty = GroupStopped, reason, true
		}
		next, open := r.g.Next, r.g.State == GroupRunning
		r.mu.Unlock()
		if !open || next >= len(r.members) {
			return r.record(ctx, true)
		}
		n := min(burst, len(r.members)-next)
		if err := r.pace(ctx, limiter, n); err != nil {
			return err
		}
		if open, err := r.reserve(ctx, next+n); err != nil {
			return err
		} else if !open {
			continue
		}
		refused, err := r.issueSome(ctx, next, n)
		if err != nil {
			r.noteAhead(next, n)
		}
		if wait, err := r.heldUp(ctx, err); err != nil {
			return err
		} else if wait {
			continue
		}
		r.mu.Lock()
		r.g.Next += n
		r.g.Ahead = nil
		r.g.refuse(refused)
		r.dirty = true
		r.mu.Unlock()
		if err := r.record(ctx, false); err != nil {
			return err
		}
	}
}

// pace waits for the rate's permission, and keeps the lease meanwhile.
func (r *groupRun) pace(ctx context.Context, limiter *rate.Limiter, n int) error {
	wait := limiter.ReserveN(time.Now(), n).Delay()
	until := time.Now().Add(wait)
	for {
		left := time.Until(until)
		if left <= 0 || !r.running() {
			return ctx.Err()
		}
		if err := r.pause(ctx, min(left, groupPersist), left > groupPersist); err != nil {
			return err
		}
	}
}

func (r *groupRun) running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, stop := r.g.tooManyFailed()
	return r.g.State == GroupRunning && !stop
}

// pause waits for d, or for a change if that ends it, and records what is due.
func (r *groupRun) pause(ctx context.Context, d time.Duration, record bool) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-r.changed:
		if r.running() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-timer.C:
			}
		}
	}
	if !record {
		return nil
	}
	return r.record(ctx, false)
}

// issueSome issues commands to n members at once, but for those that have
// theirs: the history may have dropped it, and then the id would not keep it
// from being issued again.
func (r *groupRun) issueSome(ctx context.Context, next, n int) (refused []Refusal, err error) {
	members := r.members[next : next+n]
	r.mu.Lock()
	id, spec, operator, operatorID := r.g.ID, r.g.Spec, r.g.Operator, r.g.OperatorID
	r.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(parallel)
	why := make([]string, len(members)) // "": issued
	for i, member := range members {
		if r.issued(next + i) {
			continue
		}
		g.Go(func() error {
			if err := r.d.permitted(ctx, operator, operatorID, member); err != nil {
				if why[i] = r.d.refusal(err); why[i] == "" {
					return err
				}
				return nil
			}
			c, _, err := r.d.accept(ctx, &Request{Device: member, Spec: spec, Key: childID(id, member), Operator: operator}, id)
			if err == nil {
				r.tell(&c)
				return nil
			}
			if why[i] = r.d.refusal(err); why[i] == "" {
				return err
			}
			r.d.log.Info("a group command was not issued to a device", "group", id, "device", member, "error", err)
			return nil
		})
	}
	err = g.Wait()
	for i, reason := range why {
		if reason != "" {
			refused = append(refused, Refusal{Device: members[i], Reason: reason})
		}
	}
	return refused, err
}

// refusal says of a device what its command was refused for; "": the error is
// none of the device's.
func (d *Dispatcher) refusal(err error) string {
	switch {
	case errors.Is(err, ErrTooManyPending):
		return fmt.Sprintf("has %d commands without an end, the most that it may have", d.cfg.MaxPending)
	case errors.Is(err, ErrDeviceDisabled):
		return "is disabled" + disabledBy(err)
	case errors.Is(err, ErrUnknownDevice):
		return "was removed before its turn came"
	case errors.Is(err, ErrOutOfReach):
		return ErrOutOfReach.Error()
	case errors.Is(err, ErrConflict):
		return "the id of its command belongs to another command"
	}
	return ""
}
