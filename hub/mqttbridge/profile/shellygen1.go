package profile

import (
	"fmt"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
)

// shellyForm is how a topic of generation 1 is read.
type shellyForm struct {
	kind telemetry.Kind
	unit string
	// words are the payloads of a Bool: that of true, that of false.
	words [2]string
}

var (
	shellyNumber = func(unit string) shellyForm { return shellyForm{kind: telemetry.Double, unit: unit} }
	shellyWord   = shellyForm{kind: telemetry.String}
	shellySwitch = shellyForm{kind: telemetry.Bool, words: [2]string{"on", "off"}}
	shellyFlag   = shellyForm{kind: telemetry.Bool, words: [2]string{"1", "0"}}
	shellyTruth  = shellyForm{kind: telemetry.Bool, words: [2]string{"true", "false"}}
)

// shellyForms are the topics below shellies/<id>, where '+' is a channel.
var shellyForms = map[string]shellyForm{
	"relay/+": shellySwitch, "light/+": shellySwitch, "color/+": shellySwitch, "white/+": shellySwitch,
	"relay/+/power": shellyNumber("W"), "light/+/power": shellyNumber("W"), "color/+/power": shellyNumber("W"),
	"white/+/power": shellyNumber("W"), "roller/+/power": shellyNumber("W"),
	"relay/+/energy": shellyNumber("W.min"), "light/+/energy": shellyNumber("W.min"), "color/+/energy": shellyNumber("W.min"),
	"white/+/energy": shellyNumber("W.min"), "roller/+/energy": shellyNumber("W.min"),
	"relay/power": shellyNumber("W"), "relay/energy": shellyNumber("W.min"), // Shelly 2, both channels
	"relay/+/overpower_value": shellyNumber("W"),
	"emeter/+/power":          shellyNumber("W"), "emeter/+/reactive_power": shellyNumber("var"), "emeter/+/voltage": shellyNumber("V"),
	"emeter/+/current": shellyNumber("A"), "emeter/+/pf": shellyNumber(""), "emeter/+/energy": shellyNumber("W.min"),
	"emeter/+/returned_energy": shellyNumber("W.min"), "emeter/+/total": shellyNumber("W.h"), "emeter/+/total_returned": shellyNumber("W.h"),
	"roller/+": shellyWord, "roller/+/pos": shellyNumber("%"), "roller/+/stop_reason": shellyWord,
	"input/+": shellyNumber(""), "longpush/+": shellyNumber(""),
	"adc/+": shellyNumber("V"), "voltage": shellyNumber("V"), "voltage/+": shellyNumber("V"),
	"temperature": shellyNumber("Cel"), "temperature_f": shellyNumber("[degF]"), "overtemperature": shellyFlag, "temperature_status": shellyWord,
	"ext_temperature/+": shellyNumber("Cel"), "ext_temperature_f/+": shellyNumber("[degF]"), "ext_humidity/+": shellyNumber("%"),
	"ext_switch/+":       shellyFlag,
	"sensor/temperature": shellyNumber("Cel"), "sensor/humidity": shellyNumber("%"), "sensor/battery": shellyNumber("%"),
	"sensor/lux": shellyNumber("lx"), "sensor/tilt": shellyNumber("deg"), "sensor/vibration": shellyFlag, "sensor/illumination": shellyWord,
	"sensor/flood": shellyTruth, "sensor/motion": shellyTruth, "sensor/smoke": shellyTruth, "sensor/charger": shellyTruth,
	"sensor/gas": shellyWord, "sensor/concentration": shellyNumber("[ppm]"), "sensor/state": shellyWord, "sensor/error": shellyNumber(""),
	"sensor/self_test": shellyWord,
}

// shellyChannel replaces channels by '+'.
func shellyChannel(levels []string) string {
	general := make([]string, len(levels))
	for i, level := range levels {
		if general[i] = level; level != "" && strings.Trim(level, "0123456789") == "" {
			general[i] = "+"
		}
	}
	return strings.Join(general, "/")
}

