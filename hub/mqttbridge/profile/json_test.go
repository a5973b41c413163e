package profile

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const rtl433 = `
topic: "rtl_433/+/devices/{gear}/{gear}/{gear}"
time: {path: time, format: "2006-01-02 15:04:05", zone: Europe/Berlin}
omit: [model, id, channel]
fields:
  - {path: temperature_C, name: temperature, unit: Cel, description: outside}
  - {path: humidity, unit: "%"}
  - {path: battery_ok, type: bool}
`

func TestJSONExamplesOfRTL433(t *testing.T) {
	m := samples(t, "json/rtl_433.txt")[0]
	m.Received = time.Date(2019, 8, 29, 6, 38, 21, 0, time.UTC)
	p := configured(t, "json", rtl433)
	r := one(t, take(t, p, m))
	wantRow(t, r, time.Date(2019, 8, 29, 6, 38, 19, 0, time.UTC).UnixNano(), "battery_ok=bool:true temperature=double:20.5 humidity=double:83")
	if r.Gear != "Nexus-TH/2/42" || r.Problem != "" || described(r.Describe) != "temperature[Cel]unspecified humidity[%]unspecified battery_ok[]bool" {
		t.Errorf("%+v", r)
	}
	// A retained document with a time of its own is a reading all the same.
	m.Retained = true
	if r := one(t, take(t, p, m)); len(r.Rows) != 1 || !r.NotAlive {
		t.Errorf("%+v", r)
	}
}

