package mqttbridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// What the gear has answered while the hub was not there is its answer, where
// the broker has kept it; what it had said before the command is none.
func TestAnswerWhileTheHubWasAway(t *testing.T) {
	t.Parallel()
	for _, heard := range []bool{true, false} {
		t.Run(fmt.Sprintf("marker heard %v", heard), func(t *testing.T) {
			t.Parallel()
			broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
			r := newRig(t)
			b, stop := r.bridge(broker.URL, fenced)
			up(t, b)
			g := newTurner(t, r, broker.Endpoint, "lamp", "cmnd/tf/POWER", "tele/tf/LWT", "Online")
			publish := func(words ...string) {
				t.Helper()
				for _, w := range words {
					mqtttest.Publish(t, g, "stat/tf/RESULT", 1, false, w)
				}
			}
			br := b.brokers[0]
			fence := br.fenceTopic
			if !heard {
				// As with a hub that is killed before the marker comes: the broker has it, and keeps it.
				br.mu.Lock()
				br.fenceTopic = "elsewhere" // to which the hub does not subscribe
				br.mu.Unlock()
			}
			r.order("away", "lamp", "power", `{"state":"on"}`, longer, 0)
			g.wantTold()
			if heard {
				eventually(t, "the marker has come back", func() bool {
					br.mu.Lock()
					defer br.mu.Unlock()
					w := br.profiles[0].waiting
					return len(w) == 1 && w[0].fenced != nil
				})
			}
			br.mu.Lock()
			mark := br.profiles[0].waiting[0].mark
			br.mu.Unlock()
			stop()
			if !heard {
				publish(`{"POWER":"ON","Dimmer":1}`) // before the command
				mqtttest.Publish(t, g, fence, 1, false, mark)
			}
			publish(`{"POWER":"OFF"}`, `{"POWER":"ON","Dimmer":2}`, `{"POWER":"OFF"}`)
			b, stop = r.bridge(broker.URL, fenced)
			up(t, b)
			r.wantEnd("away", commands.Succeeded, "")
			c, _, err := r.commands.Get(t.Context(), "away")
			if err != nil || c.Result.JSON != `{"POWER":"ON","Dimmer":2}` {
				t.Errorf("ended by %s, %v", c.Result.JSON, err)
			}
			stop()
		})
	}
}

// On the hub's own broker an answer after a restart of the bridge is behind a
// marker that is sent anew.
func TestAnswerAfterARestartOnEachBroker(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, stop := r.bridge(url, turning)
		up(t, b)
		g := newTurner(t, r, e, "lamp", "cmnd/tf/POWER", "tele/tf/LWT", "Online")
		r.order("away", "lamp", "power", `{"state":"on"}`, longer, 0)
		g.wantTold()
		stop()
		b, _ = r.bridge(url, turning)
		up(t, b)
		br := b.brokers[0]
		mqtttest.Publish(t, g, "tele/tf/LWT", 1, false, "Online")
		eventually(t, "the command is known again, and its marker has come", func() bool {
			br.mu.Lock()
			defer br.mu.Unlock()
			w := br.profiles[0].waiting
			return len(w) == 1 && w[0].earlier && w[0].fenced == br.session
		})
		mqtttest.Publish(t, g, "stat/tf/RESULT", 1, false, `{"POWER":"ON"}`)
		r.wantEnd("away", commands.Succeeded, "")
		c, _, err := r.commands.Get(t.Context(), "away")
		again := slices.IndexFunc(c.Events, func(e commands.Event) bool { return e.Attempt == 2 && e.State == commands.Sent })
		if err != nil || again < 0 || !strings.Contains(c.Events[again].Reason, "not published again: the hub waits on for its answer") {
			t.Errorf("%v; the story of a command that was published once: %+v", err, c.Events)
		}
	})
}
