package hub_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

const switchable = `    profiles:
      - kind: raw
        name: relays
        settings:
          topic: "s/{gear}/{field}"
          type: text
          commands:
            - name: set
              args: [{name: to, type: text}]
              topic: "c/{gear}/set"
              payload: "{arg.to}"
              answer: {topic: "s/{gear}/state", equals: "{arg.to}"}
        silence: 0s
        devices: [{gear: relay}]
`

// The hub is killed again and again while commands go out: the relay's own
// ledger has no command twice, and every command has an end. The hub's own
// broker is killed with it.
func TestBridgeCommandsRunAtMostOnce(t *testing.T) {
	t.Parallel()
	const commands, kills = 120, 4
	onEachBroker(t, mqtttest.MosquittoOptions{}, func(t *testing.T, s *site) {
		cfg := hubtest.Config(t)
		cfg.LogLevel, cfg.Listen = "error", hubtest.FreeAddr(t)
		s.bridge(t, &cfg, switchable)
		h := hubtest.StartProcess(t, cfg)
		connected(t, h.Endpoint)

		var mu sync.Mutex
		ran := make(map[string]int)
		relay := s.endpoint(t).Dial(t, "relay", mqtttest.Resends(new(mqtttest.Outbox)))
		token := relay.Subscribe("c/relay/set", 1, func(c mqtt.Client, m mqtt.Message) {
			mu.Lock()
			ran[string(m.Payload())]++
			n := len(ran)
			mu.Unlock()
			if n%30 != 0 { // it does not answer all; each of these holds up the next for its timeout and 5 s
				c.Publish("s/relay/state", 0, false, m.Payload())
			}
		})
		if err := mqtttest.Wait(t, token); err != nil {
			t.Fatal(err)
		}
		alive := func() {
			t.Helper()
			connected(t, h.Endpoint)
			mqtttest.Publish(t, relay, "s/relay/alive", 1, false, "yes")
		}
		alive()
		send := func(e hubtest.Endpoint, i int) error {
			_, err := e.Commands.SendCommand(t.Context(), connect.NewRequest(&operatorv1.SendCommandRequest{
				DeviceId: "relay", Key: fmt.Sprintf("command-%d", i),
				Spec: &operatorv1.CommandSpec{Name: "set", Payload: &operatorv1.CommandSpec_Json{Json: fmt.Sprintf(`{"to":"command-%d"}`, i)},
					Timeout: durationpb.New(time.Second)},
			}))
			return err
		}
		for kill := range kills {
			first, next := kill*commands/kills, (kill+1)*commands/kills
			e, done := h.Endpoint, make(chan struct{})
			go func() {
				defer close(done)
				for i := first; i < next && send(e, i) == nil; i++ {
				}
			}()
			pauseUpTo(t, 80*time.Millisecond)
			h.Kill()
			<-done
			h.Start()
			alive()
			// Which were accepted nobody knows: their keys tell, and asking again
			// does no harm.
			for i := first; i < next; i++ {
				hubtest.Eventually(t, "a command is accepted", func() bool { return send(h.Endpoint, i) == nil })
			}
		}
		states := make(map[string]int)
		for i := range commands {
			id := fmt.Sprintf("command-%d", i)
			var c *operatorv1.Command
			hubtest.Eventually(t, id+" has an end", func() bool {
				answer, err := h.Commands.GetCommand(t.Context(), connect.NewRequest(&operatorv1.GetCommandRequest{Id: id}))
				if err != nil {
					t.Fatal(err)
				}
				c = answer.Msg.Command
				return c.State >= operatorv1.CommandState_COMMAND_STATE_SUCCEEDED
			})
			states[c.State.String()]++
			mu.Lock()
			n := ran[id]
			mu.Unlock()
			if n > 1 || n == 0 && c.State == operatorv1.CommandState_COMMAND_STATE_SUCCEEDED {
				t.Errorf("%s ran %d times and is %s: %s", id, n, c.State, c.Reason)
			}
		}
		mu.Lock()
		t.Logf("%d commands over %d kills, %d ran: %v", commands, kills, len(ran), states)
		mu.Unlock()
	})
}

