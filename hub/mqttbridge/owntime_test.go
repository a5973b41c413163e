package mqttbridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/telemetry"
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

// Two values of one field at one time are two rows, which bridge ls says; what
// the last of them says once more is not, nor are other fields of that time.
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
	if got, want := fmt.Sprint(r.behind("tank", at*1e9)), "[0 1 1 1 2 3]"; got != want {
		t.Errorf("times %v, want %s", got, want)
	}
	if p := wantProblem(t, b, "one time, two values"); p.Count != 3 || p.Gear != "tank" || p.Profile != "json" {
		t.Errorf("%+v", p)
	}
}

// behind is how many ns behind a time the rows of a device are, in the order
// they came.
func (r *rig) behind(device string, at int64) (all []int64) {
	for _, row := range r.all() {
		if row.Device == device {
			all = append(all, row.Time-at)
		}
	}
	return all
}

// Gear that goes on, off and on within the second that it tells is on in the
// end: a new message is no repetition, whatever it says. Nothing of one time
// replaces anything, however much that is, also over a restart; what is
// retained, or said once more, is no row of its own.
func TestNothingOfOneTimeIsReplaced(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{MaxInflight: 1000}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		t.Parallel()
		b, stop := r.bridge(url, owntimes)
		up(t, b)
		gear := e.Dial(t, "gear")
		at := time.Now().Unix()
		say := func(retained bool, format string, args ...any) {
			t.Helper()
			mqtttest.Publish(t, gear, "j/tank", 1, retained, fmt.Sprintf(`{"ts":%d,%s}`, at, fmt.Sprintf(format, args...)))
		}
		say(false, `"on":true`)
		say(false, `"on":false`)
		say(false, `"on":true`)
		const n = 500
		for i := range n {
			if i == n/2 {
				stop()
				b, stop = r.bridge(url, owntimes)
				up(t, b)
			}
			say(i == n-1, `"n":%d`, i)
		}
		want := []int64{0, 1, 2, 2} // the first n joins the last word
		for i := range int64(n - 1) {
			want = append(want, 3+i)
		}
		eventually(t, "all are stored", func() bool { return len(r.behind("tank", at*1e9)) >= len(want) })
		for range 2 { // the retained message comes again with each start
			stop()
			b, stop = r.bridge(url, owntimes)
			up(t, b)
			say(false, `"n":%d`, n-1)
			want = append(want, want[len(want)-1])
			eventually(t, "the last word is there again", func() bool { return len(r.behind("tank", at*1e9)) >= len(want) })
		}
		for i, d := range r.behind("tank", at*1e9) {
			if last := want[len(want)-1]; i < len(want) && i < n+3 && d != want[i] || d > last {
				t.Fatalf("row %d is %d ns behind its time, want %d of %d", i, d, want[min(i, len(want)-1)], last)
			}
		}
	})
}

// silent appends and never says that anything is durable: all is repeated.
type silent struct{ telemetry.Buffer }

type deaf struct{}

func (deaf) Durable(uint64) {}

func (s silent) Append(e telemetry.Entry, seq uint64, _ telemetry.Acker) error {
	return s.Buffer.Append(e, seq, deaf{})
}

// What the broker repeats after a restart, because the hub ended before it had
// acknowledged it, has the rows that it had before: nothing is there twice,
// and nothing of one time replaces anything.
func TestARepetitionHasItsOwnTimeAgain(t *testing.T) {
	t.Parallel()
	onEachBroker(t, mqtttest.MosquittoOptions{MaxInflight: 1000}, func(t *testing.T, r *rig, url string, e mqtttest.Endpoint) {
		t.Parallel()
		b, stop := r.bridgeWith(url, owntimes, func(d *Deps) { d.Buffer = silent{r} })
		up(t, b)
		gear := e.Dial(t, "gear")
		const n = 90
		at := time.Now().Unix()
		for i := range n {
			mqtttest.Publish(t, gear, "j/tank", 1, false, fmt.Sprintf(`{"ts":%d,"n":%d,"on":%v}`, at+int64(i)/30, i/2%5, i%2 == 0))
		}
		eventually(t, "all are appended", func() bool { return len(r.behind("tank", at*1e9)) >= n })
		before := r.behind("tank", at*1e9)
		stop()
		b, _ = r.bridge(url, owntimes)
		up(t, b)
		eventually(t, "all are there again and acknowledged", func() bool {
			return len(r.behind("tank", at*1e9)) >= 2*n && b.Brokers()[0].PendingMessages == 0
		})
		if after := r.behind("tank", at*1e9)[n:]; !slices.Equal(before, after) {
			t.Errorf("repeated at\n%v, were at\n%v", after, before)
		}
		times := make(map[int64]bool)
		for _, d := range before {
			times[d] = true
		}
		if len(times) != n {
			t.Errorf("%d rows of %d messages", len(times), n)
		}
	})
}
