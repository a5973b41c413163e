package client

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// plainRow is a row as a reader of the wire sees it.
type plainRow struct {
	measurement string
	at          int64
	fields      map[string]any
}

// decode is an independent reading of the format in device.proto.
func decode(t *testing.T, frame []byte) (*devicev1.Telemetry, []plainRow) {
	t.Helper()
	df := new(devicev1.DeviceFrame)
	if err := proto.Unmarshal(frame, df); err != nil {
		t.Fatal(err)
	}
	tm := df.GetTelemetry()
	var rows []plainRow
	for _, s := range tm.Series {
		first := len(rows)
		at := s.BaseTimeUnixNs
		for i := range max(len(s.TimeDeltaNs), 1) {
			if len(s.TimeDeltaNs) > 0 {
				at += s.TimeDeltaNs[i]
			}
			rows = append(rows, plainRow{measurement: s.Measurement, at: at, fields: map[string]any{}})
		}
		n := len(rows) - first
		for _, c := range s.Columns {
			values := columnValues(c)
			if len(c.Rows) == 0 && len(values) != n || len(c.Rows) > 0 && len(values) != len(c.Rows) {
				t.Fatalf("column %s: %d values, %d indexes, %d rows", c.Name, len(values), len(c.Rows), n)
			}
			for i, v := range values {
				r := i
				if len(c.Rows) > 0 {
					r = int(c.Rows[i])
				}
				if i > 0 && len(c.Rows) > 0 && c.Rows[i] <= c.Rows[i-1] {
					t.Fatalf("column %s: indexes do not rise: %v", c.Name, c.Rows)
				}
				rows[first+r].fields[c.Name] = v
			}
		}
	}
	return tm, rows
}

func columnValues(c *devicev1.Column) (values []any) {
	for _, v := range c.Doubles {
		values = append(values, v)
	}
	for _, v := range c.Floats {
		values = append(values, v)
	}
	for _, v := range c.Ints {
		values = append(values, v)
	}
	for _, v := range c.Bools {
		values = append(values, v)
	}
	for _, v := range c.Strings {
		values = append(values, v)
	}
	return values
}

// Whatever rows go in come out: sparse columns, changing kinds, several
// measurements, times out of order.
func TestFramesCarryTheRows(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := newBatch()
	for round := range 300 {
		var want []plainRow
		for range 1 + rnd.IntN(40) {
			r, plain := randomRow(rnd)
			at := plain.at
			before := b.size
			b.add(&r, at)
			if grown, most := b.size-before, rowSize(&r); grown > most {
				t.Fatalf("a row takes %d bytes, estimated %d at most", grown, most)
			}
			want = append(want, plain)
		}
		body := b.encode()
		if len(body) > b.size {
			t.Fatalf("body of %d bytes, estimated %d at most", len(body), b.size)
		}
		frame := append(frameHeader(nil, uint64(round+1), len(body)), body...)
		tm, got := decode(t, frame)
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(
			&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Telemetry{Telemetry: tm}})
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, "canonical form", frame, again)
		// Rows of one measurement keep their order; series do not interleave.
		key := func(rows []plainRow) func(i, j int) bool {
			return func(i, j int) bool { return rows[i].measurement < rows[j].measurement }
		}
		sort.SliceStable(got, key(got))
		sort.SliceStable(want, key(want))
		if tm.Seq != uint64(round+1) || !reflect.DeepEqual(got, want) {
			t.Fatalf("round %d: got %v, want %v", round, got, want)
		}
		b.release()
		b = newBatch()
	}
}

