package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/device/client"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// order is what is known of one command apart from the hub: by its sender and
// by the device.
type order struct {
	device  uint16
	state   orderState
	runs    uint8 // that devices began, to 255
	outcome outcome
	reboot  bool
	strange bool // it ran on another device
}

type orderState uint8

const (
	orderOpen     orderState = iota // the hub has not said that it has it
	orderAccepted                   // the hub has it
	orderRefused                    // the hub does not take it
)

// outcome is how the device ended a command.
type outcome uint8

const (
	outcomeNone outcome = iota // not at all, or it was interrupted
	outcomeSucceeded
	outcomeFailed
	outcomeRejected
)

// orderLedger is all commands of a proof, 7 bytes each. It may be used at once
// by many goroutines.
type orderLedger struct {
	mu      sync.Mutex
	orders  []order
	unknown int // that ran, and were never sent
	repeats int // requests that the hub had accepted before
}

const orderPrefix = "proof-"

func orderID(k int) string { return orderPrefix + strconv.Itoa(k) }

// numbered is the number of a command; false: it is none of ours.
func (l *orderLedger) numbered(id string) (int, bool) {
	digits, ok := strings.CutPrefix(id, orderPrefix)
	k, err := strconv.Atoi(digits)
	return k, ok && err == nil && k >= 0 && k < len(l.orders)
}

// ran is called by a device before it obeys.
func (l *orderLedger) ran(device int, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.numbered(id)
	if !ok {
		l.unknown++
		return
	}
	o := &l.orders[k]
	o.runs += min(1, 255-o.runs)
	o.strange = o.strange || int(o.device) != device
}

// ended is called by a device after it has obeyed.
func (l *orderLedger) ended(_ int, id string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k, ok := l.numbered(id); ok {
		l.orders[k].outcome = outcomeOf(err)
	}
}

func outcomeOf(err error) outcome {
	var argument *client.ArgumentError
	var command *client.CommandError
	switch {
	case err == nil:
		return outcomeSucceeded
	case errors.As(err, &argument), errors.As(err, &command) && command.Rejected:
		return outcomeRejected
	case command != nil:
		return outcomeFailed
	default:
		return outcomeNone // canceled, timed out, or cut off by a restart
	}
}

func (l *orderLedger) add(o order) (k int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orders = append(l.orders, o)
	return len(l.orders) - 1
}

func (l *orderLedger) set(k int, s orderState, existed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orders[k].state = s
	if existed {
		l.repeats++
	}
}

// request is a command to be sent.
type request struct {
	k           int
	spec        *operatorv1.CommandSpec
	cancelAfter time.Duration // after it was accepted; 0: it is not canceled
}

// senders is how many commands are on their way to the hub at once.
const senders = 16

// sendOrders sends commands at the rate wanted until ctx ends, and returns
// when the hub has answered for every one, or giveUp ends.
func (r *proof) sendOrders(ctx, giveUp context.Context) {
	rng := rand.New(rand.NewPCG(r.cfg.Seed, uint64(lanes)))
	requests := make(chan request)
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for q := range requests {
				r.send(giveUp, q, &all)
			}
		})
	}
	pause := time.Duration(float64(time.Second) / r.cfg.Commands)
	for next := time.Now(); sleep(ctx, time.Until(next)); next = next.Add(pause) {
		q := newRequest(rng)
		device := rng.IntN(len(r.devices))
		q.k = r.orders.add(order{device: uint16(device), reboot: q.spec.Name == "reboot"})
		requests <- q
	}
	close(requests)
	all.Wait()
}

// newRequest is a command of any kind: quick, long, failing, refused, hanging,
// or one that restarts the device.
func newRequest(rng *rand.Rand) request {
	spec := &operatorv1.CommandSpec{Ttl: durationpb.New(5 * time.Minute), Timeout: durationpb.New(6 * time.Second)}
	args := ""
	switch n := rng.IntN(100); {
	case n < 55:
		spec.Name, args = "set-relay", fmt.Sprintf(`{"on":%v,"relay":%d}`, rng.IntN(2) == 0, 1+rng.IntN(relays))
	case n < 65:
		spec.Name = "identify"
	case n < 78:
		spec.Name, args = "selftest", fmt.Sprintf(`{"seconds":%.2f}`, 0.1+1.5*rng.Float64())
	case n < 84:
		spec.Name, args = "fail", fmt.Sprintf(`{"code":%d}`, 1+rng.IntN(16))
	case n < 87:
		spec.Name = "reboot"
	case n < 89:
		spec.Name, spec.Timeout = "hang", durationpb.New(time.Second)
	case n < 94:
		spec.Name = "no-such-command"
	default:
		spec.Name, args = "set-relay", `{"relay":9,"on":true}`
	}
	if args != "" {
		spec.Payload = &operatorv1.CommandSpec_Json{Json: args}
	}
	switch n := rng.IntN(20); {
	case n < 3:
		spec.Replay = operatorv1.ReplayClass_REPLAY_CLASS_ONCE
	case n < 6:
		spec.Replay = operatorv1.ReplayClass_REPLAY_CLASS_LATEST_WINS
	case n < 8:
		spec.Ttl = durationpb.New(time.Duration(1000+rng.IntN(3000)) * time.Millisecond)
	}
	q := request{spec: spec}
	if rng.IntN(12) == 0 {
		q.cancelAfter = time.Duration(1 + rng.Int64N(int64(2*time.Second)))
	}
	return q
}

// send insists, as a careful operator does: with its key, again and again,
// until the hub has answered.
func (r *proof) send(ctx context.Context, q request, all *sync.WaitGroup) {
	r.orders.mu.Lock()
	device := r.devices[r.orders.orders[q.k].device].id
	r.orders.mu.Unlock()
	state, existed := orderAccepted, false
	if !r.insist(ctx, func() error {
		answer, err := call(ctx, r.hub.commands.SendCommand, &operatorv1.SendCommandRequest{DeviceId: device, Spec: q.spec, Key: orderID(q.k)})
		if isDisabled(err) {
			state, err = orderRefused, nil
		}
		existed = err == nil && answer.GetExisted()
		return err
	}) {
		return
	}
	r.orders.set(q.k, state, existed)
	if q.cancelAfter == 0 || state != orderAccepted {
		return
	}
	all.Go(func() {
		_ = sleep(ctx, q.cancelAfter) && r.insist(ctx, func() error {
			_, err := call(ctx, r.hub.commands.CancelCommand, &operatorv1.CancelCommandRequest{Id: orderID(q.k)})
			if connect.CodeOf(err) == connect.CodeFailedPrecondition {
				return nil // it has ended
			}
			return err
		})
	})
}

// isDisabled holds for the hub's answer to a command for a disabled device.
func isDisabled(err error) bool { return connect.CodeOf(err) == connect.CodeFailedPrecondition }

// insist calls until the hub has answered; false: ctx has ended, or the hub
// has given an answer that makes no sense. A hub that is away answers nothing,
// and one that cannot take more says so.
func (r *proof) insist(ctx context.Context, try func() error) bool {
	for {
		err := try()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		switch code := connect.CodeOf(err); code {
		case connect.CodeNotFound, connect.CodeInvalidArgument, connect.CodeAlreadyExists, connect.CodePermissionDenied, connect.CodeUnauthenticated, connect.CodeUnimplemented:
			r.find(promiseCommands, "the hub answers an operator: %v", err)
			return false
		}
		if !sleep(ctx, 150*time.Millisecond) {
			return false
		}
	}
}
