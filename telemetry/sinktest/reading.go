package sinktest

import (
	"fmt"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// Batches, pages and ranges.

func (s *suite) slices() {
	a, b := s.device("a"), s.device("b")
	var ra, rb []telemetry.Row
	for i := range 10 {
		ra = append(ra, row(base.Add(time.Duration(i)), "i", i))
		rb = append(rb, row(base.Add(time.Duration(i)), "i", 100+i))
	}
	all := telemetry.NewBatch([]telemetry.Entry{s.entry(a, "", ra...), s.entry(b, "", rb...)})
	s.store(all.Slice(3, 3))
	s.wantCount(a, 0)
	s.store(all.Slice(7, 12)) // a 7 to 9, b 0 and 1
	s.wantRows(s.query(telemetry.Query{Device: a}), storedAll(ra[7:])...)
	s.wantRows(s.query(telemetry.Query{Device: b}), storedAll(rb[:2])...)
	s.store(all.Slice(2, 18).Slice(9, 10)) // b 1
	s.wantCount(b, 2)
	s.store(all.Slice(19, 20))
	s.wantRows(s.query(telemetry.Query{Device: b}), append(storedAll(rb[:2]), stored(rb[9]))...)
	s.store(all)
	s.wantCount(a, 10)
	s.wantCount(b, 10)
}

func (s *suite) largeFrames() {
	var entries []telemetry.Entry
	rows := make([]telemetry.Row, telemetry.MaxFrameRows)
	for d := range 5 {
		for i := range rows {
			rows[i] = row(base.Add(time.Duration(i)*time.Millisecond), "x", float64(i)/10, "n", i, "ok", i%2 == 0)
		}
		entries = append(entries, s.entry(s.device(fmt.Sprint(d)), "", rows...))
	}
	s.store(telemetry.NewBatch(entries))
	for d := range 5 {
		s.wantCount(s.device(fmt.Sprint(d)), telemetry.MaxFrameRows)
		s.wantRows(s.query(telemetry.Query{Device: s.device(fmt.Sprint(d)), Limit: telemetry.MaxPageRows}), storedAll(rows)...)
	}
	wide := row(base)
	for i := range telemetry.MaxFields {
		wide.Fields = append(wide.Fields, telemetry.Field{Name: fmt.Sprintf("field_%03d", i), Value: telemetry.IntValue(int64(i))})
	}
	s.write(s.device("wide"), wide)
	s.wantRows(s.query(telemetry.Query{Device: s.device("wide")}), stored(wide))
	latest, err := s.reader.Latest(s.ctx(), s.device("wide"), "")
	if err != nil || len(latest) != telemetry.MaxFields {
		s.Fatalf("latest of %d fields, %v", len(latest), err)
	}
}

func (s *suite) latest() {
	device := s.device("d")
	old := base.AddDate(-3, 0, 0)
	s.write(device, row(old, "firmware", "1.0", "boots", 7), row(base, "a", 1.0, "b", 2), row(base.Add(time.Minute), "a", 3.0))
	s.write(device, row(base.Add(-time.Minute), "a", 99.0, "c", "late")) // arrives late
	want := []telemetry.Latest{
		{Field: telemetry.Field{Name: "a", Value: value(3.0)}, Time: base.Add(time.Minute)},
		{Field: telemetry.Field{Name: "b", Value: value(2)}, Time: base},
		{Field: telemetry.Field{Name: "boots", Value: value(7)}, Time: old},
		{Field: telemetry.Field{Name: "c", Value: value("late")}, Time: base.Add(-time.Minute)},
		{Field: telemetry.Field{Name: "firmware", Value: value("1.0")}, Time: old},
	}
	s.wantLatest(device, want)
	// The newest value of a field, also after it has been written again.
	s.write(device, row(base.Add(time.Minute), "a", 4.0), row(time.Now().Add(30*time.Minute), "b", 5))
	want[0].Field.Value = value(4.0)
	latest, err := s.reader.Latest(s.ctx(), device, "")
	if err != nil || len(latest) != 5 || latest[0].Field.Value.Float64() != 4 || latest[1].Field.Value.Int64() != 5 {
		s.Fatalf("latest %+v, %v", latest, err)
	}
}

func (s *suite) wantLatest(device string, want []telemetry.Latest) {
	s.Helper()
	got, err := s.reader.Latest(s.ctx(), device, "")
	if err != nil {
		s.Fatal(err)
	}
	if len(got) != len(want) {
		s.Fatalf("latest %+v, want %+v", got, want)
	}
	for i := range want {
		if got[i].Measurement != telemetry.DefaultMeasurement || !got[i].Time.Equal(want[i].Time) {
			s.Fatalf("latest %+v, want %+v", got[i], want[i])
		}
		s.wantFields([]telemetry.Field{got[i].Field}, []telemetry.Field{want[i].Field})
	}
}

func (s *suite) rawPages() {
	device := s.device("d")
	var rows []telemetry.Row
	for i := range 2500 {
		// Bursts at nearly one time, then gaps.
		t := base.Add(time.Duration(i/50)*time.Hour + time.Duration(i%50))
		rows = append(rows, row(t, "i", i, "half", float64(i)/2))
	}
	s.write(device, rows...)
	for limit, wantPages := range map[int]int{0: 3, 1000: 3, 2499: 2, 2500: 1, 49: 52, telemetry.MaxPageRows: 1} {
		got, pages := s.pages(telemetry.Query{Device: device, Limit: limit})
		if pages != wantPages {
			s.Errorf("%d pages of %d rows, want %d", pages, limit, wantPages)
		}
		s.wantRows(got, storedAll(rows)...)
	}
	got, pages := s.pages(telemetry.Query{Device: device, From: base.Add(time.Hour), To: base.Add(4*time.Hour + 10), Fields: []string{"i"}, Limit: 80})
	if len(got) != 160 || pages != 2 {
		s.Errorf("%d rows on %d pages", len(got), pages)
	}
}

// pagesWhileWriting: rows that come while a reader goes from page to page
// neither repeat a row nor hide one.
func (s *suite) pagesWhileWriting() {
	device := s.device("d")
	var rows []telemetry.Row
	for i := range 100 {
		rows = append(rows, row(base.Add(time.Duration(i)*time.Second), "i", i))
	}
	s.write(device, rows...)
	q := telemetry.Query{Device: device, Limit: 30}
	seen := map[int64]int{}
	for page := 0; ; page++ {
		got, err := s.reader.Query(s.ctx(), q)
		if err != nil {
			s.Fatal(err)
		}
		for _, r := range got.Rows {
			seen[r.Time.UnixNano()]++
		}
		if got.NextPage == "" {
			break
		}
		q.Page = got.NextPage
		for i := range 20 { // before, at and after the place the reader is at
			at := base.Add(time.Duration(i*5+page)*time.Second + time.Millisecond)
			s.write(device, row(at, "i", -1))
		}
	}
	for _, r := range rows {
		if seen[r.Time] != 1 {
			s.Fatalf("the row at %v was seen %d times", time.Unix(0, r.Time).UTC(), seen[r.Time])
		}
	}
	for t, n := range seen {
		if n != 1 {
			s.Fatalf("the row at %d was seen %d times", t, n)
		}
	}
}

// pageBytes: a page is bounded in bytes too.
func (s *suite) pageBytes() {
	device := s.device("d")
	text := strings.Repeat("x", telemetry.MaxStringBytes)
	const n = telemetry.MaxPageBytes/telemetry.MaxStringBytes/15 + 20 // a little over a page
	for i := 0; i < n; {
		var entries []telemetry.Entry
		for range 32 {
			if i == n {
				break
			}
			r := row(base.Add(time.Duration(i)*time.Second), "i", i)
			for k := range 15 {
				r.Fields = append(r.Fields, telemetry.Field{Name: fmt.Sprintf("s%d", k), Value: value(text)})
			}
			entries = append(entries, s.entry(device, "", r))
			i++
		}
		s.store(telemetry.NewBatch(entries))
	}
	rows, pages := s.pages(telemetry.Query{Device: device, Limit: telemetry.MaxPageRows})
	if pages != 2 || len(rows) != n {
		s.Fatalf("%d rows on %d pages, want %d on 2", len(rows), pages, n)
	}
	for i, r := range rows {
		if got := r.Fields[0].Value.Int64(); got != int64(i) {
			s.Fatalf("row %d holds %d", i, got)
		}
	}
	rows, pages = s.pages(telemetry.Query{Device: device, Aggregate: telemetry.First, Window: time.Second, Limit: telemetry.MaxPageRows})
	if pages != 2 || len(rows) != n {
		s.Fatalf("%d windows on %d pages, want %d on 2", len(rows), pages, n)
	}
}

func (s *suite) openRanges() {
	device := s.device("d")
	rows := []telemetry.Row{
		row(time.Date(2017, 6, 1, 0, 0, 0, 0, time.UTC), "i", 0),
		row(base, "i", 1),
		row(time.Now().Add(59*time.Minute), "i", 2),
	}
	s.write(device, rows...)
	s.wantRows(s.query(telemetry.Query{Device: device}), storedAll(rows)...)
	s.wantRows(s.query(telemetry.Query{Device: device, From: base}), storedAll(rows[1:])...)
	s.wantRows(s.query(telemetry.Query{Device: device, To: base}), stored(rows[0]))
	wide := telemetry.Query{Device: device, From: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	s.wantRows(s.query(wide), storedAll(rows)...)
	wide.Aggregate, wide.Window = telemetry.Count, 24*time.Hour
	if got := s.query(wide); len(got) != 3 {
		s.Fatalf("%d days, want 3: %s", len(got), show(got))
	}
}

func (s *suite) count() {
	device := s.device("d")
	for _, c := range []struct {
		from, to time.Time
		want     int64
	}{
		{time.Time{}, time.Time{}, 100},
		{base, base.Add(100), 100},
		{base.Add(1), time.Time{}, 99},
		{time.Time{}, base.Add(99), 99},
		{base.Add(10), base.Add(20), 10},
		{base.Add(10), base.Add(10), 0},
		{base.Add(100), time.Time{}, 0},
	} {
		if c.want == 100 {
			var rows []telemetry.Row
			for i := range 100 {
				switch i % 3 { // rows, not values
				case 0:
					rows = append(rows, row(base.Add(time.Duration(i)), "a", 1.0, "b", 2, "c", "x"))
				case 1:
					rows = append(rows, row(base.Add(time.Duration(i)), "b", 2))
				default:
					rows = append(rows, row(base.Add(time.Duration(i)), "d", true))
				}
			}
			s.write(device, rows...)
		}
		got, err := s.reader.Count(s.ctx(), device, "", c.from, c.to)
		if err != nil || got != c.want {
			s.Errorf("count [%v, %v) is %d, %v; want %d", c.from, c.to, got, err, c.want)
		}
	}
	_, err := s.reader.Count(s.ctx(), device, "", base, base.Add(-1))
	s.wantError(err, telemetry.ErrBadQuery)
}
