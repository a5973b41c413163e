package firmwaresim

import (
	"math/rand/v2"
	"time"
)

// homeassistantGear is a board that tells of itself by Home Assistant's
// discovery, as ESPHome does (www.home-assistant.io/integrations/mqtt).
type homeassistantGear struct {
	name string
	*plug
}

func newHomeassistantGear(names []string, rng *rand.Rand) gearModel {
	return &homeassistantGear{names[0], newPlug(rng)}
}

func (g *homeassistantGear) topic(rest string) string { return "esp/" + g.name + "/" + rest }

func (g *homeassistantGear) will(uint64) gearMessage { return keptBy(g.topic("status"), "offline") }

func (g *homeassistantGear) listens() []string { return []string{g.topic("relay/set")} }

func (g *homeassistantGear) born(uint64) []gearMessage {
	config := func(component, object string, more map[string]any) gearMessage {
		more["~"], more["stat_t"], more["avty_t"] = "esp/"+g.name, "~/state", "~/status"
		more["uniq_id"] = g.name + "-" + object
		more["dev"] = map[string]any{"ids": []string{g.name}, "name": g.name, "mf": "Espressif", "sw": "2026.10.0"}
		return keptBy("homeassistant/"+component+"/"+g.name+"/"+object+"/config", encoded(more))
	}
	return []gearMessage{
		config("sensor", "temperature", map[string]any{"name": "Temperature", "dev_cla": "temperature", "unit_of_meas": "°C", "stat_cla": "measurement",
			"val_tpl": "{{ value_json.temperature }}"}),
		config("sensor", "power", map[string]any{"name": "Power", "dev_cla": "power", "unit_of_meas": "W", "stat_cla": "measurement",
			"val_tpl": "{{ value_json.power }}"}),
		config("switch", "relay", map[string]any{"name": "Relay", "cmd_t": "~/relay/set", "val_tpl": "{{ value_json.relay }}"}),
		keptBy(g.topic("status"), "online"),
	}
}

func (g *homeassistantGear) goodbye() []gearMessage {
	return []gearMessage{keptBy(g.topic("status"), "offline")}
}

func (g *homeassistantGear) read(now time.Time) []gearMessage {
	r := g.plug.read(now)
	return []gearMessage{readingOf(g.name, g.topic("state"), encoded(map[string]any{
		"temperature": r.temperature, "power": r.power, "relay": g.word("ON", "OFF")}))}
}

func (g *homeassistantGear) obey(_ string, payload []byte) ([]gearMessage, gearOutcome) {
	if word := string(payload); word != "ON" && word != "OFF" {
		return nil, notUnderstood
	}
	g.turn(string(payload))
	return g.read(time.Now()), obeyed
}