// reading decodes a topic of generation 1. A topic that is not known is a
// sign of life.
func (d *shellyDevice) reading(flat *Flattener, t shellyTopic, m Message, report *Report) (unit string, err error) {
	topic := strings.Join(t.rest, "/")
	switch general := shellyChannel(t.rest); {
	case general == "announce" || general == "info":
		return "", shellyInfo(general, m, report)
	case general == "input_event/+":
		return "", shellyInput(t.rest, m, report)
	case shellyDocuments[general]:
		return "", shellyDocument(flat, t.rest, m, report)
	default:
		form, known := shellyForms[general]
		if !known || len(topic) > maxTextBytes || len(m.Payload) == 0 {
			return "", nil
		}
		return form.unit, d.value(form, topic, t.rest, string(m.Payload), report)
	}
}

func (d *shellyDevice) value(form shellyForm, topic string, levels []string, text string, report *Report) error {
	field := FieldName(levels...)
	if form == shellySwitch {
		d.say(topic, text)
		if text == "overpower" { // and so it is off
			report.Rows = oneRow(field, telemetry.BoolValue(false))
			report.Rows[0].Fields = append(report.Rows[0].Fields,
				telemetry.Field{Name: FieldName(append(levels[:len(levels):len(levels)], "overpower")...), Value: telemetry.BoolValue(true)})
			return nil
		}
	}
	value, err := form.read(text)
	if err != nil {
		return Refuse("wrong type", "%s: %v", topic, err)
	}
	report.Rows = oneRow(field, value)
	return nil
}

func (f shellyForm) read(text string) (telemetry.Value, error) {
	switch f.kind {
	case telemetry.Double:
		v, ok := parseNumber(text)
		if !ok {
			return telemetry.Value{}, fmt.Errorf("%s is no number", quoted(text))
		}
		return telemetry.DoubleValue(v), nil
	case telemetry.Bool:
		if text != f.words[0] && text != f.words[1] {
			return telemetry.Value{}, fmt.Errorf("%s is neither %s nor %s", quoted(text), f.words[0], f.words[1])
		}
		return telemetry.BoolValue(text == f.words[0]), nil
	}
	return telemetry.StringValue(text), checkText(text)
}

// maxShellyRelays of one device are remembered.
const maxShellyRelays = 16

// say notes the gear's last word on a relay or light.
func (d *shellyDevice) say(topic, text string) {
	if _, known := d.relays[topic]; !known && len(d.relays) >= maxShellyRelays || len(text) > 16 {
		return
	}
	if d.relays == nil {
		d.relays = map[string]string{}
	}
	d.relays[topic] = text
}

// shellyInfo takes the firmware of an announcement, and from the status what
// has no topic of its own.
func shellyInfo(topic string, m Message, report *Report) error {
	var info struct {
		Firmware string `json:"fw_ver"`
		Update   struct {
			Version string `json:"old_version"`
		} `json:"update"`
		WiFi struct {
			RSSI *float64 `json:"rssi"`
		} `json:"wifi_sta"`
		Uptime *float64 `json:"uptime"`
		Free   *float64 `json:"ram_free"`
	}
	if err := DecodeJSON(m.Payload, &info); err != nil {
		return err
	}
	report.Firmware = clean(info.Firmware+info.Update.Version, 64)
	if topic != "info" {
		return nil
	}
	row := telemetry.Row{}
	for _, f := range []struct {
		name string
		v    *float64
	}{{"wifi_rssi", info.WiFi.RSSI}, {"uptime", info.Uptime}, {"ram_free", info.Free}} {
		if f.v != nil {
			row.Fields = append(row.Fields, telemetry.Field{Name: f.name, Value: telemetry.DoubleValue(*f.v)})
		}
	}
	if len(row.Fields) > 0 {
		report.Rows = []telemetry.Row{row}
	}
	return nil
}

// shellyInput is {"event":"S","event_cnt":2}: a button was pressed.
func shellyInput(levels []string, m Message, report *Report) error {
	var input struct {
		Event string   `json:"event"`
		Count *float64 `json:"event_cnt"`
	}
	if err := DecodeJSON(m.Payload, &input); err != nil {
		return err
	}
	if input.Event == "" || checkText(input.Event) != nil {
		return nil // nothing was pressed since the start
	}
	report.Rows = oneRow(FieldName(levels...), telemetry.StringValue(input.Event))
	if input.Count != nil {
		report.Rows[0].Fields = append(report.Rows[0].Fields,
			telemetry.Field{Name: FieldName(append(levels[:len(levels):len(levels)], "count")...), Value: telemetry.DoubleValue(*input.Count)})
	}
	return nil
}