func TestJSONFields(t *testing.T) {
	for _, tc := range []struct{ settings, payload, want string }{
		{"", `{"a":21,"b":{"c":[1,true]},"d":"x"}`, "g: a=double:21 b_c_0=double:1 b_c_1=bool:true d=string:x"},
		{"", `21.5`, "g: value=double:21.5"},
		{"", `[1,2]`, "g: _0=double:1 _1=double:2"},
		{"", `{"a":null}`, ""},
		{"only: true, fields: [{path: b.c.0, name: first, type: integer}]", `{"a":21,"b":{"c":[1,true]}}`, "g: first=int:1"},
		{"fields: [{path: a, type: integer}]", `{"a":21.5,"b":1}`, "g: b=double:1\ng problem: field a: not an integer: \"21.5\""},
		{"fields: [{path: a, type: integer}]", `{"a":9007199254740993}`, "g: a=int:9007199254740993"},
		{"fields: [{path: a, type: number}]", `{"a":"21.5"}`, "g: a=double:21.5"},
		{"fields: [{path: a, type: number}]", `{"a":"n/a","b":1}`, "g: b=double:1\ng problem: field a: not a number: \"n/a\""},
		{"fields: [{path: a, type: bool}]", `{"a":"ON"}`, "g: a=bool:true"},
		{"fields: [{path: a, type: text}]", `{"a":1.50}`, "g: a=string:1.50"},
		{"fields: [{path: s.*.t, type: integer}]", `{"s":{"x":{"t":1},"y":{"t":2,"u":3}}}`, "g: s_x_t=int:1 s_y_t=int:2 s_y_u=double:3"},
		{"omit: [s.*.t, wifi]", `{"s":{"x":{"t":1,"u":2}},"wifi":{"a":{"b":1}},"w":1}`, "g: s_x_u=double:2 w=double:1"},
		{"fields: [{path: a, name: b}]", `{"a":1,"b":2}`, "g: b=double:1\ng problem: field b: another one has the name b too and is kept"},
		{"", `{"a":1,"a":2}`, "g: a=double:1\ng problem: field a is there twice: the first is kept"},
		{"", `{"a":1e999,"b":2}`, "g: b=double:2\ng problem: field \"a\": \"1e999\" is out of range"},
		{"measurement: climate, fields: [{path: a, unit: V}]", `{"a":1}`, "g: a=double:1"},
	} {
		p := configured(t, "json", `{topic: "s/{gear}", `+tc.settings+"}")
		var lines []string
		for line := range strings.Lines(story(t, p, text("s/g", tc.payload))) {
			if !strings.Contains(line, " describes ") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		if got := strings.Join(lines, "\n"); got != tc.want {
			t.Errorf("%s with %s: %s; want %s", tc.settings, tc.payload, got, tc.want)
		}
	}
	r := one(t, take(t, configured(t, "json", `{topic: "s/{gear}", measurement: climate, fields: [{path: a, unit: V}]}`), text("s/g", `{"a":1}`)))
	if r.Rows[0].Measurement != "climate" || r.Describe.GetFields()[0].GetMeasurement() != "climate" {
		t.Errorf("%+v", r)
	}
}

func TestJSONTimes(t *testing.T) {
	for _, tc := range []struct {
		format, value string
		want          time.Time // zero: refused
	}{
		{"unix", "1486144412", time.Unix(1486144412, 0)},
		{"unix", "1486144412.25", time.Unix(1486144412, 250e6)},
		{"unix", `"1486144412"`, time.Unix(1486144412, 0)},
		{"unix_ms", "1486144412422", time.UnixMilli(1486144412422)},
		{"unix_us", "1486144412422001", time.UnixMicro(1486144412422001)},
		{"unix_ns", "1486144412422001002", time.Unix(0, 1486144412422001002)},
		{"rfc3339", `"2017-02-03T17:53:32.5+00:00"`, time.Date(2017, 2, 3, 17, 53, 32, 500e6, time.UTC)},
		{"02.01.2006 15:04:05", `"03.02.2017 18:53:32"`, time.Date(2017, 2, 3, 17, 53, 32, 0, time.UTC)},
		{"unix", "0", time.Time{}},
		{"unix", "1486999999", time.Time{}},
		{"unix", "1e30", time.Time{}},
		{"unix", "1e-300", time.Time{}},
		{"unix", `"soon"`, time.Time{}},
		{"unix", "true", time.Time{}},
		{"unix_ns", "99999999999999999999", time.Time{}},
		{"rfc3339", `"0000-01-01T00:00:00Z"`, time.Time{}},
		{"rfc3339", `"yesterday"`, time.Time{}},
	} {
		p := configured(t, "json", `{topic: "s/{gear}", time: {path: t, zone: Europe/Berlin, format: "`+tc.format+`"}}`)
		r := one(t, take(t, p, text("s/g", `{"t":`+tc.value+`,"a":1}`)))
		want := int64(0)
		if !tc.want.IsZero() {
			want = tc.want.UnixNano()
		}
		wantRow(t, r, want, "a=double:1")
		if (r.Problem != "") != tc.want.IsZero() {
			t.Errorf("%s: problem %q", tc.value, r.Problem)
		}
	}
	p := configured(t, "json", `{topic: "s/{gear}", time: {path: t, format: unix}}`)
	if r := one(t, take(t, p, text("s/g", `{"a":1}`))); r.Problem == "" || r.Rows[0].Time != 0 {
		t.Errorf("no time: %+v", r)
	}
	for settings, key := range map[string]string{
		`time: {format: unix}`:                             "path",
		`time: {path: t, format: "15:04"}`:                 "format",
		`time: {path: t}`:                                  "format",
		`time: {path: t, format: unix, zone: Atlantis}`:    "zone",
		`only: true`:                                       "only",
		`omit: [""]`:                                       "omit",
		`fields: [{path: a.*, name: b}]`:                   "name",
		`fields: [{path: a, name: x}, {path: b, name: x}]`: "twice",
		`fields: [{path: ""}]`:                             "path",
		`fields: [{path: a, type: auto}]`:                  "type",
	} {
		wantBadSettings(t, "json", `{topic: "s/{gear}", `+settings+"}", key)
	}
}

const jsonCommands = `
topic: "plant/{gear}/state"
commands:
  - name: relay
    topic: "plant/{gear}/set"
    args:
      - {name: "on", type: bool}
      - {name: delay, type: number, optional: true, unit: s}
    payload: {id: "{id}", set: {on: "{arg.on}", after: "{arg.delay}", by: "tetherline to {gear}"}}
    answer:
      topic: "plant/{gear}/ack"
      fields: {id: "{id}", ok: true}
      failed: {fields: {id: "{id}", ok: false}}
      message: error.text
  - name: raw
    topic: "plant/{gear}/raw"
  - name: level
    topic: "plant/{gear}/level"
    payload: {to: "{arg.to}"}
    answer: {topic: "plant/{gear}/state", fields: {level: "{arg.to}"}}
`

func TestJSONCommands(t *testing.T) {
	p := configured(t, "json", jsonCommands)
	if got := strings.Join(p.Filters(), " "); got != "plant/+/state plant/+/ack" {
		t.Errorf("filters %s", got)
	}
	published, plan := told(t, p, "press", "relay", `{"on":true}`)
	if published != `plant/press/set {"id":"0198f1c2-aaaa","set":{"by":"tetherline to press","on":true}}` {
		t.Error(published)
	}
	foreign := []Message{
		text("plant/press/ack", `{"id":"other","ok":true}`),
		text("plant/press/ack", `{"id":"0198f1c2-aaaa"}`),
		text("plant/press/ack", `{"ok":true}`),
		text("plant/press/ack", `nonsense`),
		text("plant/mixer/ack", `{"id":"0198f1c2-aaaa","ok":true}`),
		kept("plant/press/ack", `{"id":"0198f1c2-aaaa","ok":true}`),
	}
	good := text("plant/press/ack", `{"id":"0198f1c2-aaaa","ok":true,"took":3}`)
	bad := text("plant/press/ack", `{"id":"0198f1c2-aaaa","ok":false,"error":{"text":"jammed"}}`)
	if got := answered(t, plan, append(foreign, good)...); got != "SUCCEEDED by plant/press/ack "+string(good.Payload) {
		t.Error(got)
	}
	if got := answered(t, plan, append(foreign, bad)...); got != "FAILED by plant/press/ack "+string(bad.Payload)+" jammed" {
		t.Error(got)
	}
	// The answer topic is no reading, and no error.
	if reports := take(t, p, good); len(reports) > 0 {
		t.Errorf("%+v", reports)
	}
	// A value cannot change the form of the payload.
	published, _ = told(t, p, "press", "raw", `{"a":"\"},{\"b","n":1.50,"l":[1,{"x":null}]}`)
	if published != `plant/press/raw {"a":"\"},{\"b","l":[1,{"x":null}],"n":1.50}` {
		t.Error(published)
	}
	published, plan = told(t, p, "press", "level", `{"to":7}`)
	if published != `plant/press/level {"to":7}` ||
		answered(t, plan, text("plant/press/state", `{"level":6}`), text("plant/press/state", `{"level":7.0}`)) != `SUCCEEDED by plant/press/state {"level":7.0}` {
		t.Error(published)
	}
	for args, reason := range map[string]string{
		`{"on":"yes"}`: "bad argument", `{}`: "missing argument", `{"on":null}`: "missing argument", `{"on":true,"delay":"1"}`: "bad argument", `{"on":true,"x":1}`: "unknown argument",
	} {
		if got, _ := told(t, p, "press", "relay", args); got != "refused: "+reason {
			t.Errorf("%s: %s; want %s", args, got, reason)
		}
	}
}

func TestJSONRecognised(t *testing.T) {
	wantRecognised(t, "json", text("sensors/boiler", `{"t":1}`), `{"topic":"sensors/{gear}"}`, "boiler")
	wantRecognised(t, "json", text("plant/line-2/press/data", `{"t":1}`), `{"topic":"plant/line-2/{gear}/data"}`, "press")
	wantRecognised(t, "json", text("boiler", ` {"t":1}`), `{"topic":"{gear}"}`, "boiler")
}

// What comes in is data of one piece of gear whatever it says.
func TestJSONNamesNoOtherGear(t *testing.T) {
	p := configured(t, "json", `topic: "s/{gear}"`)
	r := one(t, take(t, p, text("s/g", `{"gear":"other","device":"other","id":"other","time":1}`)))
	if r.Gear != "g" {
		t.Errorf("%+v", r)
	}
	wantRow(t, r, 0, "gear=string:other device_=string:other id=string:other time_=double:1")
}

func BenchmarkJSONDecode(b *testing.B) {
	p := configured(b, "json", `topic: "s/{gear}/state"`)
	m := text("s/boiler-0001/state", `{"temperature":21.52,"humidity":44.7,"pressure":1013.25,"voltage":229.8,"current":0.731,"power":160.4,"energy":3.185,"rssi":-61,"uptime":86400,"on":true}`)
	var reports []Report
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if reports, err = p.Decode(m, reports[:0]); err != nil || len(reports[0].Rows[0].Fields) != 10 {
			b.Fatal(err)
		}
	}
}

