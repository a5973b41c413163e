package profile

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A hub that was away gets the readings that the broker has kept for it
// before what describes them, which is retained. None is lost.
func TestReadingsBeforeTheirDescription(t *testing.T) {
	later := func(m Message, after time.Duration) Message {
		m.Received = m.Received.Add(after)
		return m
	}
	for name, c := range map[string]struct {
		p       Profile
		topic   string
		payload func(i int) string
		tells   []Message
		want    string
	}{
		"homie 4": {testHomie(), "homie/a/n/p", func(i int) string { return fmt.Sprint(i) },
			[]Message{kept("homie/a/$homie", "4.0.0"), kept("homie/a/n/p/$unit", "W"), kept("homie/a/n/p/$datatype", "integer"), kept("homie/a/$state", "ready")},
			"a: n_p=int:%d"},
		"homie 5": {testHomie(), "homie/5/a/n/p", func(i int) string { return fmt.Sprint(i) },
			[]Message{kept("homie/5/a/$description", `{"nodes":{"n":{"properties":{"p":{"datatype":"integer"}}}}}`), kept("homie/5/a/$state", "ready")},
			"a: n_p=int:%d"},
		"homeassistant": {testHomeassistant("s/#"), "s/1", func(i int) string { return fmt.Sprintf(`{"v":%d}`, i) },
			[]Message{kept("homeassistant/sensor/a/v/config", `{"stat_t":"s/1","val_tpl":"{{ value_json.v }}","unit_of_meas":"W"}`)},
			"a: v=double:%d"},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 2500
			c.p.Connected()
			for i := range n {
				for _, r := range take(t, c.p, later(text(c.topic, c.payload(i)), time.Duration(i)*time.Millisecond)) {
					if len(r.Rows) > 0 || r.Problem != "" {
						t.Fatalf("%+v", r)
					}
				}
			}
			var got []string
			times := map[int64]bool{}
			for _, m := range c.tells {
				for _, r := range take(t, c.p, later(m, 5*time.Second)) {
					if !r.NotAlive || r.Problem != "" {
						t.Errorf("%+v", r)
					}
					for i, row := range r.Rows {
						first := exampleReceived.UnixNano()
						if row.Time < first || row.Time > first+int64(n*time.Millisecond) || times[row.Time] {
							t.Fatalf("row %d has the time %d", i, row.Time)
						}
						times[row.Time] = true
						got = append(got, r.Gear+": "+fieldsOf(row))
					}
				}
			}
			if len(got) != n {
				t.Fatalf("%d rows, want %d", len(got), n)
			}
			for i := range got {
				if got[i] != fmt.Sprintf(c.want, i) {
					t.Fatalf("row %d: %s", i, got[i])
				}
			}
			// What comes afterwards is stored as it comes, and once.
			if r := one(t, take(t, c.p, text(c.topic, c.payload(7)))); len(r.Rows) != 1 || r.Rows[0].Time != 0 {
				t.Errorf("afterwards: %+v", r)
			}
		})
	}
}

func TestEarlyMessagesAreBounded(t *testing.T) {
	var e early
	big := strings.Repeat("x", 100<<10)
	n := 0
	for e.hold(text(fmt.Sprint("t", n), big)) {
		n++
	}
	if e.bytes > maxEarlyBytes || n < 70 {
		t.Errorf("%d messages in %d bytes", n, e.bytes)
	}
	if got := e.take("t3", exampleReceived); len(got) != 1 || e.of("t3", exampleReceived) != nil {
		t.Errorf("%d messages of a topic", len(got))
	}
	m := text("t", "x")
	m.Received = m.Received.Add(earlyFor + time.Second)
	if e.hold(m) || len(e.byTopic) != 0 || e.lost != n-1 {
		t.Errorf("%d topics are left after the time, %d messages are lost", len(e.byTopic), e.lost)
	}
	e.begin()
	for range 10 {
		e.hold(m)
	}
	if e.take("t", m.Received); e.bytes != 0 || len(e.byTopic) != 0 {
		t.Errorf("%d bytes are left", e.bytes)
	}

	// What waited in vain is told.
	p := testHomie()
	take(t, p, text("homie/a/n/p", "5"))
	m = text("homie/a/n/p", "6")
	m.Received = m.Received.Add(earlyFor)
	refused(t, p, m, "not described")
	if r := one(t, take(t, p, kept("homie/a/$state", "init"))); !strings.Contains(r.Problem, "1 values") {
		t.Errorf("problem %q", r.Problem)
	}

	// A device that was ready and told no $datatype is not waited for.
	p = testHomie()
	take(t, p, kept("homie/a/$state", "ready"))
	refused(t, p, text("homie/a/n/p", "5"), "not described")
	// Nor is discovery, when the session has lasted for a while.
	h := testHomeassistant("#")
	h.Connected()
	take(t, h, text("foreign/1", "5"))
	m = text("foreign/2", "5")
	m.Received = m.Received.Add(earlyFor)
	take(t, h, m)
	if len(h.early.byTopic) != 0 {
		t.Errorf("%d topics are held", len(h.early.byTopic))
	}
}
