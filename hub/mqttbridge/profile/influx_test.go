package profile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// rowsOf tells measurement, time and fields of all rows.
func rowsOf(reports []Report) string {
	var lines []string
	for _, r := range reports {
		for _, row := range r.Rows {
			lines = append(lines, fmt.Sprintf("%s %d %s", row.Measurement, row.Time, fieldsOf(row)))
		}
		if r.Problem != "" {
			lines = append(lines, "problem: "+r.Problem)
		}
	}
	return strings.Join(lines, "\n")
}

func TestInfluxExamples(t *testing.T) {
	p := configured(t, "influx", `topic: "telegraf/{gear}/+"`)
	want := []string{
		"weather_us_midwest 1465839830100400200 temperature=double:82",
		"myMeasurement_value1_value2 1556813561098000000 fieldKey=string:fieldValue",
		"myMeasurement 0 fieldKey=double:1",
		"myMeasurement 0 fieldKey=int:1 on=bool:true off=bool:false",
		"cpu_cpu0 1556813561000000000 usage_idle=double:99.1 usage_user=double:0.5",
		"my_Measurement 0 fieldKey=string:string value fie_ld=double:2",
	}
	for i, m := range samples(t, "influx/lines.txt") {
		m.Received = time.Date(2019, 5, 2, 16, 0, 0, 0, time.UTC)
		reports := take(t, p, m)
		if got := rowsOf(reports); got != want[i] || one(t, reports).Gear != "web01" {
			t.Errorf("%s: %s; want %s", m.Payload, got, want[i])
		}
	}
}

func TestInfluxLines(t *testing.T) {
	received := exampleReceived.Unix()
	for _, tc := range []struct{ settings, payload, want string }{
		{"", "m a=1\nm a=2\n\n# comment\n", "m 0 a=double:1\nm 0 a=double:2"},
		{"precision: s", fmt.Sprintf("m a=1 %d\nm b=2 %d\nm a=3 %d", received, received, received),
			fmt.Sprintf("m %d000000000 a=double:1 b=double:2\nm %d000000000 a=double:3", received, received)},
		{"precision: s", fmt.Sprintf("m n=5 %d\nm n=6 %d\nm o=1 %d\nm n=6,o=1,p=2 %d", received, received, received, received),
			fmt.Sprintf("m %d000000000 n=double:5\nm %d000000000 n=double:6 o=double:1 p=double:2", received, received)},
		{"precision: s", fmt.Sprintf("m,cpu=a\\ b n=1 %d\nm,cpu=a_b n=2 %d\nm,cpu=a-b n=3 %d", received, received, received),
			fmt.Sprintf("m_a_b %[1]d000000000 n=double:1\nm_a_b %[1]d000000000 n=double:2\nm_a_b %[1]d000000000 n=double:3\n"+
				"problem: \"m a b\" and \"m a_b\" make the measurement m_a_b both: make a tag that differs a field, under tags (and 1 more)", received)},
		{"precision: s, tags: {cpu: field}", fmt.Sprintf("m,cpu=a\\ b n=1 %d\nm,cpu=a_b n=1 %d", received, received),
			fmt.Sprintf("m %[1]d000000000 cpu=string:a b n=double:1\nm %[1]d000000000 cpu=string:a_b n=double:1", received)},
		{"", "m a\\ b=1,a_b=2", "m 0 a_b=double:1\nproblem: field \"a_b\": the line has another a_b, which is kept"},
		{"precision: s", "m a=1 0", "m 0 a=double:1\nproblem: time 1970-01-01T00:00:00Z is out of range: the time of arrival is used"},
		{"precision: ms", fmt.Sprintf("m a=1 %d", exampleReceived.UnixMilli()), fmt.Sprintf("m %d a=double:1", exampleReceived.Truncate(time.Millisecond).UnixNano())},
		{"", "cpu,cpu=cpu0 a=1\ncpu,cpu=cpu1 a=2", "cpu_cpu0 0 a=double:1\ncpu_cpu1 0 a=double:2"},
		{"tags: {cpu: field, '*': drop}", "cpu,cpu=cpu0,host=h a=1", "cpu 0 cpu=string:cpu0 a=double:1"},
		{"", "cpu,host=g,cpu=x a=1", "cpu_x 0 a=double:1"},
		{"measurement: all", "cpu,cpu=x a=1", "all_x 0 a=double:1"},
		{"", "m a=1\nnonsense\nm b=2", "m 0 a=double:1\nm 0 b=double:2\nproblem: unable to parse 'nonsense': missing fields"},
		{"", "m time=1,device=2", "m 0 time_=double:1 device_=double:2"},
	} {
		p := configured(t, "influx", `{topic: "s/{gear}", `+tc.settings+"}")
		if got := rowsOf(take(t, p, text("s/g", tc.payload))); got != tc.want {
			t.Errorf("%s with %q:\n%s\nwant\n%s", tc.settings, tc.payload, got, tc.want)
		}
	}
	p := configured(t, "influx", `topic: "s/{gear}"`)
	refused(t, p, text("s/g", "nonsense"), "not line protocol")
	refused(t, p, text("s/g", "m a=nan"), "not line protocol")
	refused(t, p, text("s/g", "m a=1e999"), "not line protocol")
	refused(t, p, text("s/g", "m a=\"\xff\""), "not UTF-8")
	refused(t, p, text("s/g", "m a=\""+strings.Repeat("x", telemetry.MaxStringBytes+1)+"\""), "not line protocol")
	refused(t, p, text("s/g", strings.Repeat("m a=1\n", telemetry.MaxFrameRows+1)), "too many rows")
	wantBadSettings(t, "influx", `{topic: "s/{gear}", precision: d}`, "precision")
	wantBadSettings(t, "influx", `{topic: "s/{gear}", tags: {a: b}}`, "tags")
	// What the parser unescapes is its own copy.
	payload := `m a="x\"y",b\ c=1`
	m := text("s/g", payload)
	take(t, p, m)
	if string(m.Payload) != payload {
		t.Errorf("the payload has become %s", m.Payload)
	}
}

func TestInfluxRecognised(t *testing.T) {
	wantRecognised(t, "influx", text("telegraf/web01/cpu", "cpu,host=web01 idle=9"), `{"topic":"telegraf/{gear}/+"}`, "web01")
	wantRecognised(t, "influx", text("lines/web01", "cpu idle=9"), `{"topic":"lines/{gear}"}`, "web01")
	wantRecognised(t, "influx", text("web01", "cpu idle=9"), `{"topic":"{gear}"}`, "web01")
}
