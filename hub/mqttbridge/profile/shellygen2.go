package profile

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// shellySystem are the values of the system that are worth storing; of
// components with a number ("switch:0") all are.
var shellySystem = map[string]bool{
	"wifi.rssi": true, "sys.uptime": true, "sys.ram_free": true, "sys.fs_free": true,
	"eth.ip": false, "cloud.connected": true,
}

// shellyFrame is what a notification is, but for its components.
type shellyFrame struct {
	Method string `json:"method"`
	Params struct {
		Time   json.Number `json:"ts"`
		Events []struct {
			Component string      `json:"component"`
			Event     string      `json:"event"`
			Time      json.Number `json:"ts"`
		} `json:"events"`
	} `json:"params"`
}

// status decodes <prefix>/events/rpc and <prefix>/status/<component>.
func (p *shelly) status(d *shellyDevice, t shellyTopic, m Message, report *Report) error {
	if t.rest[0] == "status" {
		if d.events || len(m.Payload) == 0 {
			return CheckJSON(m.Payload)
		}
		return p.flatten(m.Payload, t.rest[1]+".", 0, t.rest[1], report)
	}
	var frame shellyFrame
	if err := DecodeJSON(m.Payload, &frame); err != nil {
		return err
	}
	switch frame.Method {
	case "NotifyStatus", "NotifyFullStatus":
		d.events = true
		return p.flatten(m.Payload, "", shellyTime(frame.Params.Time, m.Received, report), "", report)
	case "NotifyEvent":
		shellyEvents(frame, m.Received, report)
	}
	return nil
}

// flatten makes a row of components. prefix stands before the paths of the
// document; of a notification they are below "params.".
func (p *shelly) flatten(payload []byte, prefix string, ns int64, component string, report *Report) error {
	leaves, problem, err := p.flat.Flatten(payload)
	if err != nil {
		return err
	}
	row := telemetry.Row{Time: ns}
	for _, leaf := range leaves {
		path := prefix + leaf.Path
		if component == "" {
			var ok bool
			if path, ok = strings.CutPrefix(leaf.Path, "params."); !ok {
				continue
			}
		}
		if !shellyKeeps(path) {
			continue
		}
		row.Fields = append(row.Fields, telemetry.Field{Name: shellyName(path, leaf.Value.Kind()), Value: leaf.Value})
	}
	if len(row.Fields) > 0 {
		report.Rows = []telemetry.Row{row}
	}
	if problem != "" {
		report.Problem = problem
	}
	return nil
}

// shellyKeeps tells whether a value, "switch:0.apower", is a reading: not its
// own number, and no element of an array.
func shellyKeeps(path string) bool {
	component, rest, ok := strings.Cut(path, ".")
	if !ok {
		return false
	}
	if !strings.Contains(component, ":") {
		return shellySystem[path]
	}
	last := rest[strings.LastIndexByte(rest, '.')+1:]
	return rest != "id" && last != "minute_ts" && strings.Trim(last, "0123456789") != ""
}

// shellyName is the field of a path. The value of a BTHome sensor is a number,
// a bool or a text by what is paired with the gear
// (shelly-api-docs.shelly.cloud/gen2/DynamicComponents/BTHome/BTHomeSensor): a
// field for each, so that none changes its type.
func shellyName(path string, kind telemetry.Kind) string {
	keys := splitPath(path)
	if len(keys) == 2 && keys[1] == "value" && strings.HasPrefix(path, "bthomesensor:") {
		switch kind {
		case telemetry.Bool:
			keys[1] = "state"
		case telemetry.String:
			keys[1] = "text"
		}
	}
	return FieldName(keys...)
}

// shellyTime is the time of a notification. A clock that is not set or runs
// ahead is not believed.
func shellyTime(ts json.Number, received time.Time, report *Report) int64 {
	if ts == "" {
		return 0
	}
	ns, ok := scale(ts.String(), int64(time.Second))
	if ok {
		at := time.Unix(0, ns)
		ok = at.After(received.Add(time.Minute-telemetry.MaxPast)) && at.Before(received.Add(telemetry.MaxFuture-time.Minute))
	}
	if !ok {
		report.Problem = "ts " + quoted(ts.String()) + " is out of range: the time of arrival is taken"
		return 0
	}
	return ns
}

// shellyEvents are pressed buttons and the like: a text of the component.
func shellyEvents(frame shellyFrame, received time.Time, report *Report) {
	for _, event := range frame.Params.Events {
		if len(report.Rows) == MaxArray {
			report.Problem = "over 64 events in one message: the first are kept"
			return
		}
		if !strings.Contains(event.Component, ":") || event.Event == "" || checkText(event.Event) != nil || len(event.Component) > maxTextBytes {
			continue
		}
		ns := shellyTime(event.Time, received, report)
		row := oneRow(FieldName(event.Component, "event"), telemetry.StringValue(event.Event))
		row[0].Time = ns
		report.Rows = append(report.Rows, row...)
	}
}