// A plug whose field changes its type: InfluxDB refuses that row, which goes
// into quarantine with its words, and takes all others.
func TestBridgeFieldThatChangesItsType(t *testing.T) {
	t.Parallel()
	onBothBrokers(t, func(t *testing.T, s *site) {
		db := influxtest.Start(t)
		cfg := influxConfig(t, db)
		cfg.LogLevel = "error"
		s.bridge(t, &cfg, "    profiles:\n      - kind: json\n        settings: {topic: \"j/{gear}\"}\n        auto-allow: [\"*\"]\n")
		h := hubtest.Start(t, cfg)
		connected(t, h.Endpoint)
		gear := s.endpoint(t).Dial(t, "gear")
		for i, payload := range []string{`{"n":1,"v":1.5}`, `{"n":2,"v":"off"}`, `{"n":3,"v":2.5}`} {
			mqtttest.Publish(t, gear, "j/plug", 1, false, payload)
			mqtttest.Publish(t, gear, "j/lamp", 1, false, payload[:6]+"}")
			if i == 0 {
				hubtest.Eventually(t, "the type is known", func() bool { return h.CountOf(t, "plug", "json") == 1 })
			}
		}
		hubtest.Eventually(t, "the others are stored", func() bool { return h.CountOf(t, "plug", "json") == 2 && h.CountOf(t, "lamp", "json") == 3 })
		var rows []*operatorv1.QuarantinedRow
		hubtest.Eventually(t, "a row is in quarantine", func() bool {
			list, err := h.Quarantine.ListQuarantine(t.Context(), connect.NewRequest(&operatorv1.ListQuarantineRequest{}))
			if err != nil {
				t.Fatal(err)
			}
			rows = list.Msg.Rows
			return len(rows) > 0
		})
		if len(rows) != 1 || rows[0].DeviceId != "plug" || !strings.Contains(rows[0].Reason, "conflict") {
			t.Errorf("in quarantine: %v", rows)
		}
	})
}

// The bridge is in the status and on /metrics; the hub is ready without its
// brokers.
func TestBridgeTellsHowItDoes(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	cfg := hubtest.Config(t)
	cfg.LogLevel = "error"
	bridgeTo(t, &cfg, broker.URL, countersOf("g0"))
	h := hubtest.Start(t, cfg)
	connected(t, h.Endpoint)
	gear := newCounters(t, broker.Endpoint, "g0")
	gear.publish(3)
	hubtest.Eventually(t, "stored", func() bool { return h.CountOf(t, "g0", "raw") == 3 })
	check := func() *operatorv1.GetStatusResponse_Check {
		t.Helper()
		s := status(t, h.Endpoint)
		if !s.Ready {
			t.Errorf("not ready: %v", s.Checks)
		}
		for _, c := range s.Checks {
			if c.Name == "mqtt bridge" {
				return c
			}
		}
		t.Fatal("no check of the bridge")
		return nil
	}
	if c := check(); !c.Ok {
		t.Errorf("%v", c)
	}
	for name, want := range map[string]float64{
		`tetherline_bridge_connected{broker="barn"}`: 1, `tetherline_bridge_rows_total{broker="barn"}`: 3,
		`tetherline_bridge_messages_total{broker="barn"}`: 3, `tetherline_bridge_pending_bytes{broker="barn"}`: 0,
	} {
		// What is stored may be counted, and gone from what is pending, only then.
		hubtest.Eventually(t, fmt.Sprint(name, " is ", want), func() bool { return metric(t, h.Endpoint, name) == want })
	}
	broker.Stop(t)
	hubtest.Eventually(t, "the check fails", func() bool { c := check(); return !c.Ok && strings.Contains(c.Detail, "broker barn") })
}
