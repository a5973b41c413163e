package mqttbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// How far a command has come.
const (
	begun     int32 = iota // not published, and may be canceled
	canceled               // will never be published
	publishes              // is being published, or was: nothing recalls it
)

// waiting is a command between its arrival and its end.
type waiting struct {
	id      string
	device  string
	gear    string
	bound   *bound
	plan    profile.Plan
	timeout time.Duration
	stage   atomic.Int32

	// The worker's.
	epoch    uint64
	peer     *peer
	command  *devicev1.Command
	turn     string    // see turnOf
	waited   bool      // for its turn
	started  bool      // its turn has come
	deadline time.Time // of the answer; zero: not published yet
	earlier  bool      // it was published before, by a process that has ended
	until    time.Time // to when it keeps its turn, having ended for want of an answer; zero: it has not

	// What may be the answer; see younger.
	mark      string    // the words of its marker; "": it has none yet
	published time.Time // when it went out, or was about to
	heard     bool      // a marker has come back, at whatever QoS
	fenced    *link     // the session in which that of QoS 1 has; nil: not yet
}

// due is when the command ends for want of an answer, or gives up its turn;
// zero: not by time.
func (w *waiting) due() time.Time {
	if !w.until.IsZero() {
		return w.until
	}
	return w.deadline
}

// parked is a command that came while the broker was away for a moment.
type parked struct {
	peer    *peer
	command *devicev1.Command
}

// command takes a command for gear.
func (b *broker) command(p *peer, c *devicev1.Command) {
	g := p.gear
	if g.peer != p || g.device == nil {
		return // the dispatcher knows that this session is over, and sends on the next
	}
	for _, w := range g.bound.waiting {
		if w.id == c.GetId() {
			w.epoch, w.peer = p.epoch, p // sent again, but the same
			return
		}
	}
	if !b.connected || b.session.fence.waits(time.Now()) {
		b.parked = append(b.parked, parked{p, c})
		b.unsent.keep(c, waitsForBroker)
		return
	}
	plan, err := b.plan(g, c)
	if err != nil {
		b.unsent.take(c.GetId())
		b.reject(p, c, err)
		return
	}
	w := &waiting{id: c.GetId(), device: p.device, gear: g.name, bound: g.bound, plan: plan, epoch: p.epoch,
		peer: p, command: c, turn: turnOf(g.name, &plan),
		timeout: time.Duration(c.GetTimeoutMs()) * time.Millisecond}
	if w.timeout <= 0 {
		w.timeout = commands.DefaultTimeout
	}
	w.waited = w.turn != "" && slices.ContainsFunc(g.bound.waiting, func(o *waiting) bool { return o.turn == w.turn })
	b.unsent.keep(c, waitsForTurn)
	g.bound.waiting = append(g.bound.waiting, w)
	if !w.waited {
		b.start(w)
	}
}

// plan asks the profile.
func (b *broker) plan(g *gear, c *devicev1.Command) (plan profile.Plan, err error) {
	defer func() {
		if r := recover(); r != nil {
			b.log.Error("a profile has failed on a command", "profile", g.bound.cfg.Name, "command", c.GetName(), "failure", r)
			err = profile.Refuse("internal error", "the profile failed on this command")
		}
	}()
	args, err := arguments(c)
	if err != nil {
		return profile.Plan{}, err
	}
	plan, err = g.bound.profile.Command(g.name, profile.Command{ID: c.GetId(), Name: c.GetName(), Args: args})
	if err != nil {
		return profile.Plan{}, err
	}
	for i := range plan.Publish {
		if err := checkTopic(plan.Publish[i].Topic); err != nil {
			return profile.Plan{}, err
		}
	}
	return plan, nil
}

