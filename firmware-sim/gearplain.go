package firmwaresim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// rawGear is a board of somebody's own making: one value a topic.
type rawGear struct {
	name string
	*plug
}

func newRawGear(names []string, rng *rand.Rand) gearModel { return &rawGear{names[0], newPlug(rng)} }

func (g *rawGear) topic(rest string) string { return "sensors/" + g.name + "/" + rest }

func (g *rawGear) will(uint64) gearMessage { return keptBy(g.topic("status"), "offline") }

func (g *rawGear) listens() []string { return []string{g.topic("relay/set")} }

func (g *rawGear) born(uint64) []gearMessage {
	return []gearMessage{keptBy(g.topic("status"), "online")}
}

func (g *rawGear) goodbye() []gearMessage { return []gearMessage{keptBy(g.topic("status"), "offline")} }

func (g *rawGear) read(now time.Time) []gearMessage {
	r := g.plug.read(now)
	return []gearMessage{
		readingOf(g.name, g.topic("temperature"), strconv.FormatFloat(r.temperature, 'f', 2, 64)),
		readingOf(g.name, g.topic("power"), strconv.FormatFloat(r.power, 'f', 1, 64)),
		readingOf(g.name, g.topic("relay"), g.word("on", "off")),
	}
}

func (g *rawGear) obey(_ string, payload []byte) ([]gearMessage, gearOutcome) {
	if !g.turn(string(payload)) {
		return nil, notUnderstood
	}
	return []gearMessage{readingOf(g.name, g.topic("relay"), g.word("on", "off"))}, obeyed
}

// jsonGear sends JSON documents with its own clock, and answers commands by
// their id.
type jsonGear struct {
	name string
	*plug
}

func newJSONGear(names []string, rng *rand.Rand) gearModel { return &jsonGear{names[0], newPlug(rng)} }

func (g *jsonGear) topic(rest string) string { return "devices/" + g.name + "/" + rest }

func (g *jsonGear) will(uint64) gearMessage { return keptBy(g.topic("status"), "offline") }

func (g *jsonGear) listens() []string { return []string{g.topic("cmd")} }

func (g *jsonGear) born(uint64) []gearMessage {
	return []gearMessage{keptBy(g.topic("status"), "online")}
}

func (g *jsonGear) goodbye() []gearMessage {
	return []gearMessage{keptBy(g.topic("status"), "offline")}
}

func (g *jsonGear) read(now time.Time) []gearMessage {
	r := g.plug.read(now)
	return []gearMessage{readingOf(g.name, g.topic("telemetry"), encoded(map[string]any{
		"ts": now.UnixMilli(), "temperature": r.temperature, "relay": g.on,
		"meter": map[string]any{"power": r.power, "voltage": r.voltage, "energy": r.energy}}))}
}

func (g *jsonGear) obey(_ string, payload []byte) ([]gearMessage, gearOutcome) {
	var command struct {
		ID string `json:"id"`
		Do string `json:"do"`
		On *bool  `json:"on"`
	}
	answer := map[string]any{"ok": true}
	outcome := obeyed
	switch err := json.Unmarshal(payload, &command); {
	case err != nil || command.ID == "":
		return nil, notUnderstood
	case command.Do != "relay" || command.On == nil:
		answer, outcome = map[string]any{"ok": false, "error": "do takes relay, with on"}, notUnderstood
	default:
		g.on = *command.On
	}
	answer["id"] = command.ID
	return []gearMessage{said(g.topic("reply"), encoded(answer))}, outcome
}

// influxGear sends line protocol, as Telegraf does. It obeys nothing.
type influxGear struct {
	name string
	*plug
}

func newInfluxGear(names []string, rng *rand.Rand) gearModel {
	return &influxGear{names[0], newPlug(rng)}
}

func (g *influxGear) will(uint64) gearMessage { return gearMessage{} }

func (g *influxGear) listens() []string { return nil }

func (g *influxGear) born(uint64) []gearMessage { return nil }

func (g *influxGear) goodbye() []gearMessage { return nil }

func (g *influxGear) read(now time.Time) []gearMessage {
	r := g.plug.read(now)
	return []gearMessage{readingOf(g.name, "telegraf/"+g.name, fmt.Sprintf("meter,host=%s power=%v,voltage=%v,energy=%v %d\nclimate,host=%s temperature=%v %d\n",
		g.name, r.power, r.voltage, r.energy, now.UnixNano(), g.name, r.temperature, now.UnixNano()))}
}

func (g *influxGear) obey(string, []byte) ([]gearMessage, gearOutcome) { return nil, notForGear }
