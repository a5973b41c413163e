package hub_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/hubtest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// column is one field with one value a row.
func column(name string, values ...float64) *devicev1.Column {
	return &devicev1.Column{Name: name, Doubles: values}
}

// series of one row at a time.
func series(at time.Time, columns ...*devicev1.Column) *devicev1.Series {
	return &devicev1.Series{BaseTimeUnixNs: at.UnixNano(), Columns: columns}
}

// A frame that can never be stored is answered by a Reject that says why, and
// costs neither the connection nor what comes after it. The SDK would refuse
// all of these before they leave: here they come over the bare wire.
func TestFramesThatAreNeverAccepted(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	now := time.Now()
	named := func(name string) []*devicev1.Series { return []*devicev1.Series{series(now, column(name, 1))} }
	measured := func(name string) []*devicev1.Series {
		s := series(now, column("v", 1))
		s.Measurement = name
		return []*devicev1.Series{s}
	}
	many := make([]*devicev1.Column, 300)
	for i := range many {
		many[i] = column(fmt.Sprintf("f%d", i), 1)
	}
	long := &devicev1.Series{BaseTimeUnixNs: now.UnixNano(), TimeDeltaNs: make([]int64, 2000), Columns: []*devicev1.Column{column("v", make([]float64, 2000)...)}}
	for i := range long.TimeDeltaNs {
		long.TimeDeltaNs[i] = 1
	}
	cases := []struct {
		name   string
		series []*devicev1.Series
		code   devicev1.RejectCode
	}{
		{"NaN", []*devicev1.Series{series(now, column("v", math.NaN()))}, devicev1.RejectCode_REJECT_CODE_NOT_FINITE},
		{"infinity", []*devicev1.Series{series(now, column("v", math.Inf(1)))}, devicev1.RejectCode_REJECT_CODE_NOT_FINITE},
		{"infinity of a float", []*devicev1.Series{series(now, &devicev1.Column{Name: "v", Floats: []float32{float32(math.Inf(-1))}})}, devicev1.RejectCode_REJECT_CODE_NOT_FINITE},
		{"300 fields", []*devicev1.Series{series(now, many...)}, devicev1.RejectCode_REJECT_CODE_TOO_LARGE},
		{"1970", []*devicev1.Series{series(time.Unix(1, 0), column("v", 1))}, devicev1.RejectCode_REJECT_CODE_TIME_OUT_OF_RANGE},
		{"2100", []*devicev1.Series{series(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), column("v", 1))}, devicev1.RejectCode_REJECT_CODE_TIME_OUT_OF_RANGE},
		{"no series", nil, devicev1.RejectCode_REJECT_CODE_EMPTY},
		{"no values", []*devicev1.Series{series(now)}, devicev1.RejectCode_REJECT_CODE_EMPTY},
		{"2,000 rows", []*devicev1.Series{long}, devicev1.RejectCode_REJECT_CODE_TOO_LARGE},
		{"a string of 5 KiB", []*devicev1.Series{series(now, &devicev1.Column{Name: "v", Strings: []string{strings.Repeat("x", 5<<10)}})}, devicev1.RejectCode_REJECT_CODE_TOO_LARGE},
		{"two rows, one value", []*devicev1.Series{{BaseTimeUnixNs: now.UnixNano(), TimeDeltaNs: []int64{1, 1}, Columns: []*devicev1.Column{column("v", 1)}}}, devicev1.RejectCode_REJECT_CODE_MALFORMED},
		{"a field twice", []*devicev1.Series{series(now, column("v", 1), column("v", 2))}, devicev1.RejectCode_REJECT_CODE_MALFORMED},
		{"a field with a space", named("a b"), devicev1.RejectCode_REJECT_CODE_BAD_NAME},
		{"a field with a comma", named("a,b=1"), devicev1.RejectCode_REJECT_CODE_BAD_NAME},
		{"a field with a line break", named("a\nother,device=x v=1"), devicev1.RejectCode_REJECT_CODE_BAD_NAME},
		{"a field without a name", named(""), devicev1.RejectCode_REJECT_CODE_BAD_NAME},
		{"a measurement with a comma", measured("m,device=other"), devicev1.RejectCode_REJECT_CODE_BAD_NAME},
		{"a measurement with a line break", measured("m\nm"), devicev1.RejectCode_REJECT_CODE_BAD_NAME},
		{"a measurement of 65 bytes", measured(strings.Repeat("m", 65)), devicev1.RejectCode_REJECT_CODE_BAD_NAME},
	}
	p := connectPeer(t, h.Endpoint, h.CreateDevice(t, "raw"))
	seq := uint64(0)
	empty := 0
	for i, tt := range cases {
		if tt.code == devicev1.RejectCode_REJECT_CODE_EMPTY {
			empty++
		}
		counter := fmt.Sprintf("tetherline_rejects_total{code=%q}", strings.ToLower(strings.TrimPrefix(tt.code.String(), "REJECT_CODE_")))
		before := metric(t, h.Endpoint, counter)
		seq++
		p.sendSeries(seq, tt.series...)
		reject := p.nextReject()
		if reject.GetSeq() != seq || reject.GetCode() != tt.code || reject.GetDetail() == "" || reject.GetServerTimeUnixNs() == 0 {
			t.Errorf("%s: got %v; want %v for seq %d with a detail and the hub's time", tt.name, reject, tt.code, seq)
		}
		wantMetric(t, h.Endpoint, counter, before)
		seq++
		p.sendSeries(seq, oneReading(now.Add(time.Duration(i)*time.Millisecond)))
		p.wantAck(seq)
	}
	hubtest.Eventually(t, "the good rows between them are stored", func() bool { return h.Count(t, "raw") == uint64(len(cases)) })
	// Empty ones are no alarm: they stand for what a device has dropped.
	if got := status(t, h.Endpoint).RowsRejected; got != uint64(len(cases)-empty) {
		t.Errorf("the status tells of %d rejected frames; want %d", got, len(cases)-empty)
	}
	wantNoQuarantine(t, h.Endpoint)
}

// nextReject reads on until a Reject; Acks may come before it.
func (p *peer) nextReject() *devicev1.Reject {
	p.t.Helper()
	for {
		f := p.next()
		if r := f.GetReject(); r != nil {
			return r
		}
		if f.GetAck() == nil {
			p.t.Fatalf("got %v; want a Reject", f)
		}
	}
}

// wantAck reads until the Ack of seq; lower ones may come before it.
func (p *peer) wantAck(seq uint64) {
	p.t.Helper()
	for {
		f := p.next()
		ack := f.GetAck()
		if ack == nil || ack.GetSeq() > seq {
			p.t.Fatalf("got %v; want the Ack of %d", f, seq)
		}
		if ack.GetSeq() == seq {
			return
		}
	}
}
