package hub_test

import (
	"encoding/json"
	"fmt"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// Gear that describes itself by what it has retained sends thousands of
// readings while the hub is away. They come before what describes them, and
// the hub is killed again and again while it takes them: not one is missing,
// none is there twice.
func TestBridgeLosesNoneThatComeBeforeTheirDescription(t *testing.T) {
	t.Parallel()
	const few, n = 12, 5000
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	db := influxtest.Start(t)
	cfg := influxConfig(t, db)
	cfg.LogLevel, cfg.Listen = "error", hubtest.FreeAddr(t)
	bridgeTo(t, &cfg, broker.URL, `    profiles:
      - {kind: homie, auto-allow: ["*"]}
      - {kind: homeassistant, settings: {state-filters: ["esp/#"]}, auto-allow: ["esp-*"]}
`)
	gear := broker.Dial(t, "gear")
	for topic, payload := range map[string]string{
		"homie/h/$homie": "4.0.0", "homie/h/c/n/$datatype": "integer", "homie/h/$state": "ready",
		"homeassistant/sensor/esp-a/n/config": `{"stat_t":"esp/a","val_tpl":"{{ value_json.n }}","stat_cla":"measurement"}`,
	} {
		mqtttest.Publish(t, gear, topic, 1, true, payload)
	}
	h := hubtest.StartProcess(t, cfg)
	connected(t, h.Endpoint)
	h.Kill()
	send := func(from, to int) {
		var tokens []mqtt.Token
		for i := from; i < to; i++ {
			tokens = append(tokens, gear.Publish("homie/h/c/n", 1, false, fmt.Sprint(i)), gear.Publish("esp/a", 1, false, fmt.Sprintf(`{"n":%d}`, i)))
		}
		for _, token := range tokens {
			if err := mqtttest.Wait(t, token); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantStored := func(n int) {
		t.Helper()
		for _, of := range [][2]string{{"homie", "c_n"}, {"homeassistant", "n"}} {
			hubtest.Eventually(t, of[0]+": all readings are stored", func() bool {
				return countOf(db, of[0], fmt.Sprintf("DISTINCT(%q)", of[1])) == n
			})
			if rows := countOf(db, of[0], fmt.Sprintf("%q", of[1])); rows != n {
				t.Errorf("%s: %d rows of %d readings", of[0], rows, n)
			}
		}
	}
	// Few of them are all there before the session counts.
	send(0, few)
	h.Start()
	wantStored(few)
	h.Kill()
	send(few, n)
	for range 3 {
		h.Start()
		hubtest.Eventually(t, "messages have come", func() bool { return barn(t, h.Endpoint).Messages > 100 })
		t.Logf("killed with %d messages taken and %d readings durable", barn(t, h.Endpoint).Messages, barn(t, h.Endpoint).Rows)
		h.Kill()
	}
	h.Start()
	wantStored(n)
	wantNoQuarantine(t, h.Endpoint)
}

// countOf is the number of values of a measurement.
func countOf(db *influxtest.Server, measurement, of string) int {
	var answer struct {
		Results []struct {
			Series []struct{ Values [][2]any }
		}
	}
	text := db.Query(fmt.Sprintf(`SELECT COUNT(%s) FROM %q`, of, measurement))
	if err := json.Unmarshal(text, &answer); err != nil {
		panic(fmt.Sprintf("InfluxDB answers %.200s: %v", text, err))
	}
	if len(answer.Results) == 0 || len(answer.Results[0].Series) == 0 {
		return 0
	}
	count, _ := answer.Results[0].Series[0].Values[0][1].(float64)
	return int(count)
}
