package telemetry_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// Some servers answer 500 to a row that they cannot take, for ever.
func TestPumpFindsARowThatIsAnsweredWith500(t *testing.T) {
	r := newRig(t)
	s := &store{refuse: func(row telemetry.Row) error {
		if row.Device == "sick" && row.Time == 50e9 {
			return &telemetry.SinkError{Class: telemetry.Retry, Status: 500, Err: errors.New("internal error")}
		}
		return nil
	}}
	r.add("sick", 0, 100)
	pump, _ := r.run(s, nil)
	eventually(t, "the others are stored", func() bool { return s.count() == 99 })
	// Nothing else is stored: the row alone might be a store that is away. It
	// is tried far more often than would condemn it.
	alone := s.attempts()
	eventually(t, "the row is tried again and again", func() bool { return s.attempts() >= alone+12 })
	if n := r.quarantined(); n != 0 {
		t.Fatalf("%d rows in quarantine while nothing else was stored", n)
	}
	next := 0
	eventually(t, "the row is in quarantine", func() bool {
		r.add("well", next, next+10)
		next += 10
		return r.quarantined() == 1
	})
	eventually(t, "all the others are stored", func() bool { return s.count() == 99+next })
	r.empty()
	if n := pump.Stats.Quarantined.Load(); n != 1 {
		t.Errorf("%d rows are counted as quarantined; want 1", n)
	}
}

// A device whose rows are all refused hurts no other, and is done with soon.
func TestPumpOutlivesAStormOfBadRows(t *testing.T) {
	const good, bad = 20_000, 2_000
	r := newRig(t)
	s := &store{refuse: func(row telemetry.Row) error {
		if row.Device == "sick" {
			return badRows("field type conflict")
		}
		return nil
	}}
	for i := range 20 {
		r.add("well", i*good/20, (i+1)*good/20)
		r.add("sick", i*bad/20, (i+1)*bad/20)
	}
	r.run(s, nil)
	eventually(t, "the good rows are stored", func() bool { return s.count() == good })
	eventually(t, "the bad rows are in quarantine", func() bool { return r.quarantined() == bad })
	r.empty()
	if s.writes > 3*bad {
		t.Errorf("%d writes for %d bad rows", s.writes, bad)
	}
	t.Logf("%d writes for %d bad rows among %d good ones", s.writes, bad, good)
}

func TestPumpHalvesWhatIsTooLarge(t *testing.T) {
	r := newRig(t)
	s := &store{
		before: func(b telemetry.Batch) error {
			if b.Rows > 7 {
				return &telemetry.SinkError{Class: telemetry.TooLarge, Status: 413, Err: errors.New("too large")}
			}
			return nil
		},
		refuse: func(row telemetry.Row) error {
			if row.Time == 3e9 {
				return &telemetry.SinkError{Class: telemetry.TooLarge, Status: 413, Err: errors.New("row too large")}
			}
			return nil
		},
	}
	r.add("d", 0, 100)
	r.run(s, nil)
	eventually(t, "all rows but one are stored", func() bool { return s.count() == 99 })
	eventually(t, "that one is in quarantine", func() bool { return r.quarantined() == 1 })
	r.empty()
}

// slowQuarantine says that it has begun to take rows, and goes on when told.
type slowQuarantine struct {
	telemetry.Quarantine
	begun, goOn chan struct{}
}

func (q slowQuarantine) Put(ctx context.Context, b telemetry.Batch, reason string) error {
	close(q.begun)
	<-q.goOn
	return q.Quarantine.Put(ctx, b, reason)
}

// Many small hauls may wait for the repair of one: the rows of a device that
// has one bad row do not go back to the buffer for a while.
func TestPumpKeepsSmallHaulsForRepair(t *testing.T) {
	const hauls = 30
	r := newRig(t)
	s := &store{refuse: func(row telemetry.Row) error {
		if row.Device == "sick" && row.Time == 0 {
			return badRows("no")
		}
		return nil
	}}
	q := slowQuarantine{r.quarantine, make(chan struct{}), make(chan struct{})}
	r.add("sick", 0, 2)
	pump, _ := r.run(s, func(c *telemetry.PumpConfig) { c.Quarantine = q })
	<-q.begun
	for i := range hauls {
		r.add("sick", 10+i, 11+i)
		r.add("well", i, i+1)
		eventually(t, "other rows flow", func() bool { return s.count() >= i+2 })
	}
	close(q.goOn)
	eventually(t, "all good rows are stored", func() bool { return s.count() == 2*hauls+1 })
	r.empty()
	if n := pump.Stats.Released.Load(); n != 0 {
		t.Errorf("%d chunks went back to the buffer", n)
	}
}

