package sinktest

import (
	"fmt"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// The identity of a row is (device, measurement, time).

func (s *suite) upsert() {
	device := s.device("d")
	var rows []telemetry.Row
	for i := range 500 {
		rows = append(rows, row(base.Add(time.Duration(i)*time.Second), "a", float64(i), "b", i, "s", fmt.Sprint(i)))
	}
	for range 3 {
		s.write(device, rows...)
	}
	s.wantCount(device, 500)
	s.wantRows(s.query(telemetry.Query{Device: device}), storedAll(rows)...)
	// Half known, half new; and one identity twice in a batch.
	more := rows[250:]
	for i := range 250 {
		more = append(more, row(base.Add(time.Duration(500+i)*time.Second), "a", float64(i), "b", i, "s", "new"))
	}
	s.write(device, more...)
	twice := row(base, "a", -1.0, "b", -1, "s", "first")
	last := row(base, "a", -2.0, "b", -2, "s", "second")
	s.store(telemetry.NewBatch([]telemetry.Entry{s.entry(device, "", twice), s.entry(device, "", last)}))
	s.wantCount(device, 750)
	s.wantRows(s.query(telemetry.Query{Device: device, To: base.Add(1)}), stored(last))
}

func (s *suite) merge() {
	device := s.device("d")
	s.write(device, row(base, "a", 1.0, "b", 2, "c", "old"))
	s.write(device, row(base, "c", "new", "d", true))
	want := stored(row(base, "a", 1.0, "b", 2, "c", "new", "d", true))
	s.wantRows(s.query(telemetry.Query{Device: device}), want)
	s.wantCount(device, 1)
	// Of fields that both halves of a batch bring, too.
	at := base.Add(time.Hour)
	s.store(telemetry.NewBatch([]telemetry.Entry{
		s.entry(device, "", row(at, "z", 1.0, "a", 1.0)),
		s.entry(device, "", row(at, "b", 2, "a", 3.0)),
	}))
	s.wantRows(s.query(telemetry.Query{Device: device, From: at}), stored(row(at, "z", 1.0, "a", 3.0, "b", 2)))
	s.wantCount(device, 2)
}

// labelsChange: the labels of a device may become tags of the store. A change
// of them must not show in what is read.
func (s *suite) labelsChange() {
	device := s.device("d")
	first := []telemetry.Row{row(base, "a", 1.0), row(base.Add(1), "a", 2.0), row(base.Add(2), "a", 3.0)}
	second := []telemetry.Row{row(base.Add(1), "b", 5), row(base.Add(2), "a", 3.0), row(base.Add(3), "a", 4.0)}
	s.store(telemetry.NewBatch([]telemetry.Entry{
		s.entry(device, ",site=north", first...),
		s.entry(device, ",site=south,row=7", second...),
	}))
	s.wantRows(s.query(telemetry.Query{Device: device}),
		stored(first[0]), stored(row(base.Add(1), "a", 2.0, "b", 5)), stored(first[2]), stored(second[2]))
	s.wantCount(device, 4)
	if rows, _ := s.pages(telemetry.Query{Device: device, Limit: 1}); len(rows) != 4 {
		s.Fatalf("%d rows in pages of one: %s", len(rows), show(rows))
	}
	latest, err := s.reader.Latest(s.ctx(), device, "")
	if err != nil || len(latest) != 2 || latest[0].Field.Value.Float64() != 4 || latest[1].Field.Value.Int64() != 5 {
		s.Fatalf("latest %+v, %v", latest, err)
	}
	s.wantRows(s.query(telemetry.Query{Device: device, Aggregate: telemetry.Max}), stored(row(base, "a", 4.0, "b", 5)))
}

func (s *suite) sparse() {
	device := s.device("d")
	var rows []telemetry.Row
	for i := range 120 {
		t := base.Add(time.Duration(i) * time.Minute)
		switch {
		case i%30 == 7:
			rows = append(rows, row(t, "rare", true, "often", float64(i)))
		case i%4 == 1:
			rows = append(rows, row(t, "seldom", i))
		default:
			rows = append(rows, row(t, "often", float64(i)))
		}
	}
	s.write(device, rows...)
	s.wantRows(s.query(telemetry.Query{Device: device}), storedAll(rows)...)
	s.wantCount(device, 120)
	// Rows without any of the chosen fields are left out.
	var want []telemetry.ReadRow
	for i := 7; i < 120; i += 30 {
		want = append(want, stored(row(base.Add(time.Duration(i)*time.Minute), "rare", true)))
	}
	for _, limit := range []int{1, 3, 4, 100} {
		s.wantRows(s.query(telemetry.Query{Device: device, Fields: []string{"rare", "rare", "nothing"}, Limit: limit}), want...)
	}
}

func (s *suite) measurements() {
	device := s.device("d")
	climate, power := row(base, "value", 21.5), row(base, "value", 7)
	climate.Measurement, power.Measurement = "climate", "power"
	def := row(base, "value", "default")
	s.write(device, climate, power, def)
	s.wantRows(s.query(telemetry.Query{Device: device}), stored(def))
	s.wantRows(s.query(telemetry.Query{Device: device, Measurement: telemetry.DefaultMeasurement}), stored(def))
	s.wantRows(s.query(telemetry.Query{Device: device, Measurement: "climate"}), stored(climate))
	s.wantRows(s.query(telemetry.Query{Device: device, Measurement: "power"}), stored(power))
	latest, err := s.reader.Latest(s.ctx(), device, "")
	if err != nil || len(latest) != 3 || latest[0].Measurement != "climate" || latest[1].Measurement != "power" || latest[2].Measurement != telemetry.DefaultMeasurement {
		s.Fatalf("latest %+v, %v", latest, err)
	}
	latest, err = s.reader.Latest(s.ctx(), device, "power")
	if err != nil || len(latest) != 1 || latest[0].Field.Value.Int64() != 7 {
		s.Fatalf("latest of power %+v, %v", latest, err)
	}
	fields, err := s.reader.Fields(s.ctx(), device)
	if err != nil || len(fields) != 3 || fields[0].Kind != telemetry.Double || fields[1].Kind != telemetry.Int || fields[2].Kind != telemetry.String {
		s.Fatalf("fields %+v, %v", fields, err)
	}
	n, err := s.reader.Count(s.ctx(), device, "power", time.Time{}, time.Time{})
	if err != nil || n != 1 {
		s.Fatalf("count of power %d, %v", n, err)
	}
}

func (s *suite) isolation() {
	ids := []string{"dev1", "dev10", "dev_1", "dev-1", "DEV1", "dev", "_", "-", "-dev1-", strings.Repeat("d", 64-len(s.device("")))}
	for i, id := range ids {
		s.write(s.device(id), row(base, "who", i, fmt.Sprintf("only%d", i), true))
	}
	for i, id := range ids {
		s.wantRows(s.query(telemetry.Query{Device: s.device(id)}), stored(row(base, "who", i, fmt.Sprintf("only%d", i), true)))
		s.wantCount(s.device(id), 1)
		fields, err := s.reader.Fields(s.ctx(), s.device(id))
		if err != nil || len(fields) != 2 {
			s.Fatalf("fields of %s: %+v, %v", id, fields, err)
		}
		latest, err := s.reader.Latest(s.ctx(), s.device(id), "")
		if err != nil || len(latest) != 2 || latest[1].Field.Value.Int64() != int64(i) {
			s.Fatalf("latest of %s: %+v, %v", id, latest, err)
		}
	}
}

// namesOfTags: fields may be called like the tags of a store and like the
// words of its language.
func (s *suite) namesOfTags() {
	device, other := s.device("d"), s.device("other")
	r := row(base, "site", 4, "host", "x", "value", 1.5, "name", "n", "select", 1.0, "where", true, "fields", 2, "rows", 3, "_x", 1.0)
	r.Measurement = "from"
	decoy := row(base, "site", 9)
	decoy.Measurement = "from"
	s.store(telemetry.NewBatch([]telemetry.Entry{
		s.entry(device, ",site=north", r),
		s.entry(other, ",site=north", decoy),
	}))
	s.wantRows(s.query(telemetry.Query{Device: device, Measurement: "from"}), stored(r))
	s.wantRows(s.query(telemetry.Query{Device: device, Measurement: "from", Fields: []string{"site", "select"}, Aggregate: telemetry.Sum, Window: time.Minute}),
		stored(row(base, "select", 1.0, "site", 4)))
	latest, err := s.reader.Latest(s.ctx(), device, "from")
	if err != nil || len(latest) != len(r.Fields) {
		s.Fatalf("latest %+v, %v", latest, err)
	}
	n, err := s.reader.Count(s.ctx(), device, "from", time.Time{}, time.Time{})
	if err != nil || n != 1 {
		s.Fatalf("count %d, %v", n, err)
	}
}
