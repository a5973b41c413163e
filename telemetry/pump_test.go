package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// store is a scripted telemetry.Sink. A row's key is its identity.
type store struct {
	// refuse says what is wrong with a row; nil: nothing. A batch with one
	// such row is refused as a whole, with the first error.
	refuse func(telemetry.Row) error
	// before is called with every batch; an error is the answer.
	before func(b telemetry.Batch) error
	down   atomic.Bool // Check fails, and so does Write

	mu     sync.Mutex
	rows   map[string]int // how often each was written
	writes int
}

func (s *store) Name() string { return "scripted" }

func (s *store) Check(context.Context) error {
	if s.down.Load() {
		return errors.New("connection refused")
	}
	return nil
}

func (s *store) Write(ctx context.Context, b telemetry.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.down.Load() {
		return &telemetry.SinkError{Class: telemetry.Retry, Err: errors.New("connection refused")}
	}
	if s.before != nil {
		if err := s.before(b); err != nil {
			return err
		}
	}
	var keys []string
	err := wire.Rows(b, func(r *telemetry.Row) error {
		if s.refuse != nil {
			if err := s.refuse(*r); err != nil {
				return err
			}
		}
		keys = append(keys, key(r))
		return nil
	})
	if err != nil {
		return err
	}
	if len(keys) != b.Rows {
		return fmt.Errorf("%d rows in a batch of %d", len(keys), b.Rows)
	}
	if s.rows == nil {
		s.rows = make(map[string]int)
	}
	for _, k := range keys {
		s.rows[k]++
	}
	return nil
}

func (s *store) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rows)
}

// attempts is how often something was to be written.
func (s *store) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

func key(r *telemetry.Row) string { return fmt.Sprintf("%s %d", r.Device, r.Time/1e9) }

func badRows(text string) error {
	return &telemetry.SinkError{Class: telemetry.BadRows, Status: 422, Err: errors.New(text)}
}

// rig is a buffer and a quarantine on a real server.
type rig struct {
	t          testing.TB
	buffer     *jsbuffer.Buffer
	quarantine *jsbuffer.Quarantine
	seq        uint64
}

