package mqttbridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

const (
	stepTimeout = 5 * time.Second // of one durable write for a command
	retryPause  = time.Second     // before an end is reported again
)

// Codes of google.rpc.Code.
const (
	codeInvalidArgument = 3
	codeUnavailable     = 14
)

// errNotSent says that nothing of a message has left.
var errNotSent = errors.New("not connected to the broker")

// carryOut publishes a command, once and never again: the claim is on disk
// before the first byte leaves.
func (b *broker) carryOut(w *waiting, p *peer, c *devicev1.Command) func(ctx context.Context) {
	return func(ctx context.Context) {
		if w.stage.Load() == canceled {
			b.endCanceled(ctx, w)
			return
		}
		step, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		if b.expired(step, w.id) {
			b.inbox.post(func() { b.drop(w) })
			return
		}
		claim, err := b.bridge.published.claim(step, w.id, w.device)
		switch {
		case err != nil:
			b.update(ctx, w.device, w.epochNow(b), &devicev1.CommandUpdate{
				Id: w.id, Phase: devicev1.CommandPhase_COMMAND_PHASE_REJECTED, Code: codeUnavailable,
				Message: "the hub could not write down that it publishes the command, and has published nothing: " + err.Error(),
			}, nil)
			b.inbox.post(func() { b.drop(w) })
			return
		case claim.never:
			b.inbox.post(func() { b.drop(w) }) // recalled: the dispatcher ends it
			return
		case !claim.first:
			w.stage.Store(publishes)
			b.unsent.take(w.id)
			b.inbox.post(func() {
				w.deadline, w.earlier = claim.at.Add(w.timeout), true
				w.mark, w.published = markOf(w.id, claim.revision), claim.at
				if b.catchUp(w) {
					b.remark(w)
				}
			})
			return
		case !w.stage.CompareAndSwap(begun, publishes):
			b.endCanceled(ctx, w)
			return
		}
		if _, ours := b.unsent.take(w.id); !ours && c.GetAttempt() <= 1 {
			b.inbox.post(func() { b.drop(w) }) // recalled: the dispatcher has ended it
			return
		}
		b.markCommand(w, claim.revision)
		for i, m := range w.plan.Publish {
			err = b.publish(m.Topic, m.Payload, 0, false)
			if err == nil {
				continue
			}
			if i == 0 && errors.Is(err, errNotSent) {
				b.takeBack(step, w, p, c, claim.revision)
				return
			}
			b.inbox.post(func() { b.drop(w) })
			b.endUnknown(ctx, w, fmt.Sprintf("publishing it failed half-way: %v; whether the gear acted is not known", err))
			return
		}
		if w.plan.Match == nil {
			b.inbox.post(func() { b.drop(w) })
			b.endUnknown(ctx, w, "published to the broker on "+w.topics()+"; this gear gives no answer, so whether it acted is not known")
			return
		}
		b.inbox.post(func() { w.deadline = time.Now().Add(w.timeout) })
	}
}

// topics that the command goes out on, in words.
func (w *waiting) topics() string {
	switch n := len(w.plan.Publish); n {
	case 0:
		return "no topic"
	case 1:
		return bounded(w.plan.Publish[0].Topic)
	default:
		return fmt.Sprintf("%s and %d more", bounded(w.plan.Publish[0].Topic), n-1)
	}
}

// expired reports whether a command that has waited for the broker has ended,
// or must not be published any more: the dispatcher records that.
func (b *broker) expired(ctx context.Context, id string) bool {
	c, _, err := b.bridge.deps.Commands.Get(ctx, id)
	return err == nil && (c.State.Ended() || !time.Now().Before(c.Expires))
}

// takeBack: the connection was gone before anything was published. The
// command waits for the next one.
func (b *broker) takeBack(ctx context.Context, w *waiting, p *peer, c *devicev1.Command, revision uint64) {
	err := b.bridge.published.unclaim(ctx, w.id, revision)
	b.inbox.post(func() {
		b.drop(w)
		if err != nil {
			b.noAnswer(w, "the broker was gone before it was published, and that could not be written down; it is not published any more")
			return
		}
		b.command(p, c)
	})
}

// epochNow is the session that the command counts for.
func (w *waiting) epochNow(b *broker) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return w.epoch
}

// endCanceled ends a command that is never published.
func (b *broker) endCanceled(ctx context.Context, w *waiting) {
	b.inbox.post(func() { b.drop(w) })
	b.update(ctx, w.device, w.epochNow(b), &devicev1.CommandUpdate{
		Id: w.id, Phase: devicev1.CommandPhase_COMMAND_PHASE_CANCELED, Message: "not published",
	}, nil)
}

// neverPublished ends a canceled command that nobody here knows: unless it was
// published before, it never will be.
func (b *broker) neverPublished(p *peer, id string) {
	device, epoch := p.device, p.epoch
	b.desk.do(device, func(ctx context.Context) {
		step, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		never, err := b.bridge.published.bar(step, id, device)
		switch {
		case err != nil:
			b.log.Warn("a cancellation could not be carried out", "device", device, "command", id, "error", err)
		case never:
			b.update(ctx, device, epoch, &devicev1.CommandUpdate{
				Id: id, Phase: devicev1.CommandPhase_COMMAND_PHASE_CANCELED, Message: "not published",
			}, nil)
		default:
			b.end(ctx, device, epoch, id, "published to the broker before it was canceled, which cannot be recalled; whether the gear acted is not known")
		}
	})
}

