package telemetry

import (
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata"
)

func load(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// In each zone, windows around a change of the clock, as an operator reads
// them off the wall.
func TestWindowsAroundClockChanges(t *testing.T) {
	tests := []struct {
		name, zone   string
		length       time.Duration
		at           string // RFC 3339
		start, width string
	}{
		{"day, spring", "Europe/Berlin", 24 * time.Hour, "2025-03-30T12:00:00+02:00", "2025-03-30T00:00:00+01:00", "23h"},
		{"day, autumn", "Europe/Berlin", 24 * time.Hour, "2025-10-26T12:00:00+01:00", "2025-10-26T00:00:00+02:00", "25h"},
		{"day after", "Europe/Berlin", 24 * time.Hour, "2025-10-27T12:00:00+01:00", "2025-10-27T00:00:00+01:00", "24h"},
		{"6 h, spring", "America/New_York", 6 * time.Hour, "2025-03-09T05:59:59-04:00", "2025-03-09T00:00:00-05:00", "5h"},
		{"6 h, autumn", "America/New_York", 6 * time.Hour, "2025-11-02T01:30:00-05:00", "2025-11-02T00:00:00-04:00", "7h"},
		{"2 h, clock put back at its end", "America/New_York", 2 * time.Hour, "2023-11-05T01:30:00-04:00", "2023-11-05T00:00:00-04:00", "3h"},
		{"1 h, the hour that comes twice, first", "Europe/Berlin", time.Hour, "2025-10-26T02:30:00+02:00", "2025-10-26T02:00:00+02:00", "1h"},
		{"1 h, the hour that comes twice, second", "Europe/Berlin", time.Hour, "2025-10-26T02:30:00+01:00", "2025-10-26T02:00:00+01:00", "1h"},
		{"2 h, before the gap", "Europe/Berlin", 2 * time.Hour, "2025-03-30T01:30:00+01:00", "2025-03-30T00:00:00+01:00", "2h"},
		{"2 h, beginning in the gap", "Europe/Berlin", 2 * time.Hour, "2025-03-30T03:30:00+02:00", "2025-03-30T03:00:00+02:00", "1h"},
		{"half-hour change", "Australia/Lord_Howe", time.Hour, "2025-10-05T02:40:00+11:00", "2025-10-05T02:30:00+11:00", "30m"},
		{"week from Thursday", "UTC", 7 * 24 * time.Hour, "2025-01-01T00:00:00Z", "2024-12-26T00:00:00Z", "168h"},
		{"days in a zone ahead", "Asia/Kolkata", 24 * time.Hour, "2025-06-01T03:00:00+05:30", "2025-06-01T00:00:00+05:30", "24h"},
		{"a year over both changes", "Europe/Berlin", 365 * 24 * time.Hour, "2025-07-01T00:00:00+02:00", "2024-12-18T00:00:00+01:00", "8760h"},
		{"no midnight", "America/Sao_Paulo", 24 * time.Hour, "2018-11-04T12:00:00-02:00", "2018-11-04T01:00:00-02:00", "23h"},
		{"before 1970", "UTC", 24 * time.Hour, "1969-12-31T12:00:00Z", "1969-12-31T00:00:00Z", "24h"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := Windows{Length: tt.length, Location: load(t, tt.zone)}
			at, err := time.Parse(time.RFC3339, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			start, end := w.At(at.UnixNano())
			if got := time.Unix(0, start).In(w.Location).Format(time.RFC3339); got != tt.start {
				t.Errorf("starts %s, want %s", got, tt.start)
			}
			want, err := time.ParseDuration(tt.width)
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Duration(end - start); got != want {
				t.Errorf("is %v long, want %v", got, want)
			}
		})
	}
}

// Windows leave no gap and do not overlap, whatever the length and the zone,
// and runs are made of exactly these windows.
func TestWindowsTile(t *testing.T) {
	lengths := []time.Duration{time.Second, time.Minute, 45 * time.Minute, time.Hour, 2 * time.Hour, 7 * time.Hour, 24 * time.Hour, 30 * 24 * time.Hour, 400 * 24 * time.Hour}
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo", "Africa/Casablanca"} {
		loc := load(t, name)
		for _, length := range lengths {
			w := Windows{Length: length, Location: loc}
			for range 60 {
				at := time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano() + rand.Int64N(int64(20*365*24*time.Hour))
				start, end := w.At(at)
				if at < start || at >= end {
					t.Fatalf("%s %v: window [%d, %d) of %d", name, length, start, end, at)
				}
				for _, inside := range []int64{start, end - 1} {
					if s, e := w.At(inside); s != start || e != end {
						t.Fatalf("%s %v: %d is in [%d, %d) and in [%d, %d)", name, length, inside, start, end, s, e)
					}
				}
				checkRun(t, w, at)
			}
		}
	}
}

func checkRun(t *testing.T, w Windows, at int64) {
	t.Helper()
	start, end := w.Run(at)
	if end <= at {
		t.Fatalf("run [%d, %d) ends before %d", start, end, at)
	}
	s, e := w.At(at)
	if s != start {
		t.Fatalf("run starts at %d, the window at %d", start, s)
	}
	if e == end {
		return // of one window, perhaps of another length
	}
	if s, _ := w.At(end); s != end {
		t.Fatalf("a run ends at %d, inside the window from %d", end, s)
	}
	for _, i := range []int64{1, 2, 3, (end - start) / int64(w.Length) / 2} {
		inside := start + i*int64(w.Length)
		if inside >= end {
			continue
		}
		if s, e := w.At(inside); s != inside || e-s != int64(w.Length) {
			t.Fatalf("%s: window %d of a run is [%d, %d), want start %d", w.Location, i, s, e, inside)
		}
	}
}
