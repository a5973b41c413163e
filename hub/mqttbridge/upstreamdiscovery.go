package mqttbridge

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Components of Home Assistant (home-assistant.io/integrations/mqtt, "MQTT
// Discovery").
const (
	sensor       = "sensor"
	binarySensor = "binary_sensor"
)

// discoveryConfig is the config of an entity, with the keys of
// home-assistant.io/integrations/sensor.mqtt and binary_sensor.mqtt.
type discoveryConfig struct {
	Name             string              `json:"name"`
	UniqueID         string              `json:"unique_id"`
	StateTopic       string              `json:"state_topic"`
	ValueTemplate    string              `json:"value_template"`
	Unit             string              `json:"unit_of_measurement,omitempty"`
	DeviceClass      string              `json:"device_class,omitempty"`
	StateClass       string              `json:"state_class,omitempty"`
	PayloadOn        string              `json:"payload_on,omitempty"`
	PayloadOff       string              `json:"payload_off,omitempty"`
	Availability     []availabilityTopic `json:"availability"`
	AvailabilityMode string              `json:"availability_mode"`
	Device           discoveredDevice    `json:"device"`
	Origin           discoveryOrigin     `json:"origin"`
}

type availabilityTopic struct {
	Topic string `json:"topic"`
}

type discoveredDevice struct {
	Identifiers []string `json:"identifiers"`
	Name        string   `json:"name"`
	Version     string   `json:"sw_version,omitempty"`
}

type discoveryOrigin struct {
	Name string `json:"name"`
}

// describeOf is what a device told of itself; nil: nothing.
func describeOf(d *registry.Device) *devicev1.Describe {
	if len(d.Describe) == 0 {
		return nil
	}
	describe := new(devicev1.Describe)
	if proto.Unmarshal(d.Describe, describe) != nil {
		return nil
	}
	return describe
}

// configs are the retained discovery messages of a device, by topic: one for
// each field that it has described.
func (n *naming) configs(d *registry.Device) map[string][]byte {
	if n.discovery == "" {
		return nil
	}
	describe := describeOf(d)
	out := make(map[string][]byte, len(describe.GetFields()))
	for _, f := range describe.GetFields() {
		measurement := measurementName(f.GetMeasurement())
		component, entity := n.entity(d.ID, measurement, f)
		entity.Device.Version = describe.GetFirmware()
		text, err := json.Marshal(entity)
		if err != nil {
			continue // strings and slices of them always can
		}
		out[n.config(component, d.ID, measurement, f.GetName())] = text
	}
	return out
}

func (n *naming) entity(id, measurement string, f *devicev1.FieldDescription) (component string, c discoveryConfig) {
	c = discoveryConfig{
		Name:       f.GetName(),
		UniqueID:   n.prefix + "/" + id + "/" + measurement + "/" + f.GetName(),
		StateTopic: n.readings(id, measurement),
		// A row need not have every field: is_defined leaves the entity as it
		// is then.
		ValueTemplate:    "{{ value_json." + f.GetName() + " | is_defined }}",
		Availability:     []availabilityTopic{{n.hub()}, {n.availability(id)}},
		AvailabilityMode: "all",
		Device:           discoveredDevice{Identifiers: []string{n.prefix + "/" + id}, Name: id},
		Origin:           discoveryOrigin{Name: "Tetherline"},
	}
	if measurement != measurementName("") {
		c.Name = measurement + " " + c.Name
	}
	switch f.GetKind() {
	case devicev1.Kind_KIND_BOOL:
		// A bool of JSON is written by a template as Python does.
		c.PayloadOn, c.PayloadOff = "True", "False"
		return binarySensor, c
	case devicev1.Kind_KIND_STRING:
		return sensor, c
	}
	u := homeUnit(f.GetUnit())
	c.Unit, c.DeviceClass = u.name, u.class
	// Of energy it is not known whether it is a counter; as a measurement
	// Home Assistant refuses it.
	if u.class != "energy" {
		c.StateClass = "measurement"
	}
	return sensor, c
}

// unit is one of Home Assistant's, with the device class that it tells.
type unit struct{ name, class string }

// homeUnits are units of UCUM that Home Assistant writes otherwise, or that
// belong to one device class alone.
var homeUnits = map[string]unit{
	"Cel": {"°C", "temperature"}, "[degF]": {"°F", "temperature"}, "K": {"K", "temperature"},
	"V": {"V", "voltage"}, "mV": {"mV", "voltage"},
	"A": {"A", "current"}, "mA": {"mA", "current"},
	"W": {"W", "power"}, "kW": {"kW", "power"}, "V.A": {"VA", "apparent_power"},
	"W.h": {"Wh", "energy"}, "kW.h": {"kWh", "energy"},
	"Hz": {"Hz", "frequency"}, "lx": {"lx", "illuminance"},
	"Pa": {"Pa", "pressure"}, "hPa": {"hPa", "pressure"}, "kPa": {"kPa", "pressure"}, "bar": {"bar", "pressure"}, "mbar": {"mbar", "pressure"}, "[psi]": {"psi", "pressure"},
	"m": {"m", "distance"}, "cm": {"cm", "distance"}, "mm": {"mm", "distance"}, "km": {"km", "distance"},
	"m/s": {"m/s", "speed"}, "km/h": {"km/h", "speed"}, "[mi_i]/h": {"mph", "speed"},
	"g": {"g", "weight"}, "kg": {"kg", "weight"},
	"dB[mW]": {"dBm", "signal_strength"}, "dB": {"dB", ""},
	"[ppm]": {"ppm", ""}, "[ppb]": {"ppb", ""}, "ug/m3": {"µg/m³", ""}, "m3/h": {"m³/h", ""}, "m3": {"m³", ""}, "m2": {"m²", ""},
	"m/s2": {"m/s²", ""}, "deg": {"°", ""}, "{rpm}": {"rpm", ""}, "A.h": {"Ah", ""}, "1": {"", ""},
}

// homeUnit is a unit as Home Assistant writes it; a unit that it does not
// know stays as it is, without the braces of UCUM's own words.
func homeUnit(ucum string) unit {
	if u, ok := homeUnits[ucum]; ok {
		return u
	}
	return unit{name: strings.Trim(ucum, "{}")}
}
