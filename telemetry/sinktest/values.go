package sinktest

import (
	"math"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// What is written is read back, bit by bit.

func (s *suite) empty() {
	device := s.device("d")
	latest, err := s.reader.Latest(s.ctx(), device, "")
	if err != nil || len(latest) != 0 {
		s.Fatalf("latest: %v, %v", latest, err)
	}
	fields, err := s.reader.Fields(s.ctx(), device)
	if err != nil || len(fields) != 0 {
		s.Fatalf("fields: %v, %v", fields, err)
	}
	s.wantCount(device, 0)
	for _, q := range []telemetry.Query{
		{Device: device},
		{Device: device, Measurement: "nothing"},
		{Device: device, Fields: []string{"nothing"}},
		{Device: device, Aggregate: telemetry.Mean},
		{Device: device, Aggregate: telemetry.Count, Window: time.Hour},
	} {
		s.wantRows(s.query(q))
	}
	s.store(telemetry.Batch{})
	s.write(device, row(base, "a", 1.5))
	for _, q := range []telemetry.Query{
		{Device: device, Measurement: "nothing"},
		{Device: device, Fields: []string{"nothing"}},
		{Device: device, Fields: []string{"nothing"}, Aggregate: telemetry.Count},
		{Device: device, From: base.Add(1)},
		{Device: device, To: base},
		{Device: device, From: base, To: base},
		{Device: device, From: base.Add(time.Hour), Aggregate: telemetry.Last, Window: time.Hour},
	} {
		s.wantRows(s.query(q))
	}
	latest, err = s.reader.Latest(s.ctx(), device, "nothing")
	if err != nil || len(latest) != 0 {
		s.Fatalf("latest: %v, %v", latest, err)
	}
	if err := s.sink.Check(s.ctx()); err != nil {
		s.Fatalf("check: %v", err)
	}
	if s.sink.Name() == "" {
		s.Fatal("the store has no name")
	}
}

func (s *suite) kinds() {
	device := s.device("d")
	r := row(base, "d", 21.5, "f", float32(0.1), "i", 42, "yes", true, "no", false, "s", "text", "none", "")
	s.write(device, r)
	s.wantRows(s.query(telemetry.Query{Device: device}), stored(r))
	fields, err := s.reader.Fields(s.ctx(), device)
	if err != nil {
		s.Fatal(err)
	}
	want := map[string]telemetry.Kind{
		"d": telemetry.Double, "f": telemetry.Double, "i": telemetry.Int, "yes": telemetry.Bool,
		"no": telemetry.Bool, "s": telemetry.String, "none": telemetry.String,
	}
	if len(fields) != len(want) {
		s.Fatalf("fields %+v", fields)
	}
	for i, f := range fields {
		if f.Measurement != telemetry.DefaultMeasurement || f.Kind != want[f.Name] {
			s.Errorf("field %+v, want kind %v", f, want[f.Name])
		}
		if i > 0 && fields[i-1].Name >= f.Name {
			s.Errorf("%q comes after %q", f.Name, fields[i-1].Name)
		}
	}
}

func (s *suite) numbers() {
	device := s.device("d")
	var rows []telemetry.Row
	for i, v := range []any{
		0.0, math.Copysign(0, -1), 1.0, -1.0, 1e15, 1e21, 123456789012345680.0, 0.1, 1.0 / 3, math.Pi,
		math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, 2.2250738585072014e-308,
		math.MaxFloat64, -math.MaxFloat64, 1.797e308, 9007199254740993.0,
		float32(0.1), float32(16777217), float32(math.MaxFloat32), float32(math.SmallestNonzeroFloat32), float32(-1.5e-20),
	} {
		rows = append(rows, row(base.Add(time.Duration(i)), "x", v))
	}
	for i, v := range []int64{0, 1, -1, math.MaxInt64, -math.MaxInt64, math.MinInt64, 1<<53 + 1, -(1<<53 + 1), math.MaxUint32} {
		rows = append(rows, row(base.Add(time.Duration(100+i)), "n", v))
	}
	s.write(device, rows...)
	s.wantRows(s.query(telemetry.Query{Device: device}), storedAll(rows)...)
}

func (s *suite) strings() {
	device := s.device("d")
	var rows []telemetry.Row
	for i, v := range []string{
		"", " ", `"`, `""`, `\`, `\\`, `\"`, `"\`, `a\`, `ends with \\`, "a,b", "a=b", "a b", "'", "''; DROP SERIES FROM telemetry; --",
		"line\nbreak", "\n", "\r\n", "tab\tstop", "\r", "carriage\rreturn", "# not a comment", "1i", "true", "null", `{"json":"{}"}`,
		"grüße", "日本語", "🛰️", "\u2028\u2029", "<a href='x'>&amp;</a>", "\x01\x1f\x7f", "é", "\ufeffbom", "%s %d", "${x}", `x" OR "1"="1`,
		strings.Repeat("x", telemetry.MaxStringBytes), strings.Repeat(`"`, telemetry.MaxStringBytes), strings.Repeat("\n", telemetry.MaxStringBytes),
	} {
		rows = append(rows, row(base.Add(time.Duration(i)), "s", v, "n", i))
	}
	s.write(device, rows...)
	s.wantRows(s.query(telemetry.Query{Device: device}), storedAll(rows)...)
}

func (s *suite) times() {
	device := s.device("d")
	now := time.Now()
	var rows []telemetry.Row
	for i, t := range []time.Time{
		time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2017, 1, 1, 0, 0, 0, 1, time.UTC),
		time.Date(2020, 2, 29, 23, 59, 59, 999999999, time.UTC),
		base, base.Add(1), base.Add(2), base.Add(time.Microsecond),
		now, now.Add(time.Hour),
	} {
		rows = append(rows, row(t, "i", i))
	}
	s.write(device, rows...)
	s.wantRows(s.query(telemetry.Query{Device: device}), storedAll(rows)...)
	s.wantCount(device, int64(len(rows)))
	// Both ends of a range, to the nanosecond.
	s.wantRows(s.query(telemetry.Query{Device: device, From: base, To: base.Add(2)}), storedAll(rows[3:5])...)
}
