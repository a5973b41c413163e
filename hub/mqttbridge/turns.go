package mqttbridge

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Most gear answers with its state and names no command: what two commands
// wait for is the same message. So of those that could be ended by each
// other's answers, which have one turn, one is under way, and the next goes
// out when it has ended. One that has ended for want of an answer keeps its
// turn for lateTime: what comes yet is its own answer, late, and is recorded as
// that.
const lateTime = 5 * time.Second

// turnOf a plan; "": it waits for nothing.
func turnOf(gear string, plan *profile.Plan) string {
	switch {
	case plan.Named:
		return ""
	case plan.Turn != "":
		return "by " + plan.Turn
	}
	return "of " + gear
}

// takeTurns begins the commands whose turn it is.
func (b *broker) takeTurns() {
	for _, p := range b.profiles {
		if len(p.waiting) == 0 {
			continue
		}
		taken := make(map[string]bool)
		for _, w := range slices.Clone(p.waiting) {
			if w.started || w.turn == "" || !taken[w.turn] && b.start(w) {
				taken[w.turn] = true
			}
		}
	}
}

// start carries out a command whose turn it is. One that has waited for that is
// planned anew: what answers a toggle depends on how the gear is by now. It is
// false where the profile refuses it.
func (b *broker) start(w *waiting) bool {
	w.started = true
	if w.waited {
		plan, err := b.plan(w.peer.gear, w.command)
		if err != nil {
			b.drop(w)
			b.reject(w.peer, w.command, err)
			return false
		}
		w.plan = plan
	}
	b.desk.do(w.device, b.carryOut(w, w.peer, w.command))
	return true
}

// late has a command that has ended for want of an answer keep its turn. It is
// false where that is over.
func (w *waiting) late(now time.Time, keep time.Duration) bool {
	if w.until.IsZero() && w.turn != "" && w.plan.Match != nil {
		w.until = now.Add(keep)
	}
	return now.Before(w.until)
}

// unsentCommands are those that the bridge has taken and of which nothing has left:
// why not, by id. All methods may run at once.
type unsentCommands struct {
	mu  sync.Mutex
	all map[string]unsentCommand
}

type unsentCommand struct {
	why string
	// again: it was sent before, and may have left then. Whether it has, the
	// claims tell.
	again bool
}

// Why a command has not left.
const (
	waitsForBroker = "it waited for the broker"
	waitsForTurn   = "it waited for the end of an earlier command, whose answer could not be told from its own"
	waitsForBridge = "it waited for the bridge to publish it"
)

func (u *unsentCommands) keep(c *devicev1.Command, why string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = make(map[string]unsentCommand)
	}
	u.all[c.GetId()] = unsentCommand{why, c.GetAttempt() > 1}
}

// take a command out. It is false where it is not there.
func (u *unsentCommands) take(id string) (c unsentCommand, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c, ok = u.all[id]
	delete(u.all, id)
	return c, ok
}

// Holds reports whether a command would wait for the broker: better in the
// dispatcher, where it is not recorded as sent.
func (p *peer) Holds() bool { return p.broker.away.Load() }

// Recall takes back a command of which nothing has left; then nothing will. Of
// one that this process has not taken first, as after a restart, it goes by the
// claims, which are on disk before anything leaves: it bars what none is of.
func (p *peer) Recall(ctx context.Context, id string) (why string, ok bool) {
	c, taken := p.broker.unsent.take(id)
	if taken && !c.again {
		return c.why, true
	}
	if never, err := p.broker.bridge.published.bar(ctx, id, p.device); err != nil || !never {
		return "", false
	}
	if !taken {
		return waitsForBridge, true
	}
	return c.why, true
}
