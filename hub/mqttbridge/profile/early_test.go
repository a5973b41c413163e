package profile

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// wantEarly decodes a message that has to wait, and returns its key.
func wantEarly(t *testing.T, p Profile, m Message) *Early {
	t.Helper()
	reports, err := p.Decode(m, nil)
	var early *Early
	if !errors.As(err, &early) || early.Key == "" {
		t.Fatalf("%s: %v; want it to be early", m.Topic, err)
	}
	for _, r := range reports {
		checkReport(t, r)
		if len(r.Rows) > 0 {
			t.Fatalf("%+v", r)
		}
	}
	return early
}

// Readings that come before what describes them, which is retained, are early;
// they are read when it has come.
func TestReadingsBeforeTheirDescription(t *testing.T) {
	for name, c := range map[string]struct {
		p       Describing
		topic   string
		payload string
		tells   []Message
		want    string
	}{
		"homie 4": {testHomie(), "homie/a/n/p", "7",
			[]Message{kept("homie/a/$homie", "4.0.0"), kept("homie/a/n/p/$unit", "W"), kept("homie/a/$state", "ready"), kept("homie/a/n/p/$datatype", "integer")},
			"a: n_p=int:7"},
		"homie 3": {testHomie(), "homie/a/n/p", "7",
			[]Message{kept("homie/a/$state", "ready"), kept("homie/a/$homie", "3.0.0"), kept("homie/a/n/p/$name", "P")},
			"a: n_p=string:7"},
		"homie 3, array": {testHomie(), "homie/a/n_1/p", "7",
			[]Message{kept("homie/a/$state", "ready"), kept("homie/a/n/p/$datatype", "integer"), kept("homie/a/n/$array", "0-2")},
			"a: n_1_p=int:7"},
		"homie 5": {testHomie(), "homie/5/a/n/p", "7",
			[]Message{kept("homie/5/a/$state", "ready"), kept("homie/5/a/$description", `{"nodes":{"n":{"properties":{"p":{"datatype":"integer"}}}}}`)},
			"a: n_p=int:7"},
		"homeassistant": {testHomeassistant("s/#"), "s/1", `{"v":7}`,
			[]Message{kept("homeassistant/sensor/b/v/config", `{"stat_t":"s/2"}`),
				kept("homeassistant/sensor/a/v/config", `{"stat_t":"s/1","val_tpl":"{{ value_json.v }}","unit_of_meas":"W"}`)},
			"a: v=double:7"},
	} {
		t.Run(name, func(t *testing.T) {
			early := wantEarly(t, c.p, text(c.topic, c.payload))
			if keys := c.p.Described(); len(keys) > 0 {
				t.Errorf("%q is described", keys)
			}
			m := text(c.topic, c.payload)
			m.Early = true
			for i, told := range c.tells {
				if i > 0 {
					wantEarly(t, c.p, m)
				}
				take(t, c.p, told)
			}
			if keys := c.p.Described(); !slices.Contains(keys, early.Key) {
				t.Errorf("%q is described; want %q", keys, early.Key)
			}
			if keys := c.p.Described(); len(keys) > 0 {
				t.Errorf("%q is described twice", keys)
			}
			r := one(t, take(t, c.p, m))
			if len(r.Rows) != 1 || r.Rows[0].Time != 0 || r.Gear+": "+fieldsOf(r.Rows[0]) != c.want {
				t.Errorf("%+v; want %s", r, c.want)
			}
		})
	}
}

// What is retained, or too large, is not worth keeping.
func TestWhatIsNeverEarly(t *testing.T) {
	p := testHomeassistant("s/#")
	big := text("s/1", strings.Repeat("7", MaxPayloadBytes+1))
	for _, m := range []Message{kept("s/1", "7"), big} {
		if reports, err := p.Decode(m, nil); err != nil || len(reports) > 0 {
			t.Errorf("%+v, %v", reports, err)
		}
	}
	if reports, err := testHomie().Decode(kept("homie/a/n/p", "7"), nil); err != nil || len(reports) != 1 || len(reports[0].Rows) > 0 {
		t.Errorf("%+v, %v", reports, err)
	}
}
