package profile

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTasmotaExamplesOfItsDocumentation(t *testing.T) {
	wantStory(t, story(t, configured(t, "tasmota", ""), samples(t, "tasmota/mqtt.txt")...), `
tasmota online
tasmota firmware Tasmota 6.5.0.14(sonoff)
tasmota firmware Tasmota 9.5.0(tasmota)
tasmota: POWER=bool:false
tasmota describes POWER[]bool power() command()
tasmota: POWER=bool:false
tasmota: DS18B20_Temperature=double:20.6
tasmota describes POWER[]bool DS18B20_Temperature[]double power() command()
tasmota: POWER_LOW=bool:true
tasmota describes POWER[]bool DS18B20_Temperature[]double POWER_LOW[]bool power() command()
tasmota offline last will
`)
	state := samples(t, "tasmota/state.txt")
	for i := range state {
		state[i].Received = time.Date(2019, 11, 1, 0, 0, 0, 0, time.UTC)
	}
	wantStory(t, story(t, configured(t, "tasmota", ""), state...), `
tasmota: UptimeSec=double:66972 Vcc=double:3.423 Heap=double:28 Sleep=double:50 LoadAvg=double:19 MqttCount=double:6 POWER=bool:false Wifi_AP=double:1 Wifi_Channel=double:13 Wifi_RSSI=double:100 Wifi_LinkCount=double:1
tasmota describes UptimeSec[s]double Vcc[V]double Heap[KiBy]double Sleep[]double LoadAvg[]double MqttCount[]double POWER[]bool Wifi_AP[]double Wifi_Channel[]double Wifi_RSSI[%]double Wifi_LinkCount[]double power() command()
tasmota: ANALOG_A0=double:8
tasmota describes UptimeSec[s]double Vcc[V]double Heap[KiBy]double Sleep[]double LoadAvg[]double MqttCount[]double POWER[]bool Wifi_AP[]double Wifi_Channel[]double Wifi_RSSI[%]double Wifi_LinkCount[]double ANALOG_A0[]double power() command()
`)
	wantStory(t, story(t, configured(t, "tasmota", ""), samples(t, "tasmota/status.txt")...), `
pow: ENERGY_Total=double:3.185 ENERGY_Yesterday=double:3.058 ENERGY_Today=double:0.127 ENERGY_Power=double:0 ENERGY_Factor=double:0 ENERGY_Voltage=double:221 ENERGY_Current=double:0
pow describes ENERGY_Total[kW.h]double ENERGY_Yesterday[kW.h]double ENERGY_Today[kW.h]double ENERGY_Power[W]double ENERGY_Factor[]double ENERGY_Voltage[V]double ENERGY_Current[A]double power() command()
sht: DHT11_Temperature=double:78.8 DHT11_Humidity=double:27 SHT3X_Temperature=double:74.8 SHT3X_Humidity=double:18.9
sht describes DHT11_Temperature[[degF]]double DHT11_Humidity[%]double SHT3X_Temperature[[degF]]double SHT3X_Humidity[%]double power() command()
air: HTU21_Temperature=double:24.7 HTU21_Humidity=double:32.1 PMS5003_CF1=double:1 PMS5003_CF2_5=double:2 PMS5003_CF10=double:2 PMS5003_PM1=double:1 PMS5003_PM2_5=double:2 PMS5003_PM10=double:2 PMS5003_PB0_3=double:423 PMS5003_PB0_5=double:116 PMS5003_PB1=double:17 PMS5003_PB2_5=double:1 PMS5003_PB5=double:0 PMS5003_PB10=double:0
air describes HTU21_Temperature[Cel]double HTU21_Humidity[%]double PMS5003_CF1[]double PMS5003_CF2_5[]double PMS5003_CF10[]double PMS5003_PM1[]double PMS5003_PM2_5[]double PMS5003_PM10[]double PMS5003_PB0_3[]double PMS5003_PB0_5[]double PMS5003_PB1[]double PMS5003_PB2_5[]double PMS5003_PB5[]double PMS5003_PB10[]double power() command()
pow: Vcc=double:3.504 POWER=bool:false Wifi_AP=double:1 Wifi_RSSI=double:100
pow describes ENERGY_Total[kW.h]double ENERGY_Yesterday[kW.h]double ENERGY_Today[kW.h]double ENERGY_Power[W]double ENERGY_Factor[]double ENERGY_Voltage[V]double ENERGY_Current[A]double Vcc[V]double POWER[]bool Wifi_AP[]double Wifi_RSSI[%]double power() command()
pow firmware Tasmota 5.12.0a
`)
}

