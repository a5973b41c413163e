package profile

import (
	"regexp"
	"slices"
	"strings"
)

// tasmotaClass is what a JSON message is: which of its values are readings.
type tasmotaClass uint8

const (
	tasmotaAll     tasmotaClass = iota // STATE, SENSOR and whatever sensors tell
	tasmotaInfo                        // INFO1 to INFO3: of the device itself
	tasmotaResult                      // RESULT: the state of outputs, among settings
	tasmotaStatusN                     // STATUS1 to STATUS11: readings in StatusSNS and StatusSTS
)

func tasmotaClassOf(last string, tele bool) tasmotaClass {
	switch {
	case tele && strings.HasPrefix(last, "INFO"):
		return tasmotaInfo
	case tele:
		return tasmotaAll
	case tasmotaStatus.MatchString(last):
		return tasmotaStatusN
	}
	return tasmotaResult
}

type tasmotaPath struct {
	class tasmotaClass
	path  string
}

type tasmotaRole uint8

const (
	tasmotaNothing tasmotaRole = iota
	tasmotaReading
	tasmotaTime
	tasmotaEpoch
	tasmotaUnit    // name is TempUnit, PressureUnit or SpeedUnit
	tasmotaVersion // of the firmware
)

// tasmotaField is what one path of a class of messages means.
type tasmotaField struct {
	role      tasmotaRole
	name      string
	unit      string // or the name of the unit that the message tells
	power     bool   // ON and OFF
	code      bool   // a text, whichever way the gear writes it
	unwrapped bool   // it was in StatusSNS or StatusSTS
}

func (p *tasmota) field(class tasmotaClass, l Leaf) tasmotaField {
	if f, ok := p.fields[tasmotaPath{class, l.Path}]; ok {
		return f
	}
	if len(p.fields) > maxPaths {
		clear(p.fields)
	}
	f := newTasmotaField(class, splitPath(l.Path))
	p.fields[tasmotaPath{class, l.Path}] = f
	return f
}

// tasmotaOutputs begin the values of a RESULT that are the state of the
// device. All others answer commands that ask for settings.
var tasmotaOutputs = regexp.MustCompile(`^(POWER[0-9]{0,2}|Dimmer[0-9]?|Color|HSBColor|CT|White|Channel[0-9]?|Fade|Speed|FanSpeed|Shutter[0-9]{1,2}|Switch[0-9]{1,2}|Button[0-9]{1,2})$`)

// tasmotaConstant are values that are no readings: they never change, or are
// told a second time in a better way.
var tasmotaConstant = []string{
	"Uptime", "SleepMode", "ENERGY.TotalStartTime", "Wifi.SSId", "Wifi.BSSId", "Wifi.APMac", "Wifi.Mode", "Wifi.Downtime",
}

func newTasmotaField(class tasmotaClass, keys []string) tasmotaField {
	f := tasmotaField{}
	switch class {
	case tasmotaInfo:
		if keys[len(keys)-1] == "Version" && (len(keys) == 1 || keys[0] == "Info1" && len(keys) == 2) {
			f.role = tasmotaVersion
		}
		return f
	case tasmotaStatusN:
		if slices.Equal(keys, []string{"StatusFWR", "Version"}) {
			f.role = tasmotaVersion
			return f
		}
		if len(keys) < 2 || keys[0] != "StatusSNS" && keys[0] != "StatusSTS" {
			return f
		}
		keys, f.unwrapped = keys[1:], true
	case tasmotaResult:
		if !tasmotaOutputs.MatchString(keys[0]) {
			return f
		}
	}
	last := keys[len(keys)-1]
	switch {
	case len(keys) == 1 && last == "Time":
		f.role = tasmotaTime
		return f
	case len(keys) == 1 && last == "Epoch":
		f.role = tasmotaEpoch
		return f
	case len(keys) == 1 && (last == "TempUnit" || last == "PressureUnit" || last == "SpeedUnit"):
		f.role, f.name = tasmotaUnit, last
		return f
	case slices.Contains(tasmotaConstant, strings.Join(keys, ".")), len(keys) > 1 && last == "Id":
		return f
	}
	f.role, f.name = tasmotaReading, FieldName(keys...)
	f.power = len(keys) == 1 && tasmotaPower.MatchString(last)
	f.code = slices.Contains(tasmotaCodes, strings.Join(keys, "."))
	f.unit = tasmotaUnitOf(keys)
	return f
}

// tasmotaCodes are a text or a number by the radix that SetOption28 and 29 set
// (xdrv_05_irremote.ino, xdrv_06_snfbridge.ino, xdrv_17_rcswitch.ino in
// github.com/arendst/Tasmota); RfKey is "None" or a number.
var tasmotaCodes = []string{"RfReceived.Data", "RfReceived.RfKey", "IrReceived.Data"}

// tasmotaUnitOf is the unit of a value, as the documentation of the sensors
// has it; one that the device may change is told by the message.
func tasmotaUnitOf(keys []string) string {
	last := keys[len(keys)-1]
	if len(keys) > 1 && strings.Trim(last, "0123456789") == "" {
		last = keys[len(keys)-2] // of several phases or channels
	}
	if keys[0] == "Wifi" && last == "RSSI" {
		return "%"
	}
	if keys[0] == "ENERGY" {
		if unit, ok := tasmotaEnergy[last]; ok {
			return unit
		}
	}
	return tasmotaUnits[last]
}

var tasmotaEnergy = map[string]string{
	"Total": "kWh", "Yesterday": "kWh", "Today": "kWh", "ExportActive": "kWh", "Period": "Wh",
	"Power": "W", "ApparentPower": "VA", "ReactivePower": "var", "Voltage": "V", "Current": "A", "Frequency": "Hz",
}

var tasmotaUnits = map[string]string{
	"Temperature": "TempUnit", "DewPoint": "TempUnit", "Pressure": "PressureUnit", "SeaPressure": "PressureUnit",
	"Humidity": "%", "Illuminance": "lx", "CarbonDioxide": "ppm", "eCO2": "ppm", "TVOC": "ppb", "Distance": "cm",
	"Signal": "dBm", "UptimeSec": "s", "Heap": "KiBy", "Vcc": "V", "Dimmer": "%", "CT": "mired",
}
