package profile

import (
	"maps"
	"slices"
	"strings"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// zigbeeDevice is what bridge/devices tells of a device.
type zigbeeDevice struct {
	describe *devicev1.Describe
	firmware string
	// published are the properties of its state that can be awaited, others
	// those that are only set. Both nil: its definition is not known.
	published, others map[string]bool
}

// bridge is a message below BASE/bridge.
func (p *zigbee) bridge(topic string, m Message, reports []Report) ([]Report, error) {
	var err error
	switch topic {
	case "state":
		reports, err = p.bridgeState(m, reports)
	case "info":
		var info struct {
			Version string `json:"version"`
		}
		if err = DecodeJSON(m.Payload, &info); err == nil && info.Version != "" {
			reports = append(reports, Report{Gear: zigbeeBridge, NotAlive: m.Retained, Firmware: clean("Zigbee2MQTT "+info.Version, 64), Describe: describeZigbeeBridge()})
		}
	case "devices":
		reports, err = p.bridgeDevices(m, reports)
	case "groups":
		var groups []struct {
			Name string `json:"friendly_name"`
		}
		if err = DecodeJSON(m.Payload, &groups); err == nil {
			p.groups = map[string]bool{}
			for _, g := range groups {
				p.groups[g.Name] = true
			}
		}
	}
	return reports, refusedOf(zigbeeBridge, err)
}

// bridgeState tells of Zigbee2MQTT, and with its end, of all behind it.
func (p *zigbee) bridgeState(m Message, reports []Report) ([]Report, error) {
	state, err := zigbeeState(m.Payload)
	if err != nil {
		return reports, err
	}
	if p.online = state == "online"; p.online {
		return append(reports, Report{Gear: zigbeeBridge, Status: Online, NotAlive: m.Retained, Describe: describeZigbeeBridge()}), nil
	}
	reports = append(reports, Report{Gear: zigbeeBridge, Status: Offline, Reason: "last will", NotAlive: true})
	for _, gear := range slices.Sorted(maps.Keys(p.heard)) {
		reports = append(reports, Report{Gear: gear, Status: Offline, Reason: "Zigbee2MQTT is offline", NotAlive: true})
	}
	return reports, nil
}

// bridgeDevices is the list of all devices, with what they measure and obey.
func (p *zigbee) bridgeDevices(m Message, reports []Report) ([]Report, error) {
	var list []struct {
		Type       string `json:"type"`
		Name       string `json:"friendly_name"`
		Build      string `json:"software_build_id"`
		Definition *struct {
			Exposes []zigbeeExpose `json:"exposes"`
		} `json:"definition"`
	}
	if err := DecodeJSON(m.Payload, &list); err != nil {
		return reports, err
	}
	devices := map[string]*zigbeeDevice{}
	for _, told := range list {
		if told.Type == "Coordinator" || checkGear(told.Name) != nil || len(devices) == MaxGear {
			continue
		}
		d := &zigbeeDevice{firmware: clean(told.Build, 64)}
		if told.Definition != nil {
			d.define(p.measure, told.Definition.Exposes)
		}
		devices[told.Name] = d
		if d.describe != nil {
			reports = append(reports, Report{Gear: told.Name, NotAlive: true, Firmware: d.firmware, Describe: d.describe})
		}
	}
	p.devices = devices
	return reports, nil
}

// zigbeeExpose is an element of exposes (www.zigbee2mqtt.io, "Exposes").
type zigbeeExpose struct {
	Type        string         `json:"type"`
	Property    string         `json:"property"`
	Access      int            `json:"access"`
	Unit        string         `json:"unit"`
	Description string         `json:"description"`
	ValueOn     any            `json:"value_on"`
	Values      []any          `json:"values"`
	Features    []zigbeeExpose `json:"features"`
}

// Bits of an expose's access.
const (
	zigbeePublished = 1 << iota
	zigbeeSettable
	zigbeeGettable
)

func (d *zigbeeDevice) define(measurement string, exposes []zigbeeExpose) {
	d.published, d.others = map[string]bool{}, map[string]bool{}
	text := describing(measurement)
	set := commandSettings{Name: "set", Description: "set properties of the device"}
	gettable := false
	var walk func(exposes []zigbeeExpose, above []string) (access int)
	walk = func(exposes []zigbeeExpose, above []string) (access int) {
		for _, e := range exposes {
			keys := above
			if e.Property != "" {
				keys = append(slices.Clip(above), e.Property)
			}
			own := e.Access
			if len(e.Features) > 0 && len(keys) <= MaxDepth {
				own |= walk(e.Features, keys)
			} else if kind := e.stored(keys); own&zigbeePublished != 0 && kind != anyKind {
				text.field(FieldName(keys...), e.Unit, kind, e.Description)
			}
			access |= own
			if len(above) > 0 || e.Property == "" {
				continue // its place is below the property around it
			}
			gettable = gettable || own&zigbeeGettable != 0
			if own&zigbeePublished != 0 {
				d.published[e.Property] = true
			} else {
				d.others[e.Property] = true
			}
			if own&zigbeeSettable != 0 {
				set.Args = append(set.Args, e.argument())
			}
		}
		return access
	}
	walk(exposes, nil)
	if len(set.Args) > 0 {
		(&command{settings: set}).describe(&text)
	}
	if gettable {
		(&command{settings: zigbeeGet}).describe(&text)
	}
	d.describe = text.done()
}

// stored is the kind of the field that keys lead to; anyKind: it is none.
func (e zigbeeExpose) stored(keys []string) telemetry.Kind {
	switch {
	case len(keys) == 0:
		return anyKind
	case len(keys) == 1 && zigbeeSwitches[keys[0]]:
		return telemetry.Bool
	}
	return e.kind()
}

// kind of the values in a state.
func (e zigbeeExpose) kind() telemetry.Kind {
	switch e.Type {
	case "numeric":
		return telemetry.Double
	case "enum", "text":
		return telemetry.String
	case "binary":
		if _, ok := e.ValueOn.(bool); ok {
			return telemetry.Bool
		}
		return telemetry.String
	}
	return anyKind
}

func (e zigbeeExpose) argument() argumentSettings {
	a := argumentSettings{Name: e.Property, Optional: true, Unit: e.Unit, Description: e.Description}
	switch e.kind() {
	case telemetry.Double:
		a.Type = "number"
	case telemetry.String:
		a.Type = "text"
	case telemetry.Bool:
		a.Type = "bool"
	}
	var words []string
	for _, v := range e.Values {
		words = append(words, scalarText(v))
	}
	if len(words) > 0 {
		a.Description = strings.TrimSpace(a.Description + " (" + strings.Join(words, ", ") + ")")
	}
	return a
}
