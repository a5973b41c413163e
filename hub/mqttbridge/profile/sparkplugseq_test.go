package profile

import (
	"testing"
	"time"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// Messages that are missing are counted once, and never more of them than
// there are.
func TestSparkplugLostMessages(t *testing.T) {
	type step struct {
		seq      int // -1: a birth
		repeated bool
		after    time.Duration
		gap      bool
	}
	seqs := func(from, to int) (all []step) {
		for ; from <= to; from++ {
			all = append(all, step{seq: from & 255})
		}
		return all
	}
	join := func(all ...[]step) (joined []step) {
		for _, some := range all {
			joined = append(joined, some...)
		}
		return joined
	}
	birth := []step{{seq: -1}}
	gap := func(seq int) []step { return []step{{seq: seq, gap: true}} }
	for name, c := range map[string]struct {
		steps []step
		want  uint64
	}{
		"none":                       {join(birth, seqs(1, 1000)), 0},
		"begun in the middle":        {seqs(77, 400), 0},
		"one":                        {join(birth, seqs(1, 4), gap(6), seqs(7, 20), birth), 1},
		"over the end":               {join(birth, seqs(1, 253), gap(3), seqs(4, 20), birth), 3}, // 5, or a birth and what is before 3
		"zero":                       {join(birth, seqs(1, 253), gap(0), seqs(1, 20), birth), 2},
		"two gaps":                   {join(birth, seqs(1, 4), gap(8), gap(20), birth), 3 + 11},
		"a birth that was missed":    {join(birth, seqs(1, 40), gap(2), seqs(3, 9), birth), 2},
		"all of a round":             {join(birth, seqs(1, 40), seqs(297, 300), birth), 0},
		"much of a round":            {join(birth, seqs(1, 300), gap(200), seqs(201, 210), birth), 155},
		"of every third":             {join(birth, seqs(1, 2), gap(5), gap(8), gap(11), gap(14), birth), 8},
		"counted wrongly":            {join(birth, seqs(1, 2), gap(0), gap(123), birth), 0}, // the examples of the specification
		"each twice":                 {join(birth, []step{{seq: 1}, {seq: 1}, {seq: 2}, {seq: 2, repeated: true}, {seq: 3}}, birth), 0},
		"some again":                 {join(birth, seqs(1, 9), []step{{seq: 7, repeated: true}, {seq: 8, repeated: true}, {seq: 9, repeated: true}}, seqs(10, 20), birth), 0},
		"some again, not marked":     {join(birth, seqs(1, 9), []step{{seq: 7, gap: true, after: -time.Minute}, {seq: 8, gap: true, after: 0}}, []step{{seq: 10, after: time.Minute}}, birth), 0},
		"overtaken":                  {join(birth, seqs(1, 4), gap(6), seqs(5, 5), seqs(7, 20), birth), 0},
		"overtaken, one of them":     {join(birth, seqs(1, 4), gap(8), seqs(6, 6), seqs(9, 20), birth), 2},
		"no birth follows":           {join(birth, seqs(1, 4), gap(6), seqs(7, 20), []step{{seq: 21, after: reorderTime}}), 1},
		"too soon to say":            {join(birth, seqs(1, 4), gap(6), seqs(7, 20)), 0},
		"many messages on":           {join(birth, seqs(1, 4), gap(6), seqs(7, 140)), 1},
		"repeated, never seen":       {join(birth, seqs(1, 4), []step{{seq: 6, repeated: true, gap: true}}, birth), 1},
		"repeated, nothing is known": {join([]step{{seq: 9, repeated: true}, {seq: 10, repeated: true}}, seqs(30, 40), birth), 0},
	} {
		var n sparkplugCount
		var lost uint64
		now := exampleReceived
		for i, s := range c.steps {
			now = now.Add(s.after)
			if s.seq < 0 {
				lost += n.lost(now, true)
				n.born(0, uint64(now.UnixMilli()))
				continue
			}
			if got := n.take(uint8(s.seq), uint64(now.UnixMilli()), s.repeated, now); got != s.gap {
				t.Errorf("%s: message %d, seq %d: gap %v", name, i, s.seq, got)
			}
			lost += n.lost(now, false)
		}
		if lost != c.want {
			t.Errorf("%s: %d messages are lost, want %d", name, lost, c.want)
		}
	}
	// A node whose births do not begin at 0: a birth may be all that is missing.
	var n sparkplugCount
	n.born(100, 0)
	n.take(101, 0, false, exampleReceived)
	n.take(150, 0, false, exampleReceived)
	if lost := n.lost(exampleReceived, true); lost != 1 {
		t.Errorf("%d are lost", lost)
	}
}

// A node that says no more behind a gap is told as well, once, and asked once
// more for its birth.
func TestSparkplugLostBehindSilence(t *testing.T) {
	p := testSparkplug()
	p.now = func() time.Time { return exampleReceived.Add(time.Minute) }
	say := func(seq uint64) {
		take(t, p, message(t, topicNDATA, payloadOf(seq, metric("level", sparkplugv1.DataType_Double, 1.0))))
	}
	take(t, p, message(t, topicNBIRTH, birthOf(0, metric("level", sparkplugv1.DataType_Double, 0.0))))
	say(1)
	passed := func(after time.Duration) []Report { return p.Passed(exampleReceived.Add(after), nil) }
	if all := passed(time.Hour); len(all) > 0 {
		t.Fatalf("nothing is missing: %+v", all)
	}
	say(4)
	if all := passed(reorderTime - time.Millisecond); len(all) > 0 {
		t.Fatalf("too soon: %+v", all)
	}
	r := one(t, passed(reorderTime))
	if r.Gear != "g/n" || r.Lost != 2 || !r.NotAlive || r.Status != Unchanged || r.Problem == "" || len(r.Rows) > 0 {
		t.Errorf("%+v", r)
	}
	wantRebirth(t, r.Publish, "spBv1.0/g/NCMD/n")
	if all := passed(time.Hour); len(all) > 0 {
		t.Errorf("told twice: %+v", all)
	}

	// What was missing when the connection was lost may come with the next one.
	say(7)
	p.Connected()
	if all := passed(time.Minute + reorderTime/2); len(all) > 0 {
		t.Errorf("too soon after the connection: %+v", all)
	}
	if r := one(t, passed(time.Minute+reorderTime)); r.Lost != 2 {
		t.Errorf("%+v", r)
	}
}
