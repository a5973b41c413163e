package firmwaresim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// tasmotaGear is a plug with the firmware Tasmota (tasmota.github.io/docs/MQTT).
type tasmotaGear struct {
	topic string
	*plug
}

func newTasmotaGear(names []string, rng *rand.Rand) gearModel {
	return &tasmotaGear{names[0], newPlug(rng)}
}

func (g *tasmotaGear) will(uint64) gearMessage { return keptBy("tele/"+g.topic+"/LWT", "Offline") }

func (g *tasmotaGear) listens() []string { return []string{"cmnd/" + g.topic + "/#"} }

func (g *tasmotaGear) born(uint64) []gearMessage {
	return []gearMessage{
		keptBy("tele/"+g.topic+"/LWT", "Online"),
		said("tele/"+g.topic+"/INFO1", encoded(map[string]any{"Info1": map[string]any{
			"Module": "Sonoff S31", "Version": "14.2.0(release-tasmota)", "FallbackTopic": "cmnd/DVES_" + g.topic + "_fb/", "GroupTopic": "cmnd/tasmotas/"}})),
	}
}

func (g *tasmotaGear) goodbye() []gearMessage {
	return []gearMessage{keptBy("tele/"+g.topic+"/LWT", "Offline")}
}

func (g *tasmotaGear) read(now time.Time) []gearMessage {
	r := g.plug.read(now)
	local := now.Format("2006-01-02T15:04:05")
	up := int(r.uptime.Seconds())
	return []gearMessage{
		readingOf(g.topic, "tele/"+g.topic+"/STATE", encoded(map[string]any{
			"Time": local, "Uptime": fmt.Sprintf("%dT%02d:%02d:%02d", up/86400, up/3600%24, up/60%60, up%60), "UptimeSec": up, "Heap": 27,
			"SleepMode": "Dynamic", "Sleep": 50, "LoadAvg": 19, "MqttCount": 1, "POWER": g.word("ON", "OFF"),
			"Wifi": map[string]any{"AP": 1, "SSId": "barn", "Channel": 6, "Mode": "11n", "RSSI": 70, "Signal": -65, "LinkCount": 1}})),
		readingOf(g.topic, "tele/"+g.topic+"/SENSOR", encoded(map[string]any{
			"Time": local, "ENERGY": map[string]any{"Total": round(r.energy/1000, 3), "Power": r.power, "ApparentPower": round(r.power*1.02, 1),
				"Factor": 0.98, "Voltage": r.voltage, "Current": r.current},
			"ESP32": map[string]any{"Temperature": r.temperature}, "TempUnit": "C"})),
	}
}

func (g *tasmotaGear) obey(topic string, payload []byte) ([]gearMessage, gearOutcome) {
	command := topic[strings.LastIndexByte(topic, '/')+1:]
	stat := "stat/" + g.topic + "/"
	switch word := strings.ToUpper(command); word {
	case "POWER", "POWER1":
		outcome := obeyed
		if len(payload) > 0 && !g.turn(string(payload)) {
			outcome = notUnderstood // Tasmota tells the present state then
		}
		return []gearMessage{
			said(stat+"RESULT", encoded(map[string]any{"POWER": g.word("ON", "OFF")})),
			said(stat+"POWER", g.word("ON", "OFF")),
		}, outcome
	case "RESTART":
		return []gearMessage{said(stat+"RESULT", encoded(map[string]any{"Restart": "Restarting"}))}, obeyed
	default:
		return []gearMessage{said(stat+"RESULT", encoded(map[string]any{"Command": "Unknown", "Input": word}))}, notUnderstood
	}
}
