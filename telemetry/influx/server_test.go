package influx

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// What a real server answers.

func at(i int) int64 {
	return time.Date(2024, 5, 15, 10, 0, 0, 0, time.UTC).UnixNano() + int64(i)*int64(time.Second)
}

func batch(t testing.TB, rows ...telemetry.Row) telemetry.Batch {
	t.Helper()
	var entries []telemetry.Entry
	for i, r := range rows {
		r.Measurement = telemetry.DefaultMeasurement
		bytes, err := wire.Encode(uint64(i+1), []telemetry.Row{r})
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, telemetry.Entry{Device: r.Device, Rows: 1, Telemetry: bytes})
	}
	return telemetry.NewBatch(entries)
}

func reading(device string, t int64, name string, v telemetry.Value) telemetry.Row {
	return telemetry.Row{Device: device, Time: t, Fields: []telemetry.Field{{Name: name, Value: v}}}
}

func wantClass(t *testing.T, err error, class telemetry.Class, words ...string) {
	t.Helper()
	if err == nil || telemetry.ClassOf(err) != class {
		t.Fatalf("error %v of class %v, want %v", err, telemetry.ClassOf(err), class)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func wantCount(t *testing.T, s *Store, device string, want int64) {
	t.Helper()
	n, err := s.Count(t.Context(), device, "", time.Time{}, time.Time{})
	if err != nil || n != want {
		t.Fatalf("%s has %d rows, %v; want %d", device, n, err, want)
	}
}

func TestStoppedServerIsRetriedAndKeepsItsRows(t *testing.T) {
	server := influxtest.Start(t)
	s := open(t, server)
	if err := s.Write(t.Context(), batch(t, reading("d", at(0), "a", telemetry.DoubleValue(1)))); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(){server.Stop, server.Kill} {
		end()
		more := batch(t, reading("d", at(0), "a", telemetry.DoubleValue(1)), reading("d", at(1), "a", telemetry.DoubleValue(2)))
		wantClass(t, s.Write(t.Context(), more), telemetry.Retry, "write to InfluxDB") // refused, or a broken pipe where the end of the last connection has not been seen yet
		if err := s.Check(t.Context()); err == nil {
			t.Fatal("a stopped server is healthy")
		}
		if _, err := s.Latest(t.Context(), "d", ""); err == nil {
			t.Fatal("a stopped server answers")
		}
		server.Start()
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Write(t.Context(), more); err != nil {
			t.Fatal(err)
		}
		wantCount(t, s, "d", 2)
	}
}

func TestFieldTypeConflictStoresTheOthers(t *testing.T) {
	s := open(t, influxtest.Start(t))
	if err := s.Write(t.Context(), batch(t, reading("d", at(0), "a", telemetry.DoubleValue(1)))); err != nil {
		t.Fatal(err)
	}
	err := s.Write(t.Context(), batch(t,
		reading("d", at(1), "a", telemetry.DoubleValue(2)),
		reading("e", at(2), "a", telemetry.StringValue("three")),
		reading("d", at(3), "a", telemetry.DoubleValue(4)),
	))
	wantClass(t, err, telemetry.BadRows, `partial write: field type conflict: input field "a" on measurement "telemetry" is type string, already exists as type float dropped=1`)
	wantCount(t, s, "d", 3)
	wantCount(t, s, "e", 0)
}

func TestRowsBeyondTheRetentionPolicyAreBad(t *testing.T) {
	server := influxtest.Start(t)
	server.Query("CREATE RETENTION POLICY short ON tetherline DURATION 1h REPLICATION 1")
	s := open(t, server, func(c *Config) { c.Bucket = "tetherline/short" })
	now := time.Now().UnixNano()
	err := s.Write(t.Context(), batch(t, reading("d", at(0), "a", telemetry.IntValue(1)), reading("d", now, "a", telemetry.IntValue(2))))
	wantClass(t, err, telemetry.BadRows, "points beyond retention policy dropped=1")
	wantCount(t, s, "d", 1)
}

func TestSeriesLimitIsBadRows(t *testing.T) {
	s := open(t, influxtest.Start(t, influxtest.WithSetting("INFLUXDB_DATA_MAX_VALUES_PER_TAG=3")))
	for i := range 3 {
		if err := s.Write(t.Context(), batch(t, reading(fmt.Sprintf("d%d", i), at(0), "a", telemetry.IntValue(1)))); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Write(t.Context(), batch(t, reading("d9", at(0), "a", telemetry.IntValue(1)), reading("d1", at(1), "a", telemetry.IntValue(1))))
	wantClass(t, err, telemetry.BadRows, "max-values-per-tag limit exceeded", "dropped=1")
	// 1.8 does not store the others of that request; alone they pass.
	if err := s.Write(t.Context(), batch(t, reading("d1", at(1), "a", telemetry.IntValue(1)))); err != nil {
		t.Fatal(err)
	}
	wantCount(t, s, "d1", 2)
}

func TestBodyLimitIsTooLarge(t *testing.T) {
	for _, zip := range []bool{false, true} {
		s := open(t, influxtest.Start(t, influxtest.WithSetting("INFLUXDB_HTTP_MAX_BODY_SIZE=1000")), func(c *Config) { c.Gzip = zip })
		random := make([]telemetry.Row, 400)
		for i := range random {
			random[i] = reading("d", at(i), "a", telemetry.IntValue(int64(i*i*7919)))
		}
		large := batch(t, random...)
		wantClass(t, s.Write(t.Context(), large), telemetry.TooLarge, "413")
		if err := s.Write(t.Context(), large.Slice(0, 10)); err != nil {
			t.Fatal(err)
		}
		wantCount(t, s, "d", 10)
	}
}

func TestGzip(t *testing.T) {
	s := open(t, influxtest.Start(t), func(c *Config) { c.Gzip = true })
	for i := range 10 {
		if err := s.Write(t.Context(), batch(t, reading("d", at(i), "a", telemetry.StringValue(strings.Repeat("x", i*100))))); err != nil {
			t.Fatal(err)
		}
	}
	wantCount(t, s, "d", 10)
}

func TestMisconfigured(t *testing.T) {
	server := influxtest.Start(t, influxtest.WithAuth("hub", "secret"))
	server.Query("CREATE USER reader WITH PASSWORD 'secret'; GRANT READ ON tetherline TO reader")
	b := batch(t, reading("d", at(0), "a", telemetry.IntValue(1)))
	for name, c := range map[string]struct {
		change func(*Config)
		words  []string
	}{
		"password":  {func(c *Config) { c.Token = "hub:wrong" }, []string{"401", "token is wrong"}},
		"no token":  {func(c *Config) { c.Token = "" }, []string{"401", "user:password"}},
		"read only": {func(c *Config) { c.Token = "reader:secret" }, []string{"403", "may not write"}},
		"database":  {func(c *Config) { c.Bucket = "nope" }, []string{`database not found: "nope"`, "create the database"}},
		"policy":    {func(c *Config) { c.Bucket = "tetherline/nope" }, []string{"retention policy not found: nope", "create the database"}},
		"path":      {func(c *Config) { c.URL += "/elsewhere" }, []string{"404"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, server, c.change)
			wantClass(t, s.Write(t.Context(), b), telemetry.Misconfigured, c.words...)
			if err := s.Check(t.Context()); err == nil && name != "policy" {
				t.Error("the check finds nothing wrong")
			}
		})
	}
	s := open(t, server)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	wantCount(t, s, "d", 1)
}

// A measurement that many kinds of devices share: a device's answers have its
// own columns only.
func TestManyColumnsOfOtherDevices(t *testing.T) {
	s := open(t, influxtest.Start(t))
	var rows []telemetry.Row
	for i := range 3 * manyColumns {
		rows = append(rows, reading(fmt.Sprintf("d%d", i%20), at(i), fmt.Sprintf("f%d", i), telemetry.IntValue(int64(i))))
	}
	if err := s.Write(t.Context(), batch(t, rows...)); err != nil {
		t.Fatal(err)
	}
	wantCount(t, s, "d3", 8)
	page, err := s.Query(t.Context(), telemetry.Query{Device: "d3"})
	if err != nil || len(page.Rows) != 8 || page.Rows[7].Fields[0].Name != "f143" {
		t.Fatalf("%+v, %v", page, err)
	}
	page, err = s.Query(t.Context(), telemetry.Query{Device: "d3", Aggregate: telemetry.Sum, Window: time.Hour})
	if err != nil || len(page.Rows) != 1 || len(page.Rows[0].Fields) != 8 {
		t.Fatalf("%+v, %v", page, err)
	}
	fields, err := s.Fields(t.Context(), "d3")
	if err != nil || len(fields) != 8 {
		t.Fatalf("%+v, %v", fields, err)
	}
}

// InfluxDB holds one type a field in each of its shards, of a week by default.
func TestFieldThatChangedItsTypeBetweenShards(t *testing.T) {
	s := open(t, influxtest.Start(t))
	month := 30 * 24 * 3600
	for i, v := range []telemetry.Value{telemetry.DoubleValue(1.5), telemetry.StringValue("two"), telemetry.BoolValue(true), telemetry.IntValue(4)} {
		if err := s.Write(t.Context(), batch(t, reading("d", at(i*month), "a", v))); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Query(t.Context(), telemetry.Query{Device: "d"})
	if err != nil || len(page.Rows) != 4 {
		t.Fatalf("%+v, %v", page, err)
	}
	for i, want := range []telemetry.Kind{telemetry.Double, telemetry.String, telemetry.Bool, telemetry.Double} {
		if got := page.Rows[i].Fields; len(got) != 1 || got[0].Value.Kind() != want {
			t.Errorf("row %d: %+v, want one %v", i, got, want)
		}
	}
	wantCount(t, s, "d", 4)
	latest, err := s.Latest(t.Context(), "d", "")
	if err != nil || len(latest) != 1 || latest[0].Time.UnixNano() != at(3*month) {
		t.Fatalf("%+v, %v", latest, err)
	}
}

func TestQueryEndsWithItsContext(t *testing.T) {
	s := open(t, influxtest.Start(t), func(c *Config) { c.QueryTimeout = time.Nanosecond })
	if _, err := s.Latest(context.Background(), "d", ""); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Fatalf("error %v", err)
	}
}