func newRig(t testing.TB) *rig {
	t.Helper()
	ctx := testContext(t)
	log := slog.New(slog.DiscardHandler)
	node, err := natsd.Start(ctx, natsd.Config{Dir: t.TempDir(), Name: "test", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	quarantine, err := jsbuffer.OpenQuarantine(ctx, node.JetStream(), jsbuffer.QuarantineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	buffer, err := jsbuffer.Open(ctx, node.JetStream(), node.Conn(), jsbuffer.Config{Quarantine: quarantine, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := buffer.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := node.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &rig{t: t, buffer: buffer, quarantine: quarantine}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// add appends rows of the seconds from up to to, ten an entry.
func (r *rig) add(device string, from, to int) {
	r.t.Helper()
	for ; from < to; from += 10 {
		var rows []telemetry.Row
		for second := from; second < min(from+10, to); second++ {
			rows = append(rows, telemetry.Row{
				Device: device, Measurement: telemetry.DefaultMeasurement, Time: int64(second) * 1e9,
				Fields: []telemetry.Field{{Name: "value", Value: telemetry.IntValue(int64(second))}},
			})
		}
		msg, err := wire.Encode(1, rows)
		if err != nil {
			r.t.Fatal(err)
		}
		e := telemetry.Entry{Device: device, Received: 1, Rows: len(rows), Telemetry: msg}
		for {
			r.seq++
			if err = r.buffer.Append(e, r.seq, nil); !errors.Is(err, telemetry.ErrFull) {
				break
			}
			time.Sleep(time.Millisecond) // the sender's pause
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// run starts a pump, which the returned function stops.
func (r *rig) run(s telemetry.Sink, change func(*telemetry.PumpConfig)) (pump *telemetry.Pump, stop func()) {
	r.t.Helper()
	cfg := telemetry.PumpConfig{
		Source: r.buffer, Sink: s, Quarantine: r.quarantine,
		Logger:     slog.New(slog.DiscardHandler),
		FirstRetry: 5 * time.Millisecond, LastRetry: 50 * time.Millisecond, SlowRetry: 20 * time.Millisecond,
		RepairLater: 200 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	pump = telemetry.NewPump(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- pump.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("pump: %v", err)
		}
	})
	r.t.Cleanup(stop)
	return pump, stop
}

func (r *rig) quarantined() int {
	r.t.Helper()
	counts, err := r.quarantine.Count(testContext(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	return int(counts.Rows)
}

// empty waits until nothing is left in the buffer.
func (r *rig) empty() {
	r.t.Helper()
	eventually(r.t, "the buffer is empty", func() bool { return r.buffer.Pressure().Chunks == 0 })
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 2 min: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestPumpStoresEverything(t *testing.T) {
	r := newRig(t)
	s := &store{}
	pump, stop := r.run(s, nil)
	for device := range 10 {
		r.add(fmt.Sprint("d", device), 0, 1000)
	}
	eventually(t, "all rows are stored", func() bool { return s.count() == 10_000 })
	r.empty()
	if n := pump.Stats.Rows.Load(); n < 10_000 {
		t.Errorf("counted %d stored rows; want at least 10000", n)
	}
	if err := pump.Health(); err != nil {
		t.Errorf("health: %v", err)
	}
	stop()
	if n := r.quarantined(); n != 0 {
		t.Errorf("%d rows in quarantine; want none", n)
	}
}

func TestPumpQuarantinesOnlyTheRowsAtFault(t *testing.T) {
	r := newRig(t)
	bad := []int{0, 7, 499, 500, 999}
	s := &store{refuse: func(row telemetry.Row) error {
		if row.Device == "sick" && slices.Contains(bad, int(row.Time/1e9)) {
			return badRows("field type conflict")
		}
		return nil
	}}
	r.add("well", 0, 2000)
	r.add("sick", 0, 1000)
	pump, _ := r.run(s, nil)
	eventually(t, "all good rows are stored", func() bool { return s.count() == 3000-len(bad) })
	r.empty()
	rows, err := r.quarantine.List(testContext(t), "sick", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, row := range rows {
		got = append(got, int(row.Row.Time/1e9))
		if row.Reason != "field type conflict" {
			t.Errorf("reason %q; want the store's words", row.Reason)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, bad) {
		t.Errorf("in quarantine: %v; want %v", got, bad)
	}
	if n := pump.Stats.Quarantined.Load(); n != uint64(len(bad)) {
		t.Errorf("counted %d quarantined rows; want %d", n, len(bad))
	}
	if n := s.writes; n > 200 {
		t.Errorf("%d writes to find %d rows in 3000", n, len(bad))
	}
}

// A store that is away, for whatever reason and however long, costs no row.
func TestPumpWaitsForTheStore(t *testing.T) {
	for name, answer := range map[string]error{
		"away":          errors.New("no route to host"),
		"overloaded":    &telemetry.SinkError{Class: telemetry.Retry, Status: 503, Err: errors.New("busy")},
		"told to wait":  &telemetry.SinkError{Class: telemetry.Retry, Status: 429, RetryAfter: 10 * time.Millisecond, Err: errors.New("slow down")},
		"broken":        &telemetry.SinkError{Class: telemetry.Retry, Status: 500, Err: errors.New("disk full")},
		"misconfigured": &telemetry.SinkError{Class: telemetry.Misconfigured, Status: 401, Err: errors.New("unauthorized")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var broken atomic.Bool
			broken.Store(true)
			s := &store{before: func(telemetry.Batch) error {
				if broken.Load() {
					return answer
				}
				return nil
			}}
			r.add("d", 0, 200)
			pump, _ := r.run(s, nil)
			eventually(t, "the store was asked often", func() bool {
				var failures uint64
				for i := range pump.Stats.Errors {
					failures += pump.Stats.Errors[i].Load()
				}
				return failures > 30
			})
			if err := pump.Health(); err == nil || !strings.Contains(err.Error(), answer.Error()) {
				t.Errorf("health: %v; want the store's words", err)
			}
			if n := r.quarantined(); n != 0 {
				t.Fatalf("%d rows went into quarantine", n)
			}
			broken.Store(false)
			eventually(t, "all rows are stored", func() bool { return s.count() == 200 })
			r.empty()
			if err := pump.Health(); err != nil {
				t.Errorf("health afterwards: %v", err)
			}
		})
	}
}
