package hub_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// settle waits until every command has ended, and the group with them. All
// links are good and everybody is up by now: what has not ended after its own
// time limits is stuck.
func (c *chaos) settle() {
	c.t.Helper()
	if int(c.accepted.Load()) != len(c.plan.orders) {
		c.t.Fatalf("%d commands are accepted; want %d", c.accepted.Load(), len(c.plan.orders))
	}
	deadline := time.Now().Add(2 * hubtest.Patience)
	var pending uint32
	for {
		if pending = status(c.t, c.api).CommandsPending; pending == 0 {
			break
		}
		if time.Now().After(deadline) {
			c.t.Errorf("%d commands are stuck", pending)
			c.showPending()
			c.t.FailNow()
		}
		time.Sleep(50 * time.Millisecond)
	}
	hubtest.Eventually(c.t, "the group has ended", func() bool {
		g, err := c.api.Commands.GetGroup(c.t.Context(), connect.NewRequest(&operatorv1.GetGroupRequest{Id: c.group}))
		return err == nil && g.Msg.Group.State == "DONE"
	})
	var doubtful []string
	for id, e := range c.ends() {
		if decidedByHub(e.command.State) {
			doubtful = append(doubtful, id)
		}
	}
	hubtest.Eventually(c.t, "what was delivered ends by the device's own word", func() bool {
		doubtful = slices.DeleteFunc(doubtful, func(id string) bool { return !overdue(command(c.t, c.api, id)) })
		return len(doubtful) == 0
	})
}

// overdue reports whether a device has said that it has the command, and not
// how it ended.
func overdue(c *operatorv1.GetCommandResponse) bool {
	delivered := slices.ContainsFunc(c.Events, func(e *operatorv1.CommandEvent) bool {
		return e.State == operatorv1.CommandState_COMMAND_STATE_DELIVERED || e.State == operatorv1.CommandState_COMMAND_STATE_RUNNING
	})
	return delivered && c.Events[len(c.Events)-1].SessionEpoch == 0
}

func (c *chaos) showPending() {
	answer, err := c.api.Commands.ListCommands(c.t.Context(), connect.NewRequest(&operatorv1.ListCommandsRequest{
		States: []operatorv1.CommandState{1, 2, 3, 4}, PageSize: 5,
	}))
	if err != nil {
		c.t.Error(err)
		return
	}
	for _, cmd := range answer.Msg.Commands {
		c.t.Error(c.story(cmd.Id))
	}
}

// end is how a command has ended.
type end struct {
	command *operatorv1.Command
	events  []*operatorv1.CommandEvent
}

// ends reads every command there is, with its story.
func (c *chaos) ends() map[string]end {
	c.t.Helper()
	all := map[string]end{}
	var mu sync.Mutex
	var readers sync.WaitGroup
	ids := make(chan string)
	for range 16 {
		readers.Go(func() {
			for id := range ids {
				answer, err := c.api.Commands.GetCommand(c.t.Context(), connect.NewRequest(&operatorv1.GetCommandRequest{Id: id}))
				if err != nil {
					c.t.Errorf("command %s: %v", id, err)
					continue
				}
				mu.Lock()
				all[id] = end{answer.Msg.Command, answer.Msg.Events}
				mu.Unlock()
			}
		})
	}
	for token := ""; ; {
		answer, err := c.api.Commands.ListCommands(c.t.Context(), connect.NewRequest(&operatorv1.ListCommandsRequest{PageSize: 1000, PageToken: token}))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, cmd := range answer.Msg.Commands {
			ids <- cmd.Id
		}
		if token = answer.Msg.NextPageToken; token == "" {
			break
		}
	}
	close(ids)
	readers.Wait()
	return all
}

// ended reports whether a state is an end.
func ended(s operatorv1.CommandState) bool {
	return s >= operatorv1.CommandState_COMMAND_STATE_SUCCEEDED
}

// decidedByHub reports whether the hub gives such an end without the device's
// word, so that this may still come.
func decidedByHub(s operatorv1.CommandState) bool {
	return s == operatorv1.CommandState_COMMAND_STATE_TIMED_OUT || s == operatorv1.CommandState_COMMAND_STATE_EXPIRED ||
		s == operatorv1.CommandState_COMMAND_STATE_CANCELED
}

