package profile

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// kindSamples are all messages of testdata of a kind, in the order of the
// files.
func kindSamples(t *testing.T, kind string) (messages []Message) {
	t.Helper()
	if kind == "sparkplug" {
		for _, name := range []string{"nbirth", "dbirth", "ndata", "ddata", "ddeath", "ndeath"} {
			messages = append(messages, example(t, name))
		}
		return messages
	}
	files, err := filepath.Glob(filepath.Join("testdata", kind, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no samples: %v", kind, err)
	}
	for _, file := range files {
		messages = append(messages, samples(t, kind+"/"+filepath.Base(file))...)
	}
	return messages
}

// recogniser is the kind that recognises a message before all others, and the
// settings that it gives as JSON; "": none.
func recogniser(t *testing.T, m Message) (kind, settings string) {
	t.Helper()
	for _, k := range Kinds() {
		if k.Recognise == nil {
			continue
		}
		given, ok := k.Recognise(m)
		if !ok {
			continue
		}
		if given == nil {
			return k.Name, ""
		}
		text, err := json.Marshal(given)
		if err != nil {
			t.Fatal(err)
		}
		return k.Name, string(text)
	}
	return "", ""
}

// The samples of every kind's documentation are recognised as that kind, and a
// profile with the settings that come of it has the gear with its fields:
// what `hubctl bridge sample` relies on.
func TestSamplesOfEveryKindAreRecognised(t *testing.T) {
	for _, c := range []struct {
		kind   string
		others []string // topics that another kind takes, or none
		want   string   // settings, and the gear with how many fields
	}{
		{"sparkplug", nil, ` Sparkplug B Devices/Raspberry Pi:6 Sparkplug B Devices/Raspberry Pi/Pibrella:14
`},
		{"homie", nil, ` kitchen-light:3 super-car:4
`},
		{"zigbee2mqtt", nil, ` RTCGQ01LM:1 WSDCGQ01LM:2 WXKG01LM:1 bridge:0 kitchen/floor_light:3 my_bulb:0 my_plug:3
`},
		{"tasmota", []string{"tele/tasmota/POWER_LOW"}, ` air:14 pow:11 sht:4 tasmota:14
`},
		{"shelly", []string{"shellies/announce"}, ` shelly1-B929CC:11 shellydimmer2-C8C9A3708E3A:11 shellyem-B9E4A1:2 shellyflood-A1B2C3:1 shellyht-F3A1B2:2 shellyplug-s-C18B12:9 shellyplus1pm-a8032abe54dc:7 shellypro4pm-f008d1d8b8b8:4 shellyrgbw2-11ABD9:9 shellyrgbw2-2B8361:5
`},
		{"homeassistant", []string{
			"homeassistant/binary_sensor/garden/config", // taken away
			"homeassistant/binary_sensor/garden/state", "homeassistant/light/kitchen/state", "homeassistant/sensor/sensorBedroom/state", "homeassistant/switch/irrigation/state",
		}, `{"state-filters":["#"]} garden:1 irrigation:1 kitchen:2 sensorBedroomH:1 sensorBedroomT:1
`},
		{"influx", nil, `{"topic":"telegraf/{gear}/+"} web01:7
`},
		{"json", nil, `{"topic":"rtl_433/attic/devices/Nexus-TH/2/{gear}"} 42:7
`},
		{"raw", nil, `{"topic":"{gear}/{field}","type":"auto"} livingroom:1
{"topic":"livingroom/sensor/{gear}/{field}","type":"auto"} livingroom_humidity:1 livingroom_temperature:1
{"topic":"livingroom/switch/{gear}/{field}","type":"auto"} desk_lamp:1
{"topic":"livingroom/text_sensor/{gear}/{field}","type":"auto"} firmware:1
`},
	} {
		messages := kindSamples(t, c.kind)
		var settings []string
		others := map[string]bool{}
		for _, m := range messages {
			kind, given := recogniser(t, m)
			if kind != c.kind {
				others[m.Topic] = true
			} else if !slices.Contains(settings, given) {
				settings = append(settings, given)
			}
		}
		if got := slices.Sorted(maps.Keys(others)); !slices.Equal(got, c.others) {
			t.Errorf("%s does not recognise %q, want %q", c.kind, got, c.others)
		}
		var got strings.Builder
		for _, given := range settings {
			p := configured(t, c.kind, given)
			gear := map[string]map[string]bool{}
			for _, m := range messages {
				m.Received = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
				reports, err := p.Decode(m, nil)
				if err != nil {
					continue // of other settings, or made to be wrong
				}
				for _, r := range reports {
					checkReport(t, r)
					if gear[r.Gear] == nil {
						gear[r.Gear] = map[string]bool{}
					}
					for _, row := range r.Rows {
						for _, f := range row.Fields {
							gear[r.Gear][f.Name] = true
						}
					}
				}
			}
			fmt.Fprintf(&got, "%s", given)
			for _, name := range slices.Sorted(maps.Keys(gear)) {
				fmt.Fprintf(&got, " %s:%d", name, len(gear[name]))
			}
			got.WriteByte('\n')
		}
		wantStory(t, got.String(), c.want)
	}
}