func TestTasmotaMessages(t *testing.T) {
	for _, tc := range []struct {
		message Message
		want    string // without descriptions
	}{
		{text("stat/p/POWER2", "ON"), "p: POWER2=bool:true"},
		{text("stat/p/POWER", "AN"), `p problem: POWER: "AN" is neither ON nor OFF`},
		{text("tele/p/STATE", `{"POWER1":"ON","POWER2":0,"POWER3":"AN"}`), `p: POWER1=bool:true POWER2=bool:false|p problem: POWER3: "AN" is neither ON nor OFF`},
		{text("stat/p/RESULT", `{"POWER":"ON","Dimmer":50,"Color":"808080","HSBColor":"0,0,50","Channel":[50,50,50]}`),
			"p: POWER=bool:true Dimmer=double:50 Color=string:808080 HSBColor=string:0,0,50 Channel_0=double:50 Channel_1=double:50 Channel_2=double:50"},
		{text("stat/p/RESULT", `{"TelePeriod":300}`), ""},
		{text("stat/p/RESULT", `{"Command":"Unknown"}`), ""},
		{text("stat/p/STATUS", `{"Status":{"Module":1,"Power":0}}`), ""},
		{text("stat/p/UPGRADE", "Version 12"), ""},
		{text("tele/p/SENSOR", `{"Time":"2026-09-18T11:19:21","ENERGY":{"Power":[52,5],"Voltage":235}}`), "p: ENERGY_Power_0=double:52 ENERGY_Power_1=double:5 ENERGY_Voltage=double:235"},
		{text("tele/p/SENSOR", `{"DS18B20-1":{"Id":"000008BD38BF","Temperature":26.1},"AM2301-14":{"Temperature":null}}`), "p: DS18B20_1_Temperature=double:26.1"},
		{text("tele/p/RESULT", `{"RfReceived":{"Data":"0x7028D4","Bits":24}}`), "p: RfReceived_Data=string:0x7028D4 RfReceived_Bits=double:24"},
		{kept("tele/p/SENSOR", `{"ENERGY":{"Power":1}}`), ""},
		{kept("stat/p/POWER", "ON"), ""},
		{kept("tele/p/LWT", "Offline"), "p offline last will"},
		{kept("tele/p/LWT", ""), ""},
		{text("stat/p/a/b", "x"), ""},
	} {
		p := configured(t, "tasmota", "")
		var lines []string
		for _, r := range mayTake(t, p, tc.message) {
			for _, row := range r.Rows {
				lines = append(lines, r.Gear+": "+fieldsOf(row))
			}
			if r.Status == Offline {
				lines = append(lines, r.Gear+" offline "+r.Reason)
			}
			if r.Problem != "" {
				lines = append(lines, r.Gear+" problem: "+r.Problem)
			}
		}
		if got := strings.Join(lines, "|"); got != tc.want {
			t.Errorf("%s %s: %s; want %s", tc.message.Topic, tc.message.Payload, got, tc.want)
		}
	}
	p := configured(t, "tasmota", "")
	refused(t, p, text("tele/p/SENSOR", `{"ENERGY":`), "not JSON")
	refused(t, p, text("tele/p/LWT", "Perhaps"), "unknown availability")
	refused(t, p, text("tele/p/SENSOR", `{"a":"`+strings.Repeat("x", MaxPayloadBytes)+`"}`), "too large")
	refused(t, p, text("stat/p/RESULT", "{\"a\":\"\xff\"}"), "not UTF-8")
}

