package mqttbridge

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

const fenced = `
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    profiles:
      - kind: tasmota
        devices: [{gear: tf, id: lamp}]
`

// What the broker has kept since before a command is no answer to it, though
// it says what the answer would: neither where the gear is not there, nor
// where it answers behind all that.
func TestOldMessagesAreNoAnswer(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		b, stop := r.bridge(url, fenced)
		up(t, b)
		gear := e.Dial(t, "gear")
		mqtttest.Publish(t, gear, "tele/tf/LWT", 1, true, "Online")
		eventually(t, "the gear is online", func() bool { return r.live.Presence("lamp").Online })
		mqtttest.Publish(t, gear, "tele/tf/LWT", 1, true, "Offline")
		eventually(t, "the gear is offline", func() bool { return !r.live.Presence("lamp").Online })
		r.send("ghost", "power", `{"state":"off"}`, 2*time.Second, commands.UntilDelivered)
		stop()
		backlog := func() {
			t.Helper()
			var tokens []mqtt.Token
			for i := range 600 {
				tokens = append(tokens, gear.Publish("stat/tf/RESULT", 1, false, fmt.Sprintf(`{"POWER":"%s"}`, []string{"ON", "OFF"}[i%2])))
			}
			for _, token := range tokens {
				if err := mqtttest.Wait(t, token); err != nil {
					t.Fatal(err)
				}
			}
			mqtttest.Publish(t, gear, "tele/tf/LWT", 1, true, "Online")
		}
		backlog()
		b, stop = r.bridge(url, fenced)
		up(t, b)
		r.wantEnd("ghost", commands.TimedOut, "whether it acted is not known")

		// While the store is away, what the broker keeps grows under way too.
		told := mqtttest.Subscribe(t, gear, "cmnd/tf/POWER", 1)
		r.full.Store(true)
		backlog()
		r.send("late", "power", `{"state":"off"}`, longer, commands.UntilDelivered)
		mqtttest.Next(t, told)
		if c, _, err := r.commands.Get(t.Context(), "late"); err != nil || c.State != commands.Sent {
			t.Fatalf("%+v, %v", c, err)
		}
		r.full.Store(false)
		// The relay is on, whatever was told before.
		mqtttest.Publish(t, gear, "stat/tf/RESULT", 1, false, `{"POWER":"ON"}`)
		eventually(t, "all that was kept is through", func() bool { return b.Brokers()[0].PendingMessages == 0 && b.Brokers()[0].Rows >= 1200 })
		if c, _, err := r.commands.Get(t.Context(), "late"); err != nil || c.State != commands.Sent {
			t.Fatalf("the relay is on, and the command to switch it off is %s, %v", c.State, err)
		}
		mqtttest.Publish(t, gear, "stat/tf/RESULT", 0, false, `{"POWER":"OFF"}`)
		r.wantEnd("late", commands.Succeeded, "")
		stop()
	})
}

// The answer to a command of a hub that has ended meanwhile is its answer.
func TestAnswerAfterARestart(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, stop := r.bridge(broker.URL, fenced)
	up(t, b)
	gear := broker.Dial(t, "gear")
	told := mqtttest.Subscribe(t, gear, "cmnd/tf/POWER", 1)
	mqtttest.Publish(t, gear, "tele/tf/LWT", 1, true, "Online")
	eventually(t, "the gear is online", func() bool { return r.live.Presence("lamp").Online })
	mqtttest.Publish(t, gear, "stat/tf/RESULT", 1, false, `{"POWER":"OFF"}`)
	r.send("away", "power", `{"state":"off"}`, longer, commands.UntilDelivered)
	mqtttest.Next(t, told)
	br := b.brokers[0]
	eventually(t, "the marker has come back", func() bool {
		br.mu.Lock()
		defer br.mu.Unlock()
		w := br.profiles[0].waiting
		return len(w) == 1 && w[0].fenced != nil
	})
	stop()
	b, _ = r.bridge(broker.URL, fenced)
	up(t, b)
	br = b.brokers[0]
	eventually(t, "the command is known again", func() bool {
		br.mu.Lock()
		defer br.mu.Unlock()
		w := br.profiles[0].waiting
		return len(w) == 1 && w[0].earlier
	})
	mqtttest.Publish(t, gear, "stat/tf/RESULT", 1, false, `{"POWER":"OFF"}`)
	r.wantEnd("away", commands.Succeeded, "")
}