func randomRow(rnd *rand.Rand) (Row, plainRow) {
	measurement := []string{"", "telemetry", "door", "x"}[rnd.IntN(4)]
	plain := plainRow{measurement: measurement, at: rnd.Int64N(math.MaxInt64 / 2), fields: map[string]any{}}
	if measurement == DefaultMeasurement {
		plain.measurement = ""
	}
	r := Row{Measurement: measurement}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if rnd.IntN(3) == 0 {
			continue
		}
		var f Field
		var v any
		switch rnd.IntN(40) {
		case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9:
			v = rnd.NormFloat64()
			f = Double(name, v.(float64))
		case 10:
			v = rnd.Float32()
			f = Float(name, v.(float32))
		case 11:
			v = rnd.IntN(2) == 0
			f = Bool(name, v.(bool))
		case 12:
			v = strings.Repeat("é", rnd.IntN(100))
			f = String(name, v.(string))
		default:
			v = rnd.Int64() - rnd.Int64()
			f = Int(name, v.(int64))
		}
		r.Fields = append(r.Fields, f)
		plain.fields[name] = v
	}
	if len(r.Fields) == 0 {
		r.Fields = []Field{Int("z", 0)}
		plain.fields["z"] = int64(0)
	}
	return r, plain
}

func TestPublishRefusesWhatTheHubWouldReject(t *testing.T) {
	hub := newPeer(t)
	c, err := New(hub.config())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	many := make([]Field, MaxFields+1)
	large := make([]Field, 17)
	for i := range many {
		many[i] = Int("f"+strings.Repeat("x", i%50)+string(rune('a'+i%26))+string(rune('a'+i/26%26)), 1)
	}
	for i := range large {
		large[i] = String("s"+string(rune('a'+i)), strings.Repeat("x", MaxStringBytes))
	}
	for text, row := range map[string]Row{
		"no fields":     {},
		"measurement":   {Measurement: "no way", Fields: []Field{Int("n", 1)}},
		"field name":    Reading(Int("1n", 1)),
		"is not [A-Za-": Reading(Int(strings.Repeat("n", 65), 1)),
		"not finite":    Reading(Double("n", math.NaN())),
		"+Inf":          Reading(Float("n", float32(math.Inf(1)))),
		"4097 bytes":    Reading(String("s", strings.Repeat("x", 4097))),
		"not UTF-8":     Reading(String("s", "\xff")),
		"twice":         Reading(Int("n", 1), Int("n", 2)),
		"no value":      Reading(Field{name: "n"}),
		"257 fields":    Reading(many...),
		"a frame has":   Reading(large...),
		"1 h ahead":     {Time: time.Now().Add(2 * time.Hour), Fields: []Field{Int("n", 1)}},
		"10 years back": {Time: time.Now().AddDate(-11, 0, 0), Fields: []Field{Int("n", 1)}},
		"out of range":  {Time: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), Fields: []Field{Int("n", 1)}},
	} {
		err := c.Publish(t.Context(), Reading(Int("good", 1)), row)
		if !errors.Is(err, ErrInvalidRow) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if st := c.Stats(); st.RowsPublished != 0 || st.RowsOpen != 0 {
		t.Fatalf("rows of refused calls were taken: %+v", st)
	}
}