// wantOneEndEach: nothing was lost, nothing was made up, and each story has
// one end. An end that the hub decided on may give way, once, to the device's
// own.
func (c *chaos) wantOneEndEach() map[string]end {
	c.t.Helper()
	all := c.ends()
	children := 0
	for _, e := range all {
		if e.command.GroupId == c.group {
			children++
		}
	}
	if g, err := c.api.Commands.GetGroup(c.t.Context(), connect.NewRequest(&operatorv1.GetGroupRequest{Id: c.group})); err != nil {
		c.t.Error(err)
	} else if g := g.Msg.Group; int(g.Total) != len(c.ids) || int(g.Issued) != children || g.Issued+g.Refused != g.Total {
		c.t.Errorf("the group has %d commands and says %d issued and %d refused of %d", children, g.Issued, g.Refused, g.Total)
	}
	if len(all) != len(c.plan.orders)+children {
		c.t.Errorf("there are %d commands and %d of the group; %d were sent", len(all)-children, children, len(c.plan.orders))
	}
	for _, o := range c.plan.orders {
		e, ok := all[o.key]
		if !ok {
			c.t.Errorf("command %s is gone", o.key)
			continue
		}
		if e.command.DeviceId != c.ids[o.device] || e.command.Spec.Name != o.spec.Name {
			c.t.Errorf("command %s is %q to %s", o.key, e.command.Spec.Name, e.command.DeviceId)
		}
	}
	for id, e := range all {
		var ends []operatorv1.CommandState
		for _, event := range e.events {
			// What is noted of a command that the hub has ended, as a late request
			// to cancel it, is no further end.
			again := len(ends) > 0 && ends[len(ends)-1] == event.State && decidedByHub(event.State)
			if ended(event.State) && !again {
				ends = append(ends, event.State)
			}
		}
		ok := len(ends) == 1 || len(ends) == 2 && decidedByHub(ends[0])
		if !ok || !ended(e.command.State) || ends[len(ends)-1] != e.command.State {
			c.t.Errorf("the ends are %v\n%s", ends, c.story(id))
		}
		if e.command.Spec.Replay == operatorv1.ReplayClass_REPLAY_CLASS_ONCE && e.command.Attempts > 1 {
			c.t.Errorf("sent %d times\n%s", e.command.Attempts, c.story(id))
		}
	}
	return all
}

// wantNoneRanTwice compares the devices' ledgers with what the hub says.
func (c *chaos) wantNoneRanTwice(ends map[string]end) {
	c.t.Helper()
	const (
		succeeded = operatorv1.CommandState_COMMAND_STATE_SUCCEEDED
		failed    = operatorv1.CommandState_COMMAND_STATE_FAILED
		rejected  = operatorv1.CommandState_COMMAND_STATE_REJECTED
	)
	for _, id := range c.ids {
		runs := ledgerRuns(c.t, c.dir, id)
		for command, n := range runs {
			e, ok := ends[command]
			if n > 1 || !ok || e.command.DeviceId != id {
				c.t.Errorf("%s has run %s %d times; known: %v\n%s", id, command, n, ok, c.story(command))
			}
		}
		for command, e := range ends {
			if e.command.DeviceId != id {
				continue
			}
			n, s := runs[command], e.command.State
			// A restart completes a reboot that was killed before its first step.
			want := s == succeeded && e.command.Spec.Name != "reboot"
			// A device that takes arguments looks at them when it runs.
			never := s == rejected && e.command.Code == uint32(connect.CodeUnimplemented) || ended(s) && e.command.Attempts == 0
			if want && n != 1 || never && n != 0 {
				c.t.Errorf("%s has run %s %d times\n%s", id, command, n, c.story(command))
			}
			if n == 1 && s != succeeded && s != failed && s != rejected && !decidedByHub(s) {
				c.t.Errorf("%s has run %s\n%s", id, command, c.story(command))
			}
		}
	}
}

// wantSameEnds: a further kill of the hub changes no end, but for a word of a
// device that was still on its way.
func (c *chaos) wantSameEnds(before map[string]end) {
	c.t.Helper()
	after := c.ends()
	if len(after) != len(before) {
		c.t.Errorf("%d commands after the restart, %d before", len(after), len(before))
	}
	for id, e := range before {
		if now := after[id].command.GetState(); now != e.command.State && !decidedByHub(e.command.State) {
			c.t.Errorf("%v has become %v\n%s", e.command.State, now, c.story(id))
		}
	}
}

func (c *chaos) report(ends map[string]end) {
	counts := map[string]int{}
	attempts := uint32(0)
	ran := 0
	for _, e := range ends {
		counts[strings.TrimPrefix(e.command.State.String(), "COMMAND_STATE_")]++
		attempts += e.command.Attempts
	}
	for _, id := range c.ids {
		ran += len(ledgerRuns(c.t, c.dir, id))
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[name], name))
	}
	s := c.plan.scale
	c.t.Logf("%d commands to %d devices in %.0f s, %d kills of the hub, %d of %d devices each, %d faults of %d links: %s",
		len(ends), s.devices, time.Since(c.began).Seconds(), s.hubKills, s.hostKills, s.devices/s.hosts, s.linkFaults, s.links, strings.Join(words, ", "))
	c.t.Logf("%d runs on devices, each once; %d sendings; %d requests had to be repeated after their answer was lost, %d were refused for a while; %d cancellations",
		ran, attempts, c.repeated.Load(), c.full.Load(), c.canceled.Load())
}

// story of a command, for the output of a failure.
func (c *chaos) story(id string) string {
	answer, err := c.api.Commands.GetCommand(c.t.Context(), connect.NewRequest(&operatorv1.GetCommandRequest{Id: id}))
	if err != nil {
		return fmt.Sprintf("%s: %v", id, err)
	}
	cmd := answer.Msg.Command
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q to %s, %v, ttl %v, timeout %v, is %v: %s, %s", id, cmd.Spec.Name, cmd.DeviceId, cmd.Spec.Replay,
		cmd.Spec.Ttl.AsDuration(), cmd.Spec.Timeout.AsDuration(), cmd.State, cmd.Reason, cmd.Message)
	for _, e := range answer.Msg.Events {
		fmt.Fprintf(&b, "\n  +%v %v %s (session %d, attempt %d) %s", e.Time.AsTime().Sub(cmd.Created.AsTime()), e.State, e.Reason, e.SessionEpoch, e.Attempt, e.Message)
	}
	return b.String()
}
