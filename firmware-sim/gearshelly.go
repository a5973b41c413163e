package firmwaresim

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"
)

// shelly1Gear is a plug of generation 1 (shelly-api-docs.shelly.cloud/gen1).
type shelly1Gear struct {
	id string
	*plug
}

func newShelly1Gear(names []string, rng *rand.Rand) gearModel {
	return &shelly1Gear{names[0], newPlug(rng)}
}

func (g *shelly1Gear) topic(rest string) string { return "shellies/" + g.id + "/" + rest }

func (g *shelly1Gear) will(uint64) gearMessage { return keptBy(g.topic("online"), "false") }

func (g *shelly1Gear) listens() []string {
	return []string{"shellies/command", g.topic("command"), g.topic("relay/0/command")}
}

func (g *shelly1Gear) born(uint64) []gearMessage {
	return append([]gearMessage{keptBy(g.topic("online"), "true")}, g.announce()...)
}

func (g *shelly1Gear) announce() []gearMessage {
	text := encoded(map[string]any{"id": g.id, "model": "SHPLG-S", "mac": "7C87CEC18B12", "ip": "192.0.2.64",
		"new_fw": false, "fw_ver": "20230913-113421/v1.14.0-gcb84623"})
	return []gearMessage{said("shellies/announce", text), said(g.topic("announce"), text)}
}

func (g *shelly1Gear) goodbye() []gearMessage {
	return []gearMessage{keptBy(g.topic("online"), "false")}
}

func (g *shelly1Gear) read(now time.Time) []gearMessage {
	r := g.plug.read(now)
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
	return []gearMessage{
		readingOf(g.id, g.topic("relay/0"), g.word("on", "off")),
		readingOf(g.id, g.topic("relay/0/power"), number(r.power)),
		readingOf(g.id, g.topic("relay/0/energy"), strconv.Itoa(int(60*r.energy))), // Watt-minutes
		readingOf(g.id, g.topic("temperature"), number(r.temperature)),
		readingOf(g.id, g.topic("overtemperature"), "0"),
	}
}

func (g *shelly1Gear) obey(topic string, payload []byte) ([]gearMessage, gearOutcome) {
	switch {
	case topic == g.topic("relay/0/command") && g.turn(string(payload)):
		return []gearMessage{readingOf(g.id, g.topic("relay/0"), g.word("on", "off"))}, obeyed
	case topic == "shellies/command" && string(payload) == "announce":
		return g.announce(), notForGear // asked of all, not a command to this one
	case topic == g.topic("command") && string(payload) == "announce":
		return g.announce(), obeyed
	}
	return nil, notUnderstood
}

// shelly2Gear is a relay from generation 2 on (shelly-api-docs.shelly.cloud/gen2).
type shelly2Gear struct {
	id string
	*plug
}

func newShelly2Gear(names []string, rng *rand.Rand) gearModel {
	return &shelly2Gear{names[0], newPlug(rng)}
}

func (g *shelly2Gear) will(uint64) gearMessage { return keptBy(g.id+"/online", "false") }

func (g *shelly2Gear) listens() []string { return []string{g.id + "/rpc"} }

func (g *shelly2Gear) born(uint64) []gearMessage {
	full := g.notify("NotifyFullStatus", g.plug.read(time.Now()), "init")
	return []gearMessage{keptBy(g.id+"/online", "true"), full}
}

func (g *shelly2Gear) goodbye() []gearMessage { return []gearMessage{keptBy(g.id+"/online", "false")} }

func (g *shelly2Gear) read(now time.Time) []gearMessage {
	return []gearMessage{g.notify("NotifyStatus", g.plug.read(now), "")}
}

func (g *shelly2Gear) notify(method string, r plugReading, source string) gearMessage {
	status := g.status(r)
	if source != "" {
		status["source"] = source
	}
	now := time.Now()
	return readingOf(g.id, g.id+"/events/rpc", encoded(map[string]any{
		"src": g.id, "dst": g.id + "/events", "method": method,
		"params": map[string]any{"ts": json.Number(strconv.FormatFloat(float64(now.UnixMicro())/1e6, 'f', 6, 64)), "switch:0": status}}))
}

func (g *shelly2Gear) status(r plugReading) map[string]any {
	return map[string]any{"id": 0, "output": g.on, "apower": r.power, "voltage": r.voltage, "current": r.current,
		"aenergy":     map[string]any{"total": r.energy, "by_minute": []float64{0, 0, 0}, "minute_ts": time.Now().Unix() / 60 * 60},
		"temperature": map[string]any{"tC": r.temperature, "tF": round(r.temperature*1.8+32, 1)}}
}

func (g *shelly2Gear) obey(_ string, payload []byte) ([]gearMessage, gearOutcome) {
	var call struct {
		ID     any    `json:"id"`
		Src    string `json:"src"`
		Method string `json:"method"`
		Params struct {
			ID int   `json:"id"`
			On *bool `json:"on"`
		} `json:"params"`
	}
	if json.Unmarshal(payload, &call) != nil || call.ID == nil || call.Src == "" {
		return nil, notUnderstood // the firmware does not answer either
	}
	answer := map[string]any{"id": call.ID, "src": g.id, "dst": call.Src}
	before, outcome := g.on, obeyed
	fail := func(code int, message string) {
		answer["error"], outcome = map[string]any{"code": code, "message": message}, notUnderstood
	}
	switch {
	case call.Method == "Shelly.GetDeviceInfo":
		answer["result"] = map[string]any{"id": g.id, "model": "SNSW-001P16EU", "gen": 2, "ver": "1.4.4", "app": "Plus1PM"}
	case call.Method != "Switch.Set" && call.Method != "Switch.Toggle" && call.Method != "Switch.GetStatus":
		fail(404, "No handler for "+call.Method)
	case call.Params.ID != 0:
		fail(-105, "Argument 'id', value "+strconv.Itoa(call.Params.ID)+" not found!")
	case call.Method == "Switch.GetStatus":
		answer["result"] = g.status(g.plug.read(time.Now()))
	case call.Method == "Switch.Set" && call.Params.On == nil:
		fail(-103, "Missing required argument 'on'!")
	default:
		g.on = !g.on
		if call.Method == "Switch.Set" {
			g.on = *call.Params.On
		}
		answer["result"] = map[string]any{"was_on": before}
	}
	messages := []gearMessage{said(call.Src+"/rpc", encoded(answer))}
	if g.on != before {
		messages = append(messages, g.notify("NotifyStatus", g.plug.read(time.Now()), "MQTT"))
	}
	return messages, outcome
}
