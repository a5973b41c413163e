package firmwaresim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// Bounds of what a mute link is for.
const (
	muteOrders = 6                // commands that run while nobody hears of it
	muteWait   = 6 * time.Second  // for one of them to run; shorter than a heartbeat takes
	muteRepeat = 15 * time.Second // for the hub to send them again
	muteAsk    = 4 * time.Second  // for the hub to be asked about all of them, before a heartbeat misses the device
)

// muteLink has devices obey commands of which the hub hears no word: it must
// not say that it has. Then their connections are reset: the hub sends the
// commands again, and they must not run again.
func (r *proof) muteLink(ctx context.Context, f plannedFault) error {
	l := r.calmDevice(ctx, f.pick).link
	l.silence(up)
	defer l.sound(up)
	var sending sync.WaitGroup
	defer sending.Wait()
	var orders []int
	for i, d := range r.devices {
		if d.link != l || !d.online.Load() || len(orders) == muteOrders {
			continue
		}
		k := r.orders.add(order{device: uint16(i)})
		orders = append(orders, k)
		sending.Go(func() {
			r.send(ctx, request{k: k, spec: &operatorv1.CommandSpec{
				Name: "set-relay", Payload: &operatorv1.CommandSpec_Json{Json: fmt.Sprintf(`{"relay":1,"on":%v}`, k%2 == 0)},
				Ttl: durationpb.New(5 * time.Minute), Timeout: durationpb.New(30 * time.Second),
			}}, &sending)
		})
	}
	for began := time.Now(); ; {
		ran, passed := r.running(orders), time.Since(began)
		if ran == len(orders) || ran > 0 && passed > f.lasts || passed > muteWait || !sleep(ctx, 10*time.Millisecond) {
			break
		}
	}
	unheard := orders[:0]
	for _, k := range orders {
		if r.orders.at(k).runs > 0 {
			unheard = append(unheard, k)
		}
	}
	r.askUnheard(ctx, unheard)
	l.cut() // what the devices have said never arrives
	l.sound(up)
	if r.awaitRepeats(ctx, unheard) == 0 {
		return errNotMet
	}
	return nil
}

// askUnheard looks whether the hub says of commands that their device has got
// them, has begun them or has ended them. Their devices have, and nothing of
// that gets to the hub until it has answered here.
func (r *proof) askUnheard(ctx context.Context, unheard []int) {
	ctx, cancel := context.WithTimeout(ctx, muteAsk)
	defer cancel()
	for _, k := range unheard {
		answer, err := call(ctx, r.hub.commands.GetCommand, &operatorv1.GetCommandRequest{Id: orderID(k)})
		if err != nil {
			continue // it is away, or busy
		}
		if said := deviceWord(answer); said != 0 {
			r.find(promiseCommands, "the hub says %v of a command, and cannot have heard a word of it from the device: %s", said, story(answer))
			continue
		}
		r.count.unheardOrders.Add(1)
	}
}

// deviceWord is a state of a command that is set on the device's word alone; 0:
// it has had none.
func deviceWord(a *operatorv1.GetCommandResponse) operatorv1.CommandState {
	byDevice := func(s operatorv1.CommandState) bool { return s >= delivered && !decidedByHub(s) }
	for _, e := range a.Events {
		if byDevice(e.State) {
			return e.State
		}
	}
	if byDevice(a.Command.State) {
		return a.Command.State
	}
	return 0
}

func (r *proof) running(orders []int) (n int) {
	for _, k := range orders {
		n += btoi(r.orders.at(k).runs > 0)
	}
	return n
}

// awaitRepeats counts the commands that the hub has sent again to a device
// that had run them.
func (r *proof) awaitRepeats(ctx context.Context, unheard []int) (repeated int) {
	limit := time.Now().Add(muteRepeat)
	for len(unheard) > 0 && time.Now().Before(limit) && sleep(ctx, 50*time.Millisecond) {
		var open []int
		for _, k := range unheard {
			answer, err := call(ctx, r.hub.commands.GetCommand, &operatorv1.GetCommandRequest{Id: orderID(k)})
			switch {
			case err != nil || !ended(answer.Command.State):
				open = append(open, k)
			case answer.Command.Attempts > 1:
				repeated++
			}
		}
		unheard = open
	}
	r.count.repeatedOrders.Add(int64(repeated))
	return repeated
}

// deafenLink lets the hub get rows whose acknowledgement does not arrive, and
// resets the connections: the devices send the rows again.
func (r *proof) deafenLink(ctx context.Context, f plannedFault) error {
	l := r.calmDevice(ctx, f.pick).link
	l.silence(down)
	defer l.sound(down)
	before := r.resentOn(l)
	sleep(ctx, f.lasts)
	l.cut()
	l.sound(down)
	for limit := time.Now().Add(muteRepeat); time.Now().Before(limit); {
		if r.resentOn(l) > before {
			return nil
		}
		if !sleep(ctx, 50*time.Millisecond) {
			break
		}
	}
	return errNotMet
}

// resentOn counts the frames that devices on a link have sent again.
func (r *proof) resentOn(l *faultyLink) (n uint64) {
	for _, d := range r.devices {
		if d.link == l {
			n += d.sim.stats().FramesResent
		}
	}
	return n
}
