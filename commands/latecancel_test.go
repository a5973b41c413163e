package commands_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
)

// A command that the hub has given up on, while the device is at it, says so,
// and can be canceled: also from a node that the device is not connected to.
func TestCancelOfWhatTheHubHasEnded(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	a, b := startHub(t, "a", newStore(t, nats)), startHub(t, "b", newStore(t, nats))
	ctx := context.Background()
	for name, at := range map[string]*hub{"same": a, "other": b} {
		v := newDevice(name)
		v.deafen(true)
		a.connect(v)
		id := a.send(commands.Request{Device: name, Spec: commands.Spec{TTL: soon}}).ID
		at.want(id, commands.Expired)
		v.deafen(false)
		v.say(word(id, running)) // its DELIVERED is lost
		eventually(t, "the device has it", func() bool {
			c, _, err := at.d.Get(ctx, id)
			return err == nil && strings.HasPrefix(c.Reason, "the device has it, after the hub had ended it as EXPIRED")
		})
		for range 2 {
			c, err := at.d.Cancel(ctx, id, "ann")
			if err == nil && (!strings.HasPrefix(c.Reason, "cancellation requested by ann, after the hub had ended it as EXPIRED") || len(c.Events) > 6) {
				t.Errorf("%q\n%s", c.Reason, story(c))
			} else if err != nil {
				wantError(t, err, commands.ErrEnded)
			}
		}
		c := at.want(id, commands.Canceled)
		if !c.Confirmed || len(v.asked()) == 0 {
			t.Errorf("confirmed %v, asked to stop %v", c.Confirmed, v.asked())
		}
		_, err := at.d.Cancel(ctx, id, "ann")
		wantError(t, err, commands.ErrEnded)
	}
	never := a.send(commands.Request{Device: "away", Spec: commands.Spec{TTL: time.Second}}).ID
	a.want(never, commands.Expired)
	_, err := a.d.Cancel(ctx, never, "ann")
	wantError(t, err, commands.ErrEnded)
}
