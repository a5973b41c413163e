package jsbuffer_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	b, _ := open(t, jsbuffer.Config{})
	l := newLedger()
	var want []telemetry.Entry
	for i := range 100 {
		e := entry(t, deviceName(i%7), i, 1+i%5)
		want = append(want, e)
		if err := b.Append(e, uint64(i+1), l); err != nil {
			t.Fatal(err)
		}
	}
	l.wait(t, 100)
	if !slices.IsSorted(l.seqs) {
		t.Errorf("durable in the order %v", l.seqs)
	}
	got := drain(t, b, len(want))
	if len(got) != len(want) {
		t.Fatalf("%d entries came back; want %d", len(got), len(want))
	}
	for i, e := range got {
		w := want[i]
		if e.Device != w.Device || e.Labels != w.Labels || e.Received != w.Received || e.Rows != w.Rows ||
			!bytes.Equal(e.Telemetry, w.Telemetry) {
			t.Fatalf("entry %d is %+v; want %+v", i, e, w)
		}
	}
	eventually(t, "the pressure is that of an empty buffer", func() bool {
		p := b.Pressure()
		return p.Bytes == 0 && p.Chunks == 0 && p.Throttle == 0
	})
}

// A lone frame is not kept waiting for company.
func TestALoneEntryIsDurableAtOnce(t *testing.T) {
	b, _ := open(t, jsbuffer.Config{ChunkAge: time.Second})
	// The best of some: a machine that is busy takes its time now and then.
	best := time.Hour
	for seq := uint64(1); seq <= 20 && best > 500*time.Millisecond; seq++ {
		if seq > 1 {
			<-time.After(time.Second) // ChunkAge: what passes is the point
		}
		l := newLedger()
		started := time.Now()
		if err := b.Append(sized("d", 10), seq, l); err != nil {
			t.Fatal(err)
		}
		l.wait(t, seq)
		best = min(best, time.Since(started))
	}
	if best > 500*time.Millisecond {
		t.Errorf("durable after %s at best", best)
	}
}

