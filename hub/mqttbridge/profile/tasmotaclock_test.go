package profile

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A row has the time that its message tells, where it tells which moment that
// is; a clock that is not set or wrong is not believed.
func TestTasmotaClock(t *testing.T) {
	at := exampleReceived.Add(-3 * time.Hour).Truncate(time.Second)
	ago := at.Unix()
	for _, c := range []struct {
		settings, time string
		want           time.Time // zero: of arrival
		problem        string
	}{
		{"", fmt.Sprintf(`"Time":"2001-01-01T01:01:01","Epoch":%d`, ago), at, ""},
		{"", fmt.Sprintf(`"Epoch":%d`, ago), at, ""},
		{"zone: Europe/Berlin", fmt.Sprintf(`"Time":"2017-02-03T01:01:01","Epoch":%d`, ago), at, ""},
		{"", fmt.Sprintf(`"Time":%d`, ago), at, ""},
		{"", `"Time":"` + at.In(time.FixedZone("", 5400)).Format(time.RFC3339) + `"`, at, ""},
		{"zone: UTC", `"Time":"` + at.In(time.FixedZone("", -7200)).Format(time.RFC3339) + `"`, at, ""},
		{"zone: UTC", `"Time":"` + at.UTC().Format("2006-01-02T15:04:05") + `.250"`, at.Add(250 * time.Millisecond), ""},
		{"", `"Time":"` + at.UTC().Format("2006-01-02T15:04:05") + `"`, time.Time{}, ""},
		{"", `"Time":true`, time.Time{}, ""},
		{"", `"Epoch":null`, time.Time{}, ""},
		{"", `"Epoch":"soon"`, time.Time{}, ""},
		{"", `"Time":"1970-01-01T00:00:13","Epoch":13`, time.Time{}, "1970-01-01T00:00:13Z is out of range: the time of arrival"},
		{"", fmt.Sprintf(`"Epoch":%d`, exampleReceived.Unix()+3700), time.Time{}, "out of range"},
		{"", fmt.Sprintf(`"Epoch":%d`, exampleReceived.Unix()+3500), exampleReceived.Truncate(time.Second).Add(3500 * time.Second), ""},
		{"", `"Epoch":1e300`, time.Time{}, "the time of arrival"},
		{"", `"Epoch":-1`, time.Time{}, "out of range"},
	} {
		for topic, payload := range map[string]string{
			"tele/p/SENSOR":   `{` + c.time + `,"ENERGY":{"Power":1}}`,
			"tele/p/STATE":    `{` + c.time + `,"Vcc":1}`,
			"stat/p/STATUS10": `{"StatusSNS":{` + c.time + `,"ENERGY":{"Power":1}}}`,
		} {
			m := text(topic, payload)
			r := one(t, take(t, configured(t, "tasmota", c.settings), m))
			want := int64(0)
			if !c.want.IsZero() {
				want = c.want.UnixNano()
			}
			if len(r.Rows) != 1 || len(r.Rows[0].Fields) != 1 || r.Rows[0].Time != want || (r.Problem == "") != (c.problem == "") || !strings.Contains(r.Problem, c.problem) {
				t.Errorf("%s with %q: %+v, problem %q; want the time %d", payload, c.settings, r.Rows, r.Problem, want)
			}
			// What the broker keeps is a reading where it tells its time.
			m.Retained = true
			if r := one(t, take(t, configured(t, "tasmota", c.settings), m)); len(r.Rows) != map[bool]int{true: 0, false: 1}[want == 0] {
				t.Errorf("%s with %q, retained: %+v", payload, c.settings, r.Rows)
			}
		}
	}
}
