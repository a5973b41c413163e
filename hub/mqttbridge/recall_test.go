package mqttbridge

import (
	"strings"
	"testing"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// A command that waited for its turn when the hub ended was not published, and
// that is known after the start; one that was published is not said to be such.
func TestRecallAfterARestart(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	// A busy machine must not end the connection.
	config := strings.Replace(turning, "keep-alive: 2s", "keep-alive: 60s", 1)
	b, stop := r.bridge(broker.URL, config)
	up(t, b)
	g := newTurner(t, r, broker.Endpoint, "lamp", "cmnd/tf/POWER", "tele/tf/LWT", "Online")
	r.order("first", "lamp", "power", `{"state":"off"}`, longer, 0)
	r.order("second", "lamp", "power", `{"state":"on"}`, longer, 0)
	g.wantTold()
	r.wantState("second", commands.Sent)
	stop()
	if why, ok := r.live.Recall(t.Context(), "lamp", "second"); ok {
		t.Errorf("recalled without a bridge: %s", why)
	}
	b, _ = r.bridge(broker.URL, config)
	up(t, b)
	g.say("tele/tf/LWT", "Online")
	eventually(t, "the second is given to the bridge again, and waits", func() bool {
		c, _, err := r.commands.Get(t.Context(), "second")
		kept := b.brokers[0].unsent.has("second")
		return err == nil && c.Attempts >= 2 && kept
	})
	if why, ok := r.live.Recall(t.Context(), "lamp", "first"); ok {
		t.Errorf("what was published is recalled: %s", why)
	}
	for range 2 { // as after a kill before the end was recorded
		if why, ok := r.live.Recall(t.Context(), "lamp", "second"); !ok || why == "" {
			t.Errorf("recalled %v: %q", ok, why)
		}
	}
	g.say("stat/tf/RESULT", `{"POWER":"OFF"}`)
	r.wantEnd("first", commands.Succeeded, "")
	g.wantNotTold("cmnd/tf/POWER")
	b.brokers[0].settled(t)
	g.wantNotTold("cmnd/tf/POWER")
}

// has reports whether the command is there.
func (u *unsentCommands) has(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.all[id]
	return ok
}

// settled waits until no command is under way.
func (b *broker) settled(t *testing.T) {
	t.Helper()
	eventually(t, "no command is under way", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.profiles[0].waiting) == 0 && b.desk.idle()
	})
}
