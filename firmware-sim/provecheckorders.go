package firmwaresim

import (
	"context"
	"fmt"
	"strings"
	"sync"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

const (
	delivered = operatorv1.CommandState_COMMAND_STATE_DELIVERED
	running   = operatorv1.CommandState_COMMAND_STATE_RUNNING
	succeeded = operatorv1.CommandState_COMMAND_STATE_SUCCEEDED
	failed    = operatorv1.CommandState_COMMAND_STATE_FAILED
	rejected  = operatorv1.CommandState_COMMAND_STATE_REJECTED
	canceled  = operatorv1.CommandState_COMMAND_STATE_CANCELED
)

// ended reports whether a state is an end.
func ended(s operatorv1.CommandState) bool { return s >= succeeded }

// decidedByHub reports whether the hub gives such an end without the device's
// word, so that this may still come, and wins.
func decidedByHub(s operatorv1.CommandState) bool { return s > rejected }

// checkOrders compares every command with what its sender and its device know.
func (r *proof) checkOrders(ctx context.Context) error {
	l := &r.orders
	known := make(bitmap, 0)
	ids := make(chan int)
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for k := range ids {
				r.checkOrder(ctx, k)
			}
		})
	}
	err := r.listOrders(ctx, func(id string) {
		k, ok := l.numbered(id)
		if !ok {
			r.find(promiseCommands, "there is a command %s that was never sent", id)
			return
		}
		if !known.set(uint32(k)) {
			return // the list has moved on under the pages
		}
		ids <- k
	})
	close(ids)
	all.Wait()
	if err != nil {
		return err
	}
	for k, o := range l.orders {
		r.verdict.Commands.Accepted += btoi(o.state == orderAccepted)
		r.verdict.Commands.Ran += btoi(o.runs > 0)
		r.verdict.Commands.Twice += btoi(o.runs > 1)
		if o.state == orderAccepted && !known.has(uint32(k)) {
			r.find(promiseCommands, "command %s was accepted and is gone", orderID(k))
		}
		if o.runs > 0 && !known.has(uint32(k)) {
			r.find(promiseCommands, "command %s has run, and the hub does not know it", orderID(k))
		}
		if o.runs > 1 {
			r.find(promiseCommands, "command %s has run %d times", orderID(k), o.runs)
		}
		if o.strange {
			r.find(promiseCommands, "command %s has run on a device that it was not for", orderID(k))
		}
	}
	if l.unknown > 0 {
		r.find(promiseCommands, "%d commands have run that nobody sent", l.unknown)
	}
	r.verdict.Commands.Sent, r.verdict.Commands.Repeated = len(l.orders), l.repeats
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *proof) listOrders(ctx context.Context, each func(id string)) error {
	for token := ""; ; {
		var answer *operatorv1.ListCommandsResponse
		err := persist(ctx, func() (err error) {
			answer, err = call(ctx, r.hub.commands.ListCommands, &operatorv1.ListCommandsRequest{PageSize: 1000, PageToken: token})
			return err
		})
		if err != nil {
			return fmt.Errorf("list commands: %w", err)
		}
		for _, c := range answer.Commands {
			each(c.Id)
		}
		if token = answer.NextPageToken; token == "" {
			return nil
		}
	}
}

// checkOrder compares one command.
func (r *proof) checkOrder(ctx context.Context, k int) {
	r.orders.mu.Lock()
	o := r.orders.orders[k]
	r.orders.mu.Unlock()
	var answer *operatorv1.GetCommandResponse
	err := persist(ctx, func() (err error) {
		answer, err = call(ctx, r.hub.commands.GetCommand, &operatorv1.GetCommandRequest{Id: orderID(k)})
		return err
	})
	if err != nil {
		r.find(promiseCommands, "command %s is listed, and: %v", orderID(k), err)
		return
	}
	r.mu.Lock()
	r.verdict.Commands.Ends[strings.TrimPrefix(answer.Command.State.String(), "COMMAND_STATE_")]++
	r.mu.Unlock()
	if wrong := o.wrong(answer.Command, answer.Events, r.devices[o.device].id); wrong != "" {
		r.mu.Lock()
		r.verdict.Commands.Wrong++
		r.mu.Unlock()
		r.find(promiseCommands, "%s", wrong+story(answer))
	}
}