// What is left out is no problem either, whatever is wrong with it.
func TestJSONWhatIsOmittedIsNoProblem(t *testing.T) {
	pad := strings.Repeat("x", 40_000)
	for settings, problem := range map[string]bool{"topic: j/{gear}\nomit: [pad, deep]": false, "topic: j/{gear}\nonly: true\nfields: [{path: n}]": false, "topic: j/{gear}": true} {
		p := configured(t, "json", settings)
		r := one(t, take(t, p, text("j/x", `{"n":1,"pad":"`+pad+`","deep":{"pad":"`+pad+`","big":1e400}}`)))
		if (r.Problem != "") != problem || len(r.Rows) != 1 || len(r.Rows[0].Fields) != 1 {
			t.Errorf("%s: problem %q, rows %v", settings, r.Problem, r.Rows)
		}
	}
}

// What tells a time near that of arrival, under a usual name, is the time of
// the gear that is recognised; what merely has such a name is a value.
func TestJSONTimeIsRecognised(t *testing.T) {
	now := exampleReceived
	for _, c := range []struct{ payload, path, format string }{
		{fmt.Sprintf(`{"n":1,"ts":%d}`, now.Unix()), "ts", "unix"},
		{fmt.Sprintf(`{"n":1,"ts":%d.25}`, now.Unix()), "ts", "unix"},
		{fmt.Sprintf(`{"n":1,"Timestamp":%d}`, now.UnixMilli()), "Timestamp", "unix_ms"},
		{fmt.Sprintf(`{"n":1,"time":"%d"}`, now.UnixMicro()), "time", "unix_us"},
		{fmt.Sprintf(`{"n":1,"time":%q}`, now.Format(time.RFC3339Nano)), "time", "rfc3339"},
		{fmt.Sprintf(`{"n":1,"meta":{"datetime":%q}}`, now.In(time.FixedZone("", 3600)).Format(time.RFC3339)), "meta.datetime", "rfc3339"},
		{fmt.Sprintf(`{"time":12,"a":{"ts":%d},"timestamp":%d}`, now.Unix(), now.Unix()), "timestamp", "unix"},
		{`{"n":1,"ts":1234}`, "", ""},
		{fmt.Sprintf(`{"n":1,"ts":%d}`, now.AddDate(-2, 0, 0).Unix()), "", ""},
		{fmt.Sprintf(`{"n":1,"time":%q}`, now.Format("2006-01-02 15:04:05")), "", ""},
		{fmt.Sprintf(`{"n":1,"uptime":%d}`, now.Unix()), "", ""},
	} {
		want := `{"topic":"s/{gear}"}`
		if c.path != "" {
			want = fmt.Sprintf(`{"time":{"format":%q,"path":%q},"topic":"s/{gear}"}`, c.format, c.path)
		}
		wantRecognised(t, "json", text("s/boiler", c.payload), want, "boiler")
	}
}