func mayTake(t *testing.T, p Profile, m Message) []Report {
	t.Helper()
	reports, err := p.Decode(m, nil)
	if err != nil {
		t.Errorf("%s: %v", m.Topic, err)
	}
	for _, r := range reports {
		checkReport(t, r)
	}
	return reports
}

// Tasmota tells its local time and no zone: only the settings know it.
func TestTasmotaTime(t *testing.T) {
	m := text("tele/p/SENSOR", `{"Time":"2017-02-03T18:54:00","ENERGY":{"Power":1}}`)
	wantRow(t, one(t, take(t, configured(t, "tasmota", ""), m)), 0, "ENERGY_Power=double:1")
	berlin := configured(t, "tasmota", "zone: Europe/Berlin")
	at := time.Date(2017, 2, 3, 17, 54, 0, 0, time.UTC).UnixNano()
	wantRow(t, one(t, take(t, berlin, m)), at, "ENERGY_Power=double:1")
	m.Retained = true
	wantRow(t, one(t, take(t, berlin, m)), at, "ENERGY_Power=double:1")
	r := one(t, take(t, berlin, text("tele/p/SENSOR", `{"Time":"1970-01-01T01:00:13","ENERGY":{"Power":1}}`)))
	wantRow(t, r, 0, "ENERGY_Power=double:1")
	if !strings.Contains(r.Problem, "out of range") {
		t.Errorf("problem %q", r.Problem)
	}
}

func TestTasmotaTopics(t *testing.T) {
	for _, tc := range []struct{ settings, topic, gear, command string }{
		{``, "tele/p/SENSOR", "p", "cmnd/p/POWER"},
		{`full-topic: "%topic%/%prefix%/"`, "p/tele/SENSOR", "p", "p/cmnd/POWER"},
		{`full-topic: "tasmota/bedroom/%topic%/%prefix%"`, "tasmota/bedroom/p/tele/SENSOR", "p", "tasmota/bedroom/p/cmnd/POWER"},
		{`full-topic: "+/%prefix%/%topic%/"`, "attic/tele/p/SENSOR", "attic/p", "attic/cmnd/p/POWER"},
		{`full-topic: "%prefix%/tasmota_%id%/"`, "tele/tasmota_C0FFEE/SENSOR", "C0FFEE", "cmnd/tasmota_C0FFEE/POWER"},
		{`{tele: Telemetrie, stat: Stand, cmnd: Befehl}`, "Telemetrie/p/SENSOR", "p", "Befehl/p/POWER"},
	} {
		p := configured(t, "tasmota", tc.settings)
		r := one(t, take(t, p, text(tc.topic, `{"Switch1":"ON"}`)))
		published, _ := told(t, p, r.Gear, "power", `{"state":"on"}`)
		if r.Gear != tc.gear || published != tc.command+" ON" {
			t.Errorf("%s: gear %s, command %s", tc.settings, r.Gear, published)
		}
	}
	for settings, key := range map[string]string{
		`full-topic: "%topic%/"`: "full-topic", `full-topic: "%prefix%/x/"`: "full-topic", `full-topic: "%prefix%/#/%topic%"`: "full-topic",
		`tele: stat`: "tele", `stat: "a/+"`: "stat", `zone: Atlantis`: "zone", `measurement: "a b"`: "measurement", `nonsense: 1`: "nonsense",
	} {
		wantBadSettings(t, "tasmota", settings, key)
	}
	wantRecognised(t, "tasmota", text("tele/p/LWT", "Online"), "", "p")
	wantRecognised(t, "tasmota", text("p/tele/STATE", `{"POWER":"ON"}`), `{"full-topic":"%topic%/%prefix%/"}`, "p")
	wantRecognised(t, "tasmota", text("tasmota/bedroom/p/stat/POWER1", "ON"), `{"full-topic":"tasmota/bedroom/%topic%/%prefix%/"}`, "p")
	wantRecognised(t, "tasmota", text("attic/tele/p/SENSOR", `{"a":1}`), `{"full-topic":"attic/%prefix%/%topic%/"}`, "p")
}

