package wire_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// generator makes random messages, mostly good ones.
type generator struct {
	*rand.Rand
	flaw int // one in so many decisions goes wrong; 0: none
}

func (g generator) bad() bool { return g.flaw > 0 && g.IntN(g.flaw) == 0 }

func (g generator) telemetry() *devicev1.Telemetry {
	m := &devicev1.Telemetry{Seq: 1 + g.Uint64()>>g.IntN(64)>>1, DroppedRows: g.Uint64() >> g.IntN(65)}
	if g.bad() {
		m.Seq = 0
	}
	for range 1 + g.IntN(3) {
		m.Series = append(m.Series, g.series())
	}
	return m
}

func (g generator) series() *devicev1.Series {
	s := &devicev1.Series{
		Measurement:    []string{"", "telemetry", "motor", "time", strings.Repeat("m", 64)}[g.IntN(5)],
		BaseTimeUnixNs: testNow.Add(-time.Duration(g.Int64N(int64(time.Hour)))).UnixNano(),
	}
	rows := 1
	if g.IntN(3) > 0 {
		rows = 1 + g.IntN(12)
		for range rows {
			s.TimeDeltaNs = append(s.TimeDeltaNs, g.Int64N(int64(time.Minute))-int64(20*time.Second))
		}
	}
	switch {
	case g.bad():
		s.Measurement = "not a name"
	case g.bad():
		s.BaseTimeUnixNs = g.Int64() - g.Int64()
	case g.bad() && rows > 1:
		s.TimeDeltaNs[g.IntN(rows)] = g.Int64() - g.Int64()
	}
	names := []string{"a", "b", "_internal", "Temp_1", "x9", strings.Repeat("c", 64), "Time", "labels"}
	g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	dense := g.flaw == 0 || g.IntN(4) > 0 // else a row may be left without a value
	for i := range 1 + g.IntN(6) {
		s.Columns = append(s.Columns, g.column(names[i], rows, i == 0 && dense))
	}
	return s
}

func (g generator) column(name string, rows int, dense bool) *devicev1.Column {
	c := &devicev1.Column{Name: name}
	n := rows
	if !dense && g.IntN(2) == 0 {
		n = 0
		for row := range rows {
			if g.IntN(3) > 0 || row == 0 {
				c.Rows = append(c.Rows, uint32(row))
				n++
			}
		}
	}
	g.fill(c, g.IntN(5), n)
	switch {
	case g.bad():
		c.Name = []string{"", "time", "device", "_field", "ä", "9a", strings.Repeat("d", 65), "a", "sp ace"}[g.IntN(9)]
	case g.bad():
		g.fill(c, g.IntN(5), 1)
	case g.bad():
		c.Rows = append(c.Rows, g.Uint32N(uint32(rows+2)))
	case g.bad():
		c.Doubles = append(c.Doubles, math.NaN())
	}
	return c
}

func (g generator) fill(c *devicev1.Column, list, n int) {
	for range n {
		switch list {
		case 0:
			v := math.Float64frombits(g.Uint64())
			if g.IntN(2) == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
				v = math.Round(g.NormFloat64()*1e5) / 100
			}
			c.Doubles = append(c.Doubles, v)
		case 1:
			v := math.Float32frombits(g.Uint32())
			if v != v || math.IsInf(float64(v), 0) {
				v = g.Float32()
			}
			c.Floats = append(c.Floats, v)
		case 2:
			c.Ints = append(c.Ints, int64(g.Uint64())>>g.IntN(64))
		case 3:
			c.Bools = append(c.Bools, g.IntN(2) == 0)
		case 4:
			c.Strings = append(c.Strings, g.text())
		}
	}
}

// text is made of what line protocol has to be careful with.
func (g generator) text() string {
	pieces := []string{`"`, `\`, `\\`, "\n", "\r\n", ",", "=", " ", "x", "ä", "日本", "\x00", `\n`, "#", "\u2028"}
	var b strings.Builder
	for range g.IntN(8) {
		b.WriteString(pieces[g.IntN(len(pieces))])
	}
	return b.String()
}

func TestCheckAndRowsAgreeWithUnmarshal(t *testing.T) {
	accepted := 0
	const messages = 8000
	for seed := range uint64(messages) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		g := generator{Rand: rnd}
		if seed%2 == 0 {
			g.flaw = 60
		}
		m := g.telemetry()
		msg := marshal(m)
		if seed%4 > 1 {
			msg = oddEncoder{rnd}.telemetry(m)
		}
		if compare(t, msg) {
			accepted++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	// A test that only ever rejects shows nothing, and so does the opposite.
	if accepted < messages/2 || accepted > messages*9/10 {
		t.Fatalf("%d of %d messages accepted", accepted, messages)
	}
}

// TestBrokenBytes cuts and bends messages: nothing may panic, and what is
// still accepted must still be what proto.Unmarshal reads.
func TestBrokenBytes(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		g := generator{Rand: rnd}
		msg := oddEncoder{rnd}.telemetry(g.telemetry())
		compare(t, msg[:rnd.IntN(len(msg))])
		for range 1 + rnd.IntN(3) {
			msg[rnd.IntN(len(msg))] ^= 1 << rnd.IntN(8)
		}
		compare(t, msg)
		// Rows of what was never checked: an error or rows, but no panic.
		b := telemetry.NewBatch([]telemetry.Entry{entryOf(msg, 3)})
		_, _ = wire.AppendLines(nil, b)
	}
}
