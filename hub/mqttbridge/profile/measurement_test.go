package profile

import "testing"

// Each kind of gear has a measurement of its own, so that a field of one kind
// is never of another type than that of the same name of another kind or of a
// device on wss; the setting takes its place.
func TestMeasurementIsTheKind(t *testing.T) {
	for _, c := range []struct {
		kind, settings string
		messages       []Message
	}{
		{"tasmota", "", []Message{text("tele/p/SENSOR", `{"ENERGY":{"Power":1}}`), text("stat/p/POWER", "ON"), text("stat/p/RESULT", `{"POWER":"ON"}`)}},
		{"zigbee2mqtt", "", []Message{
			text("zigbee2mqtt/bridge/devices", `[{"friendly_name":"p","definition":{"exposes":[{"type":"numeric","property":"power","access":1}]}}]`),
			text("zigbee2mqtt/p", `{"power":1}`),
		}},
		{"homie", "", []Message{text("homie/p/$homie", "4.0.0"), text("homie/p/n/v", "1"), text("homie/p/n/v/$datatype", "float"),
			text("homie/p/$state", "ready"), text("homie/p/n/v", "2"), text("homie/p/$stats/uptime", "3")}},
		{"shelly", "", []Message{text("shellies/p/relay/0", "on"), text("shellies/p/relay/0", "overpower"), text("shellies/p/info", `{"uptime":5}`),
			text("shellies/p/input_event/0", `{"event":"S","event_cnt":2}`), text("shelly-q/events/rpc", `{"method":"NotifyStatus","params":{"switch:0":{"output":true}}}`),
			text("shelly-q/events/rpc", `{"method":"NotifyEvent","params":{"events":[{"component":"input:0","event":"push"}]}}`), text("shelly-r/status/switch:0", `{"output":true}`)}},
		{"homeassistant", `state-filters: ["s/#"]`, []Message{text("s/1", "1"), text("homeassistant/sensor/p/v/config", `{"stat_t":"s/1","unit_of_meas":"W"}`), text("s/1", "2")}},
		{"sparkplug", "", sparkplugStory(t)},
		{"raw", `{topic: "s/{gear}/{field}", fields: [{field: v, unit: V}]}`, []Message{text("s/g/v", "1"), text("s/g/w", "1")}},
		{"json", `{topic: "s/{gear}", fields: [{path: v, unit: V}]}`, []Message{text("s/g", `{"v":1}`)}},
	} {
		for want, settings := range map[string]string{c.kind: c.settings, "climate": withMeasurement(c.settings, "climate"), "telemetry": withMeasurement(c.settings, "telemetry")} {
			p := configured(t, c.kind, settings)
			rows, fields := 0, 0
			for _, m := range c.messages {
				for _, r := range take(t, p, m) {
					for _, row := range r.Rows {
						if rows++; row.Measurement != want {
							t.Errorf("%s with %s: %s makes a row of %q, want %q", c.kind, settings, m.Topic, row.Measurement, want)
						}
					}
					for _, f := range r.Describe.GetFields() {
						if fields++; f.GetMeasurement() != want && (want != "telemetry" || f.GetMeasurement() != "") {
							t.Errorf("%s with %s: %s describes %s of %q, want %q", c.kind, settings, m.Topic, f.GetName(), f.GetMeasurement(), want)
						}
					}
				}
			}
			if rows < len(c.messages)/3 || fields == 0 {
				t.Errorf("%s: %d rows and %d fields", c.kind, rows, fields)
			}
		}
		wantBadSettings(t, c.kind, withMeasurement(c.settings, "2nd-floor"), "measurement")
	}
}

func withMeasurement(settings, name string) string {
	switch {
	case settings == "":
		return "measurement: " + name
	case settings[0] == '{':
		return "{measurement: " + name + ", " + settings[1:]
	}
	return "{measurement: " + name + ", " + settings + "}"
}

// sparkplugStory is a node and a device from birth to data.
func sparkplugStory(t *testing.T) []Message {
	var story []Message
	for _, name := range []string{"nbirth", "dbirth", "ddata"} {
		story = append(story, example(t, name))
	}
	return story
}