func TestTasmotaCommands(t *testing.T) {
	p := configured(t, "tasmota", "")
	state := text("tele/p/STATE", `{"POWER":"OFF","Dimmer":20}`)
	for _, tc := range []struct {
		name, args, published string
		messages              []Message
		want                  string
	}{
		{"power", `{"state":"on"}`, "cmnd/p/POWER ON", []Message{state, text("stat/p/RESULT", `{"POWER":"OFF"}`), text("stat/q/RESULT", `{"POWER":"ON"}`),
			kept("stat/p/POWER", "ON"), text("stat/p/RESULT", `{"POWER":"ON"}`)}, `SUCCEEDED by stat/p/RESULT {"POWER":"ON"}`},
		{"power", `{"state":true}`, "cmnd/p/POWER ON", []Message{text("stat/p/POWER", "ON")}, "no answer"},                                            // the second half of the pair
		{"power", `{"state":"on"}`, "cmnd/p/POWER ON", []Message{text("stat/p/POWER", `{"POWER":"ON"}`)}, `SUCCEEDED by stat/p/POWER {"POWER":"ON"}`}, // SetOption4
		{"power", `{"state":"OFF"}`, "cmnd/p/POWER OFF", []Message{text("stat/p/RESULT", `{"POWER1":"OFF"}`)}, `SUCCEEDED by stat/p/RESULT {"POWER1":"OFF"}`},
		{"power", `{"state":"toggle","relay":2}`, "cmnd/p/POWER2 TOGGLE", []Message{text("stat/p/RESULT", `{"POWER1":"ON"}`), text("stat/p/RESULT", `{"POWER2":"OFF"}`)}, `SUCCEEDED by stat/p/RESULT {"POWER2":"OFF"}`},
		{"power", `{"state":"on"}`, "cmnd/p/POWER ON", []Message{state, text("stat/p/RESULT", `{`)}, "no answer"},
		{"dimmer", `{"level":50}`, "cmnd/p/Dimmer 50", []Message{text("stat/p/RESULT", `{"POWER":"ON","Dimmer":20}`),
			text("stat/p/RESULT", `{"POWER":"ON","Dimmer":50,"Color":"808080"}`)}, `SUCCEEDED by stat/p/RESULT {"POWER":"ON","Dimmer":50,"Color":"808080"}`},
		{"ct", `{"mired":300}`, "cmnd/p/CT 300", []Message{text("stat/p/RESULT", `{"POWER":"ON","CT":300}`)}, `SUCCEEDED by stat/p/RESULT {"POWER":"ON","CT":300}`},
		{"color", `{"color":"ff8800"}`, "cmnd/p/Color #FF8800", []Message{text("stat/p/RESULT", `{"Color":"FF8000"}`), text("stat/p/RESULT", `{"Color":"FF8800FF00"}`)}, `SUCCEEDED by stat/p/RESULT {"Color":"FF8800FF00"}`},
		{"color", `{"color":"#FF8800"}`, "cmnd/p/Color #FF8800", []Message{text("stat/p/RESULT", `{"Color":"255,136,0"}`)}, `SUCCEEDED by stat/p/RESULT {"Color":"255,136,0"}`},
		{"command", `{"command":"TelePeriod","payload":60}`, "cmnd/p/TelePeriod 60", []Message{text("stat/p/RESULT", `{"POWER":"ON"}`), text("stat/p/RESULT", `{"TelePeriod":60}`)}, `SUCCEEDED by stat/p/RESULT {"TelePeriod":60}`},
		{"command", `{"command":"pulsetime","payload":"10"}`, "cmnd/p/pulsetime 10", []Message{text("stat/p/RESULT", `{"PulseTime1":{"Set":10,"Remaining":0}}`)}, `SUCCEEDED by stat/p/RESULT {"PulseTime1":{"Set":10,"Remaining":0}}`},
		{"command", `{"command":"PowerOnState"}`, "cmnd/p/PowerOnState ", []Message{text("stat/p/POWERONSTATE", `{"PowerOnState":3}`)}, `SUCCEEDED by stat/p/POWERONSTATE {"PowerOnState":3}`},
		{"command", `{"command":"Status","payload":"8"}`, "cmnd/p/Status 8", []Message{text("stat/p/STATUS10", `{"StatusSNS":{}}`), text("stat/p/STATUS8", `{"StatusSNS":{}}`)}, `SUCCEEDED by stat/p/STATUS8 {"StatusSNS":{}}`},
		{"command", `{"command":"Foo"}`, "cmnd/p/Foo ", []Message{text("stat/p/RESULT", `{"Command":"Unknown","Input":"BAR"}`), text("stat/p/RESULT", `{"Command":"Unknown","Input":"FOO"}`)}, `REJECTED by stat/p/RESULT {"Command":"Unknown","Input":"FOO"} the gear says that the command "Foo" is unknown`},
		{"command", `{"command":"Foo"}`, "cmnd/p/Foo ", []Message{text("stat/p/RESULT", `{"Command":"Unknown"}`)}, `REJECTED by stat/p/RESULT {"Command":"Unknown"} the gear says that the command "Foo" is unknown`},
		{"command", `{"command":"Backlog","payload":"Power1 on; Delay 10; Power1 off"}`, "cmnd/p/Backlog Power1 on; Delay 10; Power1 off", nil, "cannot answer"},
	} {
		published, plan := told(t, p, "p", tc.name, tc.args)
		if published != tc.published {
			t.Errorf("%s %s publishes %s; want %s", tc.name, tc.args, published, tc.published)
			continue
		}
		if got := answered(t, plan, tc.messages...); got != tc.want {
			t.Errorf("%s %s: %s; want %s", tc.name, tc.args, got, tc.want)
		}
	}
	for args, name := range map[string]string{
		`{}`: "power", `{"state":"dim"}`: "power", `{"state":"on","relay":0}`: "power", `{"state":"on","relay":33}`: "power", `{"state":"on","relay":1.5}`: "power", `{"state":["on"]}`: "power",
		`{"level":101}`: "dimmer", `{"level":"50"}`: "dimmer", `{"mired":100}`: "ct", `{"color":"red"}`: "color",
		`{"command":"a/b"}`: "command", `{"command":""}`: "command", `{"command":"POWER #"}`: "command", `{"command":"Foo","payload":{"a":1}}`: "command", `{"x":1}`: "unheard",
	} {
		if published, _ := told(t, p, "p", name, args); !strings.HasPrefix(published, "refused: ") {
			t.Errorf("%s %s publishes %s", name, args, published)
		}
	}
	if published, _ := told(t, p, "a/b", "power", `{"state":"on"}`); published != "refused: bad gear name" {
		t.Error(published)
	}
}

