package firmwaresim

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A proof that goes on over a Monday 00:00 UTC judges as any other: the first
// text of a new week is refused as that of the old one was, and the numbers
// after it are stored. InfluxDB begins a shard group each week by default, and
// has no types in it.
func TestStoreKnowsItsFieldsInANewWeek(t *testing.T) {
	t.Parallel()
	path, err := findInfluxd("")
	if err != nil || path == "" {
		t.Fatalf("no InfluxDB; `make test-deps` installs one: %v", err)
	}
	dir := t.TempDir()
	log, err := openBoundedLog(filepath.Join(dir, "influxdb.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.close()
	s, err := newProvenStore(t.Context(), path, dir, log, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	transport := &http.Transport{DisableKeepAlives: true}
	write := func(device, value string, at time.Time) int {
		t.Helper()
		line := fmt.Sprintf("telemetry,device=%s %s=%s,%s=1i %d", device, fieldConflict, value, fieldNumber, at.UnixNano())
		answer, err := (&http.Client{Transport: transport}).Post("http://"+s.addr+"/write?db="+storeDatabase, "text/plain", strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode
	}
	const week = 7 * 24 * time.Hour
	monday := time.Now().Truncate(week).Add(week) // the zero time was a Monday
	if monday.Weekday() != time.Monday {
		t.Fatalf("%v is no Monday", monday)
	}
	for _, row := range []struct {
		device, value string
		at            time.Time
		want          int
	}{
		{"first", "0.5", monday.Add(-2), http.StatusNoContent},
		{"sick", `"half"`, monday.Add(-1), http.StatusBadRequest},
		{"sick", `"half"`, monday, http.StatusBadRequest},
		{"first", "0.5", monday.Add(1), http.StatusNoContent},
		{"sick", `"half"`, monday.Add(200 * week), http.StatusBadRequest},
		{"sick", `"half"`, monday.Add(-200 * week), http.StatusBadRequest},
	} {
		if got := write(row.device, row.value, row.at); got != row.want {
			t.Errorf("%s=%s at %v: %d; want %d", fieldConflict, row.value, row.at.UTC(), got, row.want)
		}
	}
	if rows, err := s.count(t.Context()); rows != 2 || err != nil {
		t.Errorf("InfluxDB counts %d rows (%v); want 2", rows, err)
	}
}