// reject ends a command that the gear does not know: nothing was published,
// unless it was before, under another config.
func (b *broker) reject(p *peer, c *devicev1.Command, why error) {
	device, epoch := p.device, p.epoch
	b.desk.do(device, func(ctx context.Context) {
		if c.GetAttempt() > 1 {
			step, cancel := context.WithTimeout(ctx, stepTimeout)
			defer cancel()
			if never, err := b.bridge.published.bar(step, c.GetId(), device); err == nil && !never {
				b.end(ctx, device, epoch, c.GetId(), "published to the broker before the hub was restarted; whether the gear acted is not known")
				return
			}
		}
		b.update(ctx, device, epoch, &devicev1.CommandUpdate{
			Id: c.GetId(), Phase: devicev1.CommandPhase_COMMAND_PHASE_REJECTED, Code: codeInvalidArgument, Message: why.Error(),
		}, nil)
	})
}

// noAnswer ends a command whose outcome is not known.
func (b *broker) noAnswer(w *waiting, reason string) {
	epoch := w.epoch
	b.desk.do(w.device, func(ctx context.Context) { b.end(ctx, w.device, epoch, w.id, reason) })
}

// endUnknown is noAnswer for the desk itself.
func (b *broker) endUnknown(ctx context.Context, w *waiting, reason string) {
	b.end(ctx, w.device, w.epochNow(b), w.id, reason)
}

// end has the dispatcher record such an end, however long that takes.
func (b *broker) end(ctx context.Context, device string, epoch uint64, id, reason string) {
	for {
		err := b.bridge.deps.Commands.NoAnswer(ctx, device, epoch, id, reason)
		if err == nil || ctx.Err() != nil {
			return
		}
		b.log.Warn("the end of a command could not be recorded; trying again", "device", device, "command", id, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
}

// say has the gear's word recorded, after what was said before.
func (b *broker) say(device string, epoch uint64, u *devicev1.CommandUpdate, result []byte) {
	b.desk.do(device, func(ctx context.Context) { b.update(ctx, device, epoch, u, result) })
}

// update records a word on a command. What the store does not take the
// dispatcher keeps, and tries again.
func (b *broker) update(ctx context.Context, device string, epoch uint64, u *devicev1.CommandUpdate, result []byte) {
	if len(result) > 0 {
		u.Result = &devicev1.CommandUpdate_Json{Json: strings.ToValidUTF8(string(result), "�")}
	}
	u.Message = strings.ToValidUTF8(u.Message, "�")
	if _, err := b.bridge.deps.Commands.Update(ctx, device, epoch, u); err != nil && ctx.Err() == nil {
		b.log.Warn("command update could not be recorded", "device", device, "command", u.GetId(), "phase", u.GetPhase().String(), "error", err)
	}
}

// publishAll publishes what a profile wants to be told, in the background.
func (b *broker) publishAll(p *bound, all []profile.Publish) {
	if len(all) == 0 {
		return
	}
	b.desk.do(p.cfg.Name, func(context.Context) {
		for i, m := range all {
			if err := b.publish(m.Topic, m.Payload, 0, false); err != nil {
				b.log.Warn("a message of a profile was not published", "profile", p.cfg.Name, "topic", m.Topic, "error", err)
				b.inbox.post(func() { unsent(all[i:]) })
				return
			}
		}
	})
}

// unsent tells a profile what was not published. The broker's mu is held.
func unsent(all []profile.Publish) {
	for _, m := range all {
		if m.Unsent != nil {
			m.Unsent()
		}
	}
}

// publish one message and wait until it has left, or, with QoS 1, until the
// broker has it. errNotSent: nothing has left; after another error that is not
// known. It must not be called with mu held.
func (b *broker) publish(topic string, payload []byte, qos byte, retained bool) error {
	if err := checkTopic(topic); err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	b.mu.Lock()
	s := b.session
	b.mu.Unlock()
	if s == nil {
		return errNotSent
	}
	token := s.client.Publish(topic, qos, retained, payload)
	if !token.WaitTimeout(writeTimeout) {
		return fmt.Errorf("the broker took nothing within %v", writeTimeout)
	}
	if err := token.Error(); err != nil {
		if errors.Is(err, mqtt.ErrNotConnected) {
			return errNotSent
		}
		return err
	}
	b.mu.Lock()
	b.counts.published++
	b.mu.Unlock()
	return nil
}

// checkTopic returns what is wrong with a topic to publish to (MQTT 3.1.1,
// section 4.7.3).
func checkTopic(topic string) error {
	if topic == "" || len(topic) > 65535 || strings.ContainsAny(topic, "+#\x00") || strings.ToValidUTF8(topic, "") != topic {
		return profile.Refuse("bad topic", "%.80q cannot be published to", topic)
	}
	return nil
}

// guard is what a profile wants to be published. A profile that panics wants
// nothing.
func (b *broker) guard(p *bound, f func() []profile.Publish) (all []profile.Publish) {
	defer func() {
		if r := recover(); r != nil {
			b.log.Error("a profile has failed", "profile", p.cfg.Name, "failure", r)
			all = nil
		}
	}()
	return f()
}