// fullQuarantine takes nothing until it is opened.
type fullQuarantine struct {
	telemetry.Quarantine
	open chan struct{}
}

func (q fullQuarantine) Put(ctx context.Context, b telemetry.Batch, reason string) error {
	select {
	case <-q.open:
		return q.Quarantine.Put(ctx, b, reason)
	default:
		return telemetry.ErrFull
	}
}

// While the quarantine is full, bad rows stay in the buffer and good ones flow.
func TestPumpKeepsRowsWhileTheQuarantineIsFull(t *testing.T) {
	r := newRig(t)
	s := &store{refuse: func(row telemetry.Row) error {
		if row.Device == "sick" {
			return badRows("no")
		}
		return nil
	}}
	q := fullQuarantine{r.quarantine, make(chan struct{})}
	_, stop := r.run(s, func(c *telemetry.PumpConfig) { c.Quarantine = q })
	for i := range 30 { // more hauls than may wait for repair
		r.add("sick", i, i+1)
		r.add("well", i*10, i*10+10)
		eventually(t, "good rows flow", func() bool { return s.count() == (i+1)*10 })
	}
	if r.buffer.Pressure().Chunks == 0 {
		t.Fatal("the bad rows are gone from the buffer")
	}
	stop()
	close(q.open)
	r.run(s, nil) // as after a restart
	eventually(t, "the bad rows are in quarantine", func() bool { return r.quarantined() == 30 })
	r.empty()
}

// What a pump held when it died goes to the next one.
func TestPumpIsFollowedByAnother(t *testing.T) {
	r := newRig(t)
	away := &store{}
	away.down.Store(true)
	r.add("d", 0, 500)
	first, stop := r.run(away, nil)
	eventually(t, "the first pump holds rows", func() bool { return first.Health() != nil })
	stop()
	s := &store{}
	started := time.Now()
	r.run(s, nil)
	eventually(t, "all rows are stored", func() bool { return s.count() == 500 })
	r.empty()
	if took := time.Since(started); took > telemetry.ChunkLease/2 {
		t.Errorf("the rows came after %s: the first pump did not hand them back", took)
	}
}

// A store behind a proxy that takes little at once is learnt, not searched:
// nearly every write is of a size that it takes.
func TestPumpLearnsWhatTheStoreTakes(t *testing.T) {
	const rows, most = 20_000, 500
	r := newRig(t)
	tooLarge := 0
	s := &store{before: func(b telemetry.Batch) error {
		if b.Rows > most {
			tooLarge++
			return &telemetry.SinkError{Class: telemetry.TooLarge, Status: 413, Err: errors.New("too large")}
		}
		return nil
	}}
	r.add("d", 0, rows)
	pump, stop := r.run(s, nil)
	eventually(t, "all rows are stored", func() bool { return s.count() == rows })
	r.empty()
	stop()
	if n := pump.Stats.Repairs.Load(); n != 0 {
		t.Errorf("%d batches were searched for rows at fault; none is", n)
	}
	if tooLarge > 40 {
		t.Errorf("%d of %d writes were too large", tooLarge, s.writes)
	}
}

// A pause that the store asks for holds for every write, and no row is
// suspected for it.
func TestPumpKeepsAway(t *testing.T) {
	const pause = 300 * time.Millisecond
	r := newRig(t)
	var mu sync.Mutex
	var until time.Time
	early := 0
	asked := 0
	s := &store{before: func(telemetry.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().Before(until) {
			early++
		}
		if asked == 8 {
			return nil
		}
		asked++
		until = time.Now().Add(pause)
		return &telemetry.SinkError{Class: telemetry.Retry, Status: 429, RetryAfter: pause, Err: errors.New("slow down")}
	}}
	r.add("d", 0, 1000)
	pump, stop := r.run(s, func(c *telemetry.PumpConfig) { c.Writers = 1 })
	eventually(t, "all rows are stored", func() bool { return s.count() == 1000 })
	stop()
	if early != 0 || pump.Stats.Repairs.Load() != 0 {
		t.Errorf("%d writes came before the pause was over, %d batches were suspected; want none", early, pump.Stats.Repairs.Load())
	}
}