func TestFullBufferRefusesAndLosesNothing(t *testing.T) {
	b, _ := open(t, jsbuffer.Config{
		MaxBytes: jsbuffer.MinMaxBytes, ChunkBytes: jsbuffer.MinChunkBytes, MemoryBytes: 2 * jsbuffer.MinChunkBytes,
	})
	l := newLedger()
	var seq uint64
	fill := func() {
		for {
			e := sized("d", 10_000)
			e.Received = int64(seq + 1)
			err := b.Append(e, seq+1, l)
			if errors.Is(err, telemetry.ErrFull) {
				if p := b.Pressure(); float64(p.Bytes) > 0.95*float64(p.MaxBytes) {
					return
				}
				time.Sleep(time.Millisecond) // for the fsync of what is in memory
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			seq++
		}
	}
	fill()
	l.wait(t, seq)
	// What is acknowledged counts as in memory for a moment still.
	eventually(t, "the pressure is that of a full buffer, and no more", func() bool {
		p := b.Pressure()
		return p.Bytes <= p.MaxBytes && p.Throttle >= time.Second
	})
	if n := b.Stats.Failures.Load(); n != 0 {
		t.Errorf("the server was asked %d times in vain", n)
	}
	first := seq
	got := drain(t, b, int(seq))
	fill()
	l.wait(t, seq)
	if seq < first+50 {
		t.Errorf("only %d entries fit after draining", seq-first)
	}
	got = append(got, drain(t, b, int(seq-first))...)
	for i, e := range got {
		if e.Received != int64(i+1) {
			t.Fatalf("entry %d came as number %d", e.Received, i+1)
		}
	}
}

// A stream that is full for another reason than the buffer's own count is
// waited for, and what was taken is written in the end.
func TestRefusedByTheServer(t *testing.T) {
	node := startNode(t, t.TempDir())
	b, _ := openOn(t, node, jsbuffer.Config{
		MaxBytes: jsbuffer.MinMaxBytes, ChunkBytes: jsbuffer.MinChunkBytes, MemoryBytes: 2 * jsbuffer.MinChunkBytes,
	})
	ctx := testContext(t)
	// Another node's chunks, which this one has not counted.
	other, _ := openOn(t, node, jsbuffer.Config{MaxBytes: jsbuffer.MinMaxBytes})
	others := newLedger()
	for i := range uint64(16) {
		// What is on its way to the disk may count twice for a moment.
		eventually(t, "room for one more", func() bool {
			return other.Append(sized("other", 60_000), i+1, others) == nil
		})
	}
	others.wait(t, 16)
	l := newLedger()
	var seq uint64
	for range 2 {
		if err := b.Append(sized("d", 60_000), seq+1, l); err == nil {
			seq++
		}
	}
	if seq != 2 {
		t.Fatalf("%d entries were taken; want 2: the buffer has room by its own count", seq)
	}
	eventually(t, "health says full", func() bool { return errors.Is(b.Health(), telemetry.ErrFull) })
	if err := b.Append(sized("d", 60_000), 99, l); !errors.Is(err, telemetry.ErrFull) {
		t.Errorf("append to a full buffer: %v", err)
	}
	chunks, err := other.Fetch(ctx, 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if err := c.Done(ctx); err != nil {
			t.Fatal(err)
		}
	}
	l.wait(t, seq)
	eventually(t, "health is well", func() bool { return b.Health() == nil })
}

// Nobody makes room any more when a full buffer is closed: what does not fit
// is given up, unacknowledged, without a wait.
func TestCloseDoesNotWaitForRoom(t *testing.T) {
	node := startNode(t, t.TempDir())
	b, _ := openOn(t, node, jsbuffer.Config{
		MaxBytes: jsbuffer.MinMaxBytes, ChunkBytes: jsbuffer.MinChunkBytes, MemoryBytes: 2 * jsbuffer.MinChunkBytes,
	})
	other, _ := openOn(t, node, jsbuffer.Config{MaxBytes: jsbuffer.MinMaxBytes})
	others := newLedger()
	for i := range uint64(16) {
		if err := other.Append(sized("other", 60_000), i+1, others); err != nil {
			t.Fatal(err)
		}
	}
	others.wait(t, 16)
	l := newLedger()
	for seq := range uint64(2) {
		if err := b.Append(sized("d", 60_000), seq+1, l); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "health says full", func() bool { return errors.Is(b.Health(), telemetry.ErrFull) })
	acked := l.last()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if l.last() != acked || acked == 2 {
		t.Errorf("entries up to %d were acknowledged; %d before the close", l.last(), acked)
	}
}

func TestCloseWritesWhatWasTaken(t *testing.T) {
	node := startNode(t, t.TempDir())
	b, _ := openOn(t, node, jsbuffer.Config{ChunkAge: time.Second})
	l := newLedger()
	for i := range uint64(50) {
		if err := b.Append(sized("d", 100), i+1, l); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if l.last() != 50 {
		t.Errorf("closed with %d of 50 durable", l.last())
	}
	if err := b.Append(sized("d", 1), 51, l); !errors.Is(err, telemetry.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if _, err := b.Fetch(testContext(t), 1); !errors.Is(err, telemetry.ErrClosed) {
		t.Errorf("fetch after close: %v", err)
	}
	again, _ := openOn(t, node, jsbuffer.Config{})
	drain(t, again, 50)
}

func TestAnEntryThatIsTooLargeIsAnErrorOfItsOwn(t *testing.T) {
	b, _ := open(t, jsbuffer.Config{})
	err := b.Append(sized("d", jsbuffer.DefaultChunkBytes), 1, nil)
	if err == nil || errors.Is(err, telemetry.ErrFull) {
		t.Errorf("append: %v", err)
	}
}

func TestOpenRefusesBadConfig(t *testing.T) {
	node := startNode(t, t.TempDir())
	_, q := openOn(t, node, jsbuffer.Config{})
	for name, cfg := range map[string]jsbuffer.Config{
		"max bytes":    {Quarantine: q, MaxBytes: 1000},
		"chunk bytes":  {Quarantine: q, ChunkBytes: 1 << 20},
		"chunk age":    {Quarantine: q, ChunkAge: -1},
		"memory bytes": {Quarantine: q, MemoryBytes: 1000},
		"quarantine":   {},
	} {
		if _, err := jsbuffer.Open(context.Background(), node.JetStream(), node.Conn(), cfg); err == nil {
			t.Errorf("open with bad %s succeeded", name)
		}
	}
}