// arguments of a command: one JSON object.
func arguments(c *devicev1.Command) (map[string]any, error) {
	if len(c.GetProtobuf()) > 0 {
		return nil, profile.Refuse("bad arguments", "gear takes arguments in JSON, not in protobuf")
	}
	args := make(map[string]any)
	if c.GetJson() == "" {
		return args, nil
	}
	d := json.NewDecoder(bytes.NewReader([]byte(c.GetJson())))
	d.UseNumber()
	if err := d.Decode(&args); err != nil || args == nil {
		return nil, profile.Refuse("bad arguments", "the arguments are no JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, profile.Refuse("bad arguments", "there is something behind the JSON object of the arguments")
	}
	return args, nil
}

// answered offers a message to the commands that wait, the oldest first. It is
// false where it is no answer.
func (b *broker) answered(p *bound, a *arrival, m profile.Message) bool {
	for _, w := range p.waiting {
		if w.plan.Match == nil || w.stage.Load() != publishes || !b.younger(w, a) {
			continue
		}
		answer, ok := b.match(w, m)
		if !ok {
			continue
		}
		b.takeAnswer(w, answer)
		return true
	}
	return false
}

// takeAnswer records what the gear has said about a command. It is true where
// that was its end.
func (b *broker) takeAnswer(w *waiting, answer profile.Answer) bool {
	ends := answer.Phase > devicev1.CommandPhase_COMMAND_PHASE_RUNNING
	if ends {
		b.drop(w)
	}
	b.say(w.device, w.epoch, &devicev1.CommandUpdate{
		Id: w.id, Phase: answer.Phase, Code: answer.Code, Message: answer.Message,
	}, answer.Result)
	return ends
}

func (b *broker) match(w *waiting, m profile.Message) (answer profile.Answer, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			b.log.Error("a profile has failed on an answer", "profile", w.bound.cfg.Name, "topic", m.Topic, "failure", r)
			ok = false
		}
	}()
	return w.plan.Match(m)
}

// expire ends commands whose answer has not come in time.
func (b *broker) expire(now time.Time) {
	for _, p := range b.profiles {
		p.waiting = slices.DeleteFunc(p.waiting, func(w *waiting) bool {
			if w.deadline.IsZero() || now.Before(w.deadline) {
				return false
			}
			if !w.until.IsZero() {
				return !w.late(now, b.lateTime)
			}
			reason := fmt.Sprintf("published to the broker on %s, but the gear did not answer within %v; whether it acted is not known", w.topics(), w.timeout)
			switch {
			case w.mark != "" && !w.heard && w.fenced == nil && (b.session == nil || b.session.fence.state != fenceBlind) && !w.earlier:
				reason = fmt.Sprintf("published to the broker, but what the broker had kept for the hub was not through within %v, so that no answer could be told from it; whether the gear acted is not known", w.timeout)
			case w.earlier:
				reason = "published to the broker before the hub was restarted, and no answer was heard since; not published again; whether the gear acted is not known"
			}
			b.noAnswer(w, reason)
			return !w.late(now, b.lateTime)
		})
	}
}

// drop a command that waits for no answer any more.
func (b *broker) drop(w *waiting) {
	b.unsent.take(w.id)
	if i := slices.Index(w.bound.waiting, w); i >= 0 {
		w.bound.waiting = slices.Delete(w.bound.waiting, i, i+1)
	}
}

// cancel takes a cancellation. What is published cannot be recalled; its
// answer, or the want of one, is its end.
func (b *broker) cancel(p *peer, id string) {
	for i := range b.parked {
		if b.parked[i].command.GetId() == id {
			b.parked = slices.Delete(b.parked, i, i+1)
			b.unsent.take(id)
			b.neverPublished(p, id)
			return
		}
	}
	for _, w := range p.gear.bound.waiting {
		switch {
		case w.id != id:
			continue
		case !w.started:
			b.drop(w)
			b.neverPublished(p, id)
		default:
			w.epoch = p.epoch
			w.stage.CompareAndSwap(begun, canceled) // and carryOut says so
		}
		return
	}
	b.neverPublished(p, id)
}

// unpark hands on the commands that have waited for the broker.
func (b *broker) unpark() {
	all := b.parked
	b.parked = nil
	for _, c := range all {
		b.inbox.post(func() { b.command(c.peer, c.command) })
	}
}

// dropParked forgets the commands of a peer that is over and of which nothing
// has left: the dispatcher has been told, and sends them to the next one.
func (b *broker) dropParked(p *peer) {
	b.parked = slices.DeleteFunc(b.parked, func(c parked) bool {
		if c.peer == p {
			b.unsent.take(c.command.GetId())
		}
		return c.peer == p
	})
	for _, w := range slices.Clone(p.gear.bound.waiting) {
		if w.peer == p && !w.started {
			b.drop(w)
		}
	}
}
