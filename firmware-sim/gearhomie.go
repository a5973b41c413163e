package firmwaresim

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// homieGear is a lamp by the Homie convention 4 (homieiot.github.io).
type homieGear struct {
	id string
	*plug
	level int
}

func newHomieGear(names []string, rng *rand.Rand) gearModel {
	return &homieGear{id: names[0], plug: newPlug(rng), level: 80}
}

func (g *homieGear) topic(rest string) string { return "homie/" + g.id + "/" + rest }

func (g *homieGear) will(uint64) gearMessage { return keptBy(g.topic("$state"), "lost") }

func (g *homieGear) listens() []string { return []string{g.topic("+/+/set")} }

func (g *homieGear) born(uint64) []gearMessage {
	var messages []gearMessage
	for _, attribute := range [][2]string{
		{"$state", "init"}, {"$homie", "4.0.0"}, {"$name", "Lamp"}, {"$nodes", "light,sensor"}, {"$extensions", ""},
		{"light/$name", "Light"}, {"light/$type", "dimmer"}, {"light/$properties", "power,level"},
		{"light/power/$name", "Power"}, {"light/power/$datatype", "boolean"}, {"light/power/$settable", "true"},
		{"light/level/$name", "Brightness"}, {"light/level/$datatype", "integer"}, {"light/level/$settable", "true"},
		{"light/level/$format", "0:100"}, {"light/level/$unit", "%"},
		{"sensor/$name", "Sensor"}, {"sensor/$type", "climate"}, {"sensor/$properties", "temperature"},
		{"sensor/temperature/$name", "Temperature"}, {"sensor/temperature/$datatype", "float"}, {"sensor/temperature/$unit", "°C"},
		{"light/power", g.word("true", "false")}, {"light/level", strconv.Itoa(g.level)},
		{"$state", "ready"},
	} {
		messages = append(messages, keptBy(g.topic(attribute[0]), attribute[1]))
	}
	return messages
}

func (g *homieGear) goodbye() []gearMessage {
	return []gearMessage{keptBy(g.topic("$state"), "disconnected")}
}

func (g *homieGear) read(now time.Time) []gearMessage {
	return []gearMessage{g.value("sensor/temperature", strconv.FormatFloat(g.plug.read(now).temperature, 'f', 2, 64))}
}

// value of a property: retained, as the convention wants it.
func (g *homieGear) value(property, text string) gearMessage {
	return gearMessage{topic: g.topic(property), payload: []byte(text), retained: true, reading: g.id}
}

func (g *homieGear) obey(topic string, payload []byte) ([]gearMessage, gearOutcome) {
	switch property := strings.TrimSuffix(strings.TrimPrefix(topic, g.topic("")), "/set"); property {
	case "light/power":
		if text := string(payload); text != "true" && text != "false" {
			return nil, notUnderstood
		}
		g.turn(string(payload))
		return []gearMessage{g.value(property, g.word("true", "false"))}, obeyed
	case "light/level":
		level, err := strconv.Atoi(string(payload))
		if err != nil || level < 0 || level > 100 {
			return nil, notUnderstood
		}
		g.level = level
		return []gearMessage{g.value(property, strconv.Itoa(level))}, obeyed
	}
	return nil, notUnderstood
}
