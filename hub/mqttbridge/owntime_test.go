package mqttbridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/mqtttest"
)

const owntimes = `
brokers:
  - name: barn
    url: BROKER
    profiles:
      - kind: tasmota
        devices: [{gear: plug}]
      - kind: json
        settings: {topic: "j/{gear}", time: {path: ts, format: unix}}
        devices: [{gear: tank}]
`

// wantRows waits for so many rows of a device of which no two have one time,
// and is what they say, by time.
func (r *rig) wantRows(device string, n int) (times []int64, said string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d rows of %s", n, device), func() bool { return len(r.stored(device)) >= n })
	known := make(map[int64]bool)
	for _, row := range r.all() {
		if row.Device == device {
			if known[row.Time] {
				r.t.Errorf("two rows of %s at %d: %q", device, row.Time, r.stored(device))
			}
			known[row.Time] = true
			times = append(times, row.Time)
		}
	}
	return times, strings.Join(r.stored(device), ", ")
}

// Messages of one second are rows of their own, whatever they say, and in
// their order; also over a restart, and long after that second.
func TestSecondsOfGearDoNotOverwrite(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, stop := r.bridge(broker.URL, owntimes)
	up(t, b)
	gear := broker.Dial(t, "gear")
	for _, second := range []int64{time.Now().Unix(), time.Now().Add(-time.Hour).Unix()} {
		said := func(power int) {
			t.Helper()
			mqtttest.Publish(t, gear, "tele/plug/SENSOR", 1, false, fmt.Sprintf(`{"Epoch":%d,"ENERGY":{"Power":%d}}`, second, power))
		}
		before := len(r.stored("plug"))
		said(1)
		said(2)
		said(1)
		r.wantRows("plug", before+3)
		stop()
		b, stop = r.bridge(broker.URL, owntimes)
		up(t, b)
		said(2)
		times, _ := r.wantRows("plug", before+4)
		for i, at := range times[before:] {
			if d := time.Duration(at - second*1e9); d < 0 || d > time.Minute {
				t.Errorf("row %d is %v after its second", i, d)
			}
		}
		if second < time.Now().Add(-30*time.Minute).Unix() {
			for _, at := range times[before:] {
				if at/1e9 != second {
					t.Errorf("row at %d is not in second %d", at, second)
				}
			}
		}
	}
	// What is kept by the broker is no reading: it comes with each connection.
	mqtttest.Publish(t, gear, "tele/plug/SENSOR", 1, true, fmt.Sprintf(`{"Epoch":%d,"ENERGY":{"Power":9}}`, time.Now().Unix()))
	r.wantRows("plug", 9)
	stop()
	b, _ = r.bridge(broker.URL, owntimes)
	up(t, b)
	mqtttest.Publish(t, gear, "tele/plug/SENSOR", 1, false, fmt.Sprintf(`{"Epoch":%d,"ENERGY":{"Power":10}}`, time.Now().Unix()))
	if _, said := r.wantRows("plug", 10); strings.Count(said, "=9") != 1 {
		t.Error(said)
	}
}

// Two values of one field at one time are two rows, which bridge ls says; the
// same words again are not, nor are other fields of that time.
func TestContradictionsOfOneTimeAreKept(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	b, _ := r.bridge(broker.URL, owntimes)
	up(t, b)
	gear := broker.Dial(t, "gear")
	at := time.Now().Unix()
	for _, fields := range []string{`"a":1`, `"a":2`, `"b":"x"`, `"a":2`, `"a":1,"b":"x"`, `"a":3,"b":"y"`} {
		mqtttest.Publish(t, gear, "j/tank", 1, false, fmt.Sprintf(`{"ts":%d,%s}`, at, fields))
	}
	eventually(t, "6 rows", func() bool { return len(r.stored("tank")) >= 6 })
	var got []int64
	for _, row := range r.all() {
		got = append(got, row.Time-at*1e9)
	}
	if want := "[0 1 0 1 0 2]"; fmt.Sprint(got) != want {
		t.Errorf("times %v, want %s", got, want)
	}
	if p := wantProblem(t, b, "one time, two values"); p.Count != 2 || p.Gear != "tank" || p.Profile != "json" {
		t.Errorf("%+v", p)
	}
}