// Gear is described again after a while: it may have been allowed since.
func TestTasmotaDescribesAgain(t *testing.T) {
	p := configured(t, "tasmota", "measurement: plugs")
	m := text("stat/p/POWER", "ON")
	describes := func() bool { return one(t, take(t, p, m)).Describe != nil }
	if !describes() || describes() {
		t.Error("not described once")
	}
	m.Received = m.Received.Add(describeEvery)
	if !describes() || describes() {
		t.Error("not described again")
	}
	p.Connected()
	r := one(t, take(t, p, m))
	if r.Describe.GetFields()[0].GetMeasurement() != "plugs" || r.Rows[0].Measurement != "plugs" {
		t.Errorf("%+v", r)
	}
}

func TestTasmotaMemoryIsBounded(t *testing.T) {
	p := configured(t, "tasmota", "").(*tasmota)
	for i := range MaxGear + 1000 {
		take(t, p, text(fmt.Sprintf("tele/p%d/SENSOR", i), fmt.Sprintf(`{"f%d":1}`, i)))
	}
	if len(p.described.gear) > MaxGear || len(p.described.known) > maxPaths || len(p.fields) > maxPaths+1 {
		t.Errorf("%d pieces of gear, %d names, %d paths", len(p.described.gear), len(p.described.known), len(p.fields))
	}
	// Beyond the bound readings come all the same.
	wantRow(t, one(t, take(t, p, text("tele/one-more/SENSOR", `{"f":1}`))), 0, "f=double:1")
}