func TestFieldsOfADeviceAreBounded(t *testing.T) {
	hub := newPeer(t)
	c, err := New(hub.config())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range MaxFields {
		name := "f" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		if err := c.Publish(t.Context(), Reading(Int(name, 1))); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Publish(t.Context(), Reading(Int("one_more", 1))); !errors.Is(err, ErrInvalidRow) {
		t.Fatalf("field 257: %v", err)
	}
	if err := c.Publish(t.Context(), Reading(Int("faa", 1))); err != nil {
		t.Fatalf("a known field: %v", err)
	}
	if got := c.Stats().RowsPublished; got != MaxFields+1 {
		t.Fatalf("%d rows", got)
	}
}

func TestAutomaticTimesNeverRepeat(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	frozen := time.Now()
	cfg.Clock = func() time.Time { return frozen }
	cfg.MaxBatchAge = time.Hour
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	for range 5 {
		c.publish(t, 1)
	}
	if err := c.Sync(); err != nil {
		t.Fatal(err)
	}
	_, frame := conn.telemetry(1)
	_, rows := decode(t, frame)
	for i := 1; i < len(rows); i++ {
		if rows[i].at <= rows[i-1].at {
			t.Fatalf("row %d at %d, the one before at %d", i, rows[i].at, rows[i-1].at)
		}
	}
	if d := rows[0].at - frozen.UnixNano(); len(rows) != 5 || d > int64(time.Minute) || d < -int64(time.Minute) {
		t.Fatalf("%d rows from %d", len(rows), rows[0].at)
	}
}

// A device without a clock: rows taken before the first contact get the time
// at which they were taken, by the hub's clock, and keep it.
func TestRowsWithoutAClockAreDatedByTheHub(t *testing.T) {
	for name, set := range map[string]func(*Config){
		"said so":    func(cfg *Config) { cfg.ClockUnreliable = true },
		"not set":    func(cfg *Config) { cfg.Clock = func() time.Time { return time.Unix(100, 0) } },
		"ten y back": func(cfg *Config) { cfg.Clock = func() time.Time { return time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC) } },
	} {
		t.Run(name, func(t *testing.T) {
			hub := newPeer(t)
			cfg := hub.config()
			set(&cfg)
			cfg.MaxBatchRows = 2
			c, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			fields := []Field{Int("n", 1)}
			publish := func() {
				if err := c.Publish(t.Context(), Row{Fields: fields}); err != nil {
					t.Fatal(err)
				}
			}
			publish()
			fields[0] = Int("n", 2) // the caller's to change
			began := time.Now()
			for time.Since(began) < 30*time.Millisecond {
				time.Sleep(time.Millisecond)
			}
			apart := time.Since(began)
			publish()
			if st := c.Stats(); st.RowsOpen != 2 || st.Spool.Frames != 0 {
				t.Fatalf("%+v", st)
			}
			run(t, c)
			hubTime := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
			conn := hub.accept(t).welcome(func(w *devicev1.Welcome) { w.ServerTimeUnixNs = uint64(hubTime.UnixNano()) })
			_, frame := conn.telemetry(1)
			_, rows := decode(t, frame)
			first, second := time.Unix(0, rows[0].at), time.Unix(0, rows[1].at)
			if d := second.Sub(first); d < apart {
				t.Errorf("rows taken %v apart are dated %v apart", apart, d)
			}
			if first.After(hubTime) || hubTime.Sub(second) > patience {
				t.Errorf("dated %v and %v, the hub's time was %v", first, second, hubTime)
			}
			if rows[0].fields["n"] != int64(1) || rows[1].fields["n"] != int64(2) {
				t.Errorf("rows %v", rows)
			}
			conn.ws.Close()
			_, again := hub.accept(t).welcome().telemetry(1)
			sameBytes(t, "the stamps stay", again, frame)
		})
	}
}

func TestUndatedRowsAreBounded(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.ClockUnreliable = true
	text := String("s", strings.Repeat("x", 4000))
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := 0
	for ; err == nil; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // it is looked at where there is no room
		err = c.Publish(ctx, Reading(text))
		cancel()
	}
	n--
	if !errors.Is(err, context.DeadlineExceeded) || n < 40 || n > 66 {
		t.Fatalf("after %d rows: %v", n, err)
	}
	cfg.Full = DropOldest
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * n {
		if err := d.Publish(t.Context(), Reading(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.Stats(); got.RowsOpen != n || got.RowsDropped != uint64(n) {
		t.Fatalf("%+v", got)
	}
	// What has no time when the process ends is lost, and counted.
	d.Close()
	if got := d.Stats(); got.RowsOpen != 0 || got.RowsDropped != uint64(2*n) {
		t.Fatalf("%+v", got)
	}
}

func BenchmarkPublish(b *testing.B) {
	spool := NewMemorySpool(1 << 30)
	c, err := New(Config{
		URL: "wss://127.0.0.1:1", Credential: testCredential(1), Spool: spool, Full: DropOldest, MaxBatchRows: 10, MaxBatchAge: time.Hour,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	fields := make([]Field, 10)
	for i := range fields {
		fields[i] = Double("field_"+string(rune('a'+i)), float64(i)*1.5)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Publish(b.Context(), Row{Fields: fields}); err != nil {
			b.Fatal(err)
		}
		if spool.stats.Frames > 1000 {
			_ = spool.Trim(math.MaxUint64 - 1)
		}
	}
}