// A broker that lets the hub not talk to itself: commands go out when little
// comes, and bridge ls says what that means.
func TestHubThatDoesNotHearItself(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{
		Users: map[string]string{"hub": "pw", "gear": "pw"},
		ACL:   []string{"user hub", "topic read stat/#", "topic read tele/#", "topic write cmnd/#", "user gear", "topic readwrite #"},
	})
	r := newRig(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("pw"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, _ := r.bridge(broker.URL, strings.Replace(fenced, "    keep-alive", "    user: hub\n    password-file: "+password+"\n    keep-alive", 1))
	up(t, b)
	gear := broker.Dial(t, "gear", mqtttest.As("gear", "pw"))
	told := mqtttest.Subscribe(t, gear, "cmnd/tf/POWER", 1)
	mqtttest.Publish(t, gear, "tele/tf/LWT", 1, true, "Online")
	eventually(t, "the gear is online", func() bool { return r.live.Presence("lamp").Online })
	mqtttest.Publish(t, gear, "stat/tf/RESULT", 1, false, `{"POWER":"OFF"}`)
	r.send("blind", "power", `{"state":"off"}`, longer, commands.UntilDelivered)
	mqtttest.Next(t, told)
	if p := wantProblem(t, b, "own messages do not come back"); p.Topic != "tetherline/fence/tetherline-test-barn" {
		t.Errorf("%+v", p)
	}
	mqtttest.Publish(t, gear, "stat/tf/RESULT", 1, false, `{"POWER":"OFF"}`)
	r.wantEnd("blind", commands.Succeeded, "")
}

// It is seen where so much comes that it never falls silent, too: the command
// goes out, and the gear's answer is its answer.
func TestHubThatDoesNotHearItselfOnABusySite(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{
		MaxInflight: 1000,
		Users:       map[string]string{"hub": "pw", "gear": "pw"},
		ACL:         []string{"user hub", "topic read stat/#", "topic read tele/#", "topic write cmnd/#", "user gear", "topic readwrite #"},
	})
	r := newRig(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("pw"), 0o600); err != nil {
		t.Fatal(err)
	}
	busy := broker.Dial(t, "busy", mqtttest.As("gear", "pw"))
	r.run(func(ctx context.Context) {
		for ctx.Err() == nil {
			var last mqtt.Token
			for range 50 {
				last = busy.Publish("tele/nobody/STATE", 1, false, `{"POWER":"ON"}`)
			}
			if mqtttest.Wait(t, last) != nil {
				return
			}
		}
	})
	b, _ := r.bridge(broker.URL, strings.Replace(fenced, "    keep-alive", "    user: hub\n    password-file: "+password+"\n    keep-alive", 1))
	up(t, b)
	gear := broker.Dial(t, "gear", mqtttest.As("gear", "pw"))
	told := mqtttest.Subscribe(t, gear, "cmnd/tf/POWER", 1)
	mqtttest.Publish(t, gear, "tele/tf/LWT", 1, true, "Online")
	eventually(t, "the gear is online", func() bool { return r.live.Presence("lamp").Online })
	r.send("blind", "power", `{"state":"off"}`, longer, commands.UntilDelivered)
	mqtttest.Next(t, told)
	if p := wantProblem(t, b, "own messages do not come back"); !strings.Contains(p.Detail, "topic readwrite tetherline/fence/#") {
		t.Errorf("%+v", p)
	}
	mqtttest.Publish(t, gear, "stat/tf/RESULT", 1, false, `{"POWER":"OFF"}`)
	r.wantEnd("blind", commands.Succeeded, "")
}

// A command that has waited for the broker is not published after its TTL.
func TestCommandIsNotPublishedAfterItsTTL(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, commanded)
	up(t, b)
	l := newLamp(t, broker)
	l.alive(t, r)
	br := b.brokers[0]
	br.mu.Lock()
	br.session.fence = fence{words: "none", began: time.Now()} // as behind what is kept
	br.mu.Unlock()
	_, _, err := r.commands.Send(t.Context(), commands.Request{Key: "old", Device: "lamp",
		Spec: commands.Spec{Name: "set", Payload: commands.Payload{JSON: `{"to":"on"}`}, Timeout: time.Minute, TTL: commands.MinTTL, Replay: commands.UntilDelivered}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command waits", func() bool { br.mu.Lock(); defer br.mu.Unlock(); return len(br.parked) == 1 })
	r.wantEnd("old", commands.Expired, "")
	br.mu.Lock()
	br.session.fence.state = fenceThrough
	br.unpark()
	br.mu.Unlock()
	eventually(t, "the command is dropped", func() bool {
		br.mu.Lock()
		defer br.mu.Unlock()
		return len(br.parked) == 0 && len(br.profiles[0].waiting) == 0 && br.desk.idle()
	})
	l.wantNothing(t)
}