// wrong is what contradicts the ledger; "": nothing.
func (o order) wrong(c *operatorv1.Command, events []*operatorv1.CommandEvent, device string) string {
	var ends []operatorv1.CommandState
	for _, e := range events {
		// What is noted of a command that the hub has ended, as a late request
		// to cancel it, is no further end.
		again := len(ends) > 0 && ends[len(ends)-1] == e.State && decidedByHub(e.State)
		if ended(e.State) && !again {
			ends = append(ends, e.State)
		}
	}
	s := c.State
	never := s == rejected && o.outcome == outcomeNone || ended(s) && c.Attempts == 0
	said := map[outcome]operatorv1.CommandState{outcomeSucceeded: succeeded, outcomeFailed: failed, outcomeRejected: rejected}[o.outcome]
	switch {
	case c.DeviceId != device:
		return "it is for another device: "
	case !ended(s):
		return "it has no end: "
	case len(ends) != 1 && !(len(ends) == 2 && decidedByHub(ends[0])) || ends[len(ends)-1] != s:
		return fmt.Sprintf("its ends are %v: ", ends)
	case c.Spec.Replay == operatorv1.ReplayClass_REPLAY_CLASS_ONCE && c.Attempts > 1:
		return fmt.Sprintf("it was to be sent once and was sent %d times: ", c.Attempts)
	case s == canceled && o.outcome != outcomeSucceeded: // what failed after it was canceled was canceled
	case o.outcome != outcomeNone && s != said:
		return fmt.Sprintf("its device says %v: ", said)
	case s == succeeded && !o.reboot && o.runs == 0: // a restart completes a reboot that had not begun
		return "it has not run: "
	case never && o.runs > 0:
		return "it has run: "
	}
	return ""
}

// overdue counts the commands that a device has in hand, or has ended, and
// whose end the hub does not know from the device yet.
func (r *proof) overdue(ctx context.Context, suspects []int) (still []int) {
	for _, k := range suspects {
		answer, err := call(ctx, r.hub.commands.GetCommand, &operatorv1.GetCommandRequest{Id: orderID(k)})
		if err != nil {
			still = append(still, k)
			continue
		}
		heard, last := false, answer.Events[len(answer.Events)-1]
		for _, e := range answer.Events {
			heard = heard || e.State == delivered || e.State == running
		}
		if (heard || r.orders.at(k).outcome != outcomeNone) && last.SessionEpoch == 0 {
			still = append(still, k)
		}
	}
	return still
}

func (l *orderLedger) at(k int) order {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.orders[k]
}

// suspects are the commands that the hub has ended without the device's word.
func (r *proof) suspects(ctx context.Context) (suspects []int, err error) {
	for state := rejected + 1; state <= canceled; state++ {
		for token := ""; ; {
			answer, err := call(ctx, r.hub.commands.ListCommands, &operatorv1.ListCommandsRequest{
				States: []operatorv1.CommandState{state}, PageSize: 1000, PageToken: token,
			})
			if err != nil {
				return nil, err
			}
			for _, c := range answer.Commands {
				if k, ok := r.orders.numbered(c.Id); ok && c.Attempts > 0 {
					suspects = append(suspects, k)
				}
			}
			if token = answer.NextPageToken; token == "" {
				break
			}
		}
	}
	return suspects, nil
}

// story of a command.
func story(a *operatorv1.GetCommandResponse) string {
	c := a.Command
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q to %s is %v: %s %s", c.Id, c.Spec.Name, c.DeviceId, c.State, c.Reason, c.Message)
	for _, e := range a.Events {
		fmt.Fprintf(&b, "\n+%v %v %s (session %d, attempt %d) %s", e.Time.AsTime().Sub(c.Created.AsTime()), e.State, e.Reason, e.SessionEpoch, e.Attempt, e.Message)
	}
	return b.String()
}
