package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func TestResendIsTheSameBytes(t *testing.T) {
	hub := newPeer(t)
	c := start(t, hub.config())
	conn := hub.accept(t).welcome()
	c.publish(t, 1, 2, 3)
	var sent [4][]byte
	for seq := uint64(1); seq <= 3; seq++ {
		_, sent[seq] = conn.telemetry(seq)
	}
	boot := conn.hello.BootId
	conn.ack(1)
	eventually(t, "acked", func() bool { return c.Stats().RowsAcked == 1 })
	conn.ws.Close()
	conn = hub.accept(t).welcome()
	sameBytes(t, "boot id", conn.hello.BootId, boot)
	for seq := uint64(2); seq <= 3; seq++ {
		_, again := conn.telemetry(seq)
		sameBytes(t, "resend", again, sent[seq])
	}
	c.publish(t, 4)
	conn.telemetry(4)
	conn.ack(4)
	wantFlushed(t, c)
	if st := c.Stats(); st.RowsAcked != 4 || st.FramesResent != 2 || st.Spool.Frames != 0 {
		t.Fatalf("%+v", st)
	}
}

func wantFlushed(t *testing.T, c *running) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestWelcomeSkipsWhatIsDurable(t *testing.T) {
	hub := newPeer(t)
	c := start(t, hub.config())
	conn := hub.accept(t).welcome()
	c.publish(t, 1, 2, 3)
	conn.telemetry(1)
	conn.telemetry(2)
	conn.telemetry(3)
	conn.ws.Close()
	conn = hub.accept(t).welcome(func(w *devicev1.Welcome) { w.LastSeq = 2 })
	conn.telemetry(3)
	conn.ack(3)
	wantFlushed(t, c)
	if got := c.Stats().RowsAcked; got != 3 {
		t.Fatalf("%d rows acked", got)
	}
}

func TestWindowOfFramesAndAcksThatOpenIt(t *testing.T) {
	hub := newPeer(t)
	c := start(t, hub.config())
	conn := hub.accept(t).welcome(func(w *devicev1.Welcome) { w.WindowFrames = 2 })
	c.publish(t, 1, 2, 3, 4, 5)
	conn.telemetry(1)
	conn.telemetry(2)
	if c.Stats().InFlight != 2 {
		t.Fatalf("%+v", c.Stats())
	}
	conn.ack(1)
	conn.telemetry(3)
	conn.ack(3)
	conn.telemetry(4)
	conn.telemetry(5)
	conn.ack(5)
	wantFlushed(t, c)
}

func TestWindowOfBytesTakesOneFrameAtLeast(t *testing.T) {
	hub := newPeer(t)
	c := start(t, hub.config())
	conn := hub.accept(t).welcome(func(w *devicev1.Welcome) { w.WindowBytes = 1 })
	c.publish(t, 1, 2)
	conn.telemetry(1)
	if got := c.Stats().InFlight; got != 1 {
		t.Fatalf("%d in flight", got)
	}
	conn.ack(1)
	conn.telemetry(2)
}

// The hub counts whole frames, and closes on one byte too many.
func TestWindowOfBytesCountsWholeFrames(t *testing.T) {
	b := newBatch()
	row := Reading(Int("n", 1))
	b.add(&row, time.Now().UnixNano())
	window := 5*frameSize(1, len(b.encode())) - 1 // a fifth frame is one byte too many
	hub := newPeer(t)
	c := start(t, hub.config())
	conn := hub.accept(t).welcome(func(w *devicev1.Welcome) { w.WindowBytes = uint32(window) })
	for i := range int64(40) {
		c.publish(t, i)
	}
	sum, size := 0, 0
	for seq := uint64(1); sum+size <= window; seq++ { // one more must come
		_, data := conn.telemetry(seq)
		size = len(data)
		sum += size
	}
	if sum > window {
		t.Fatalf("%d bytes in flight, the window is %d", sum, window)
	}
	conn.wantQuiet()
}

func TestThrottlePausesAndResumes(t *testing.T) {
	hub := newPeer(t)
	c := start(t, hub.config())
	conn := hub.accept(t).welcome()
	c.publish(t, 1, 2, 3)
	_, _ = conn.telemetry(1)
	_, second := conn.telemetry(2)
	_, third := conn.telemetry(3)
	conn.ack(1)
	began := time.Now()
	conn.throttle(300*time.Millisecond, 2)
	eventually(t, "throttled", func() bool { return c.Stats().Throttles == 1 })
	c.publish(t, 4)
	_, again := conn.telemetry(2)
	if since := time.Since(began); since < 300*time.Millisecond {
		t.Fatalf("sent %v after a Throttle of 300 ms", since)
	}
	sameBytes(t, "resend", again, second)
	_, again = conn.telemetry(3)
	sameBytes(t, "resend", again, third)
	conn.telemetry(4)
	conn.ack(4)
	wantFlushed(t, c)
}

func TestRejectIsFinalAndLeavesNoGap(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	rejections := make(chan Rejection, 4)
	cfg.OnReject = func(r Rejection) { rejections <- r }
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	c.publish(t, 1, 2, 3)
	conn.telemetry(1)
	conn.telemetry(2)
	conn.telemetry(3)
	conn.reject(2, devicev1.RejectCode_REJECT_CODE_NOT_FINITE, time.Now())
	if r := <-rejections; r.Rows != 1 || r.Code != devicev1.RejectCode_REJECT_CODE_NOT_FINITE || r.Detail != "test" {
		t.Fatalf("%+v", r)
	}
	conn.ws.Close()
	// 1 is not acknowledged, so the seqs go on from it; 2 is used up, and an
	// empty frame stands in its place.
	conn = hub.accept(t).welcome()
	conn.telemetry(1)
	if empty, _ := conn.telemetry(2); len(empty.Series) != 0 {
		t.Fatalf("a rejected frame was sent again: %v", empty)
	}
	conn.reject(2, devicev1.RejectCode_REJECT_CODE_EMPTY, time.Now())
	conn.telemetry(3)
	conn.ack(3)
	wantFlushed(t, c)
	if st := c.Stats(); st.RowsAcked != 2 || st.RowsRejected != 1 || len(rejections) != 0 {
		t.Fatalf("%+v", st)
	}
}

// A rejected head needs no Ack to be settled, and is not sent again.
func TestRejectedLastFrameIsSettled(t *testing.T) {
	hub := newPeer(t)
	c := start(t, hub.config())
	conn := hub.accept(t).welcome()
	c.publish(t, 1)
	conn.telemetry(1)
	conn.reject(1, devicev1.RejectCode_REJECT_CODE_MALFORMED, time.Now())
	wantFlushed(t, c)
	if got := c.Stats().InFlight; got != 0 {
		t.Fatalf("%d in flight", got)
	}
	conn.ws.Close()
	conn = hub.accept(t).welcome()
	c.publish(t, 2)
	conn.telemetry(2)
}

func TestRejectedTimeSetsTheClock(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	hubTime := time.Now().Add(40 * time.Minute)
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	c.publish(t, 1)
	conn.telemetry(1)
	conn.reject(1, devicev1.RejectCode_REJECT_CODE_TIME_OUT_OF_RANGE, hubTime)
	eventually(t, "rejected", func() bool { return c.Stats().RowsRejected == 1 })
	c.publish(t, 2)
	tm, _ := conn.telemetry(2)
	if at := time.Unix(0, tm.Series[0].BaseTimeUnixNs); at.Before(hubTime) || at.After(hubTime.Add(patience)) {
		t.Fatalf("row at %v, the hub's time is %v", at, hubTime)
	}
}

func TestOnAckTellsRowsAndLatency(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	type ack struct {
		rows    int
		latency time.Duration
	}
	acks := make(chan ack, 4)
	cfg.OnAck = func(rows int, latency time.Duration) { acks <- ack{rows, latency} }
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	if err := c.Publish(t.Context(), Reading(Int("n", 1)), Reading(Int("n", 2))); err != nil {
		t.Fatal(err)
	}
	conn.telemetry(1)
	c.publish(t, 3)
	conn.telemetry(2)
	conn.ack(2)
	if a := <-acks; a.rows != 2 || a.latency <= 0 || a.latency > patience {
		t.Fatalf("%+v", a)
	}
	if a := <-acks; a.rows != 1 {
		t.Fatalf("%+v", a)
	}
}

func TestFullSpoolBlocksPublish(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.MaxBatchBytes, cfg.MaxBatchRows = 1<<10, 1
	cfg.Spool = NewMemorySpool(2 << 10)
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	text := String("s", strings.Repeat("x", 700))
	for i := range 3 { // two in the spool, one open
		if err := c.Publish(t.Context(), Reading(text)); err != nil {
			t.Fatal(i, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var partial *PublishError
	if err := c.Publish(ctx, Reading(text)); !errors.As(err, &partial) || partial.Taken != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Publish into a full spool: %v", err)
	}
	published := make(chan error, 1)
	go func() { published <- c.Publish(t.Context(), Reading(text)) }()
	conn.telemetry(1)
	conn.telemetry(2)
	conn.ack(2)
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	conn.telemetry(3)
	conn.telemetry(4)
	conn.ack(4)
	wantFlushed(t, c)
	if st := c.Stats(); st.RowsPublished != 4 || st.RowsAcked != 4 || st.RowsDropped != 0 {
		t.Fatalf("%+v", st)
	}
}

func TestFullSpoolDropsTheOldestAndTellsTheHub(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.MaxBatchBytes, cfg.MaxBatchRows, cfg.Full = 1<<10, 1, DropOldest
	cfg.Spool = NewMemorySpool(3 << 10)
	c := start(t, cfg)
	conn := hub.accept(t).welcome(func(w *devicev1.Welcome) { w.WindowFrames = 1 })
	put := func(i int) {
		t.Helper()
		if err := c.Publish(t.Context(), Reading(Int("i", int64(i)), String("s", strings.Repeat("x", 760)))); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	first, _ := conn.telemetry(1) // in flight: it stays
	for i := 1; i < 10; i++ {
		put(i)
	}
	if got := value(first, "i"); got != 0 {
		t.Fatalf("first %d", got)
	}
	conn.ack(1)
	var got []int64
	var last *devicev1.Telemetry
	for seq := uint64(2); seq <= 3; seq++ {
		last, _ = conn.telemetry(seq) // without a gap
		got = append(got, value(last, "i"))
		conn.ack(seq)
	}
	wantFlushed(t, c)
	st := c.Stats()
	if fmt.Sprint(got) != "[8 9]" || st.RowsAcked != 3 || st.RowsDropped != 7 || last.DroppedRows != 7 {
		t.Fatalf("sent %v, told of %d dropped, %+v", got, last.DroppedRows, st)
	}
}

func value(tm *devicev1.Telemetry, field string) int64 {
	for _, col := range tm.Series[0].Columns {
		if col.Name == field {
			return col.Ints[0]
		}
	}
	return math.MinInt64
}

// Where everything is in flight the oldest frame of it goes; a hub that asks
// for it again gets an empty frame in its place.
func TestDroppedInFlightLeavesNoGap(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.MaxBatchBytes, cfg.MaxBatchRows, cfg.Full = 1<<10, 1, DropOldest
	cfg.Spool = NewMemorySpool(2 << 10)
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	row := Reading(String("s", strings.Repeat("x", 700)))
	for seq := uint64(1); seq <= 3; seq++ {
		if err := c.Publish(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		conn.telemetry(seq)
	}
	conn.throttle(0, 1)
	if empty, _ := conn.telemetry(1); len(empty.Series) != 0 {
		t.Fatal("a dropped frame was sent again")
	}
	conn.telemetry(2)
	conn.telemetry(3)
	conn.ack(3)
	wantFlushed(t, c)
	if st := c.Stats(); st.RowsAcked != 2 || st.RowsDropped != 1 {
		t.Fatalf("%+v", st)
	}
}

func TestDropsWhileAwayKeepTheNewest(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.MaxBatchBytes, cfg.MaxBatchRows, cfg.Full = 1<<10, 1, DropOldest
	cfg.Spool = NewMemorySpool(2 << 10)
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := c.Publish(t.Context(), Reading(Int("i", int64(i)), String("s", strings.Repeat("x", 700)))); err != nil {
			t.Fatal(err)
		}
	}
	r := run(t, c)
	conn := hub.accept(t).welcome()
	for seq, want := range []int64{3, 4} {
		if tm, _ := conn.telemetry(uint64(seq + 1)); value(tm, "i") != want {
			t.Fatalf("seq %d carries %d, want %d", seq+1, value(tm, "i"), want)
		}
	}
	conn.ack(2)
	wantFlushed(t, r)
}

// What the hub may have is given up last: it is stored perhaps, and counted as
// dropped all the same. A hub that forgets where it stood, and does not take
// it again, does not change that.
func TestDropsSpareWhatTheHubMayHave(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.MaxBatchBytes, cfg.MaxBatchRows, cfg.Full, cfg.FlushTimeout = 1<<10, 1, DropOldest, -1
	cfg.MaxBatchAge = -1
	dir := t.TempDir()
	// 256 KiB hold some 340 frames of 760 bytes.
	spool := openSpool(t, dir, FileSpoolOptions{MaxBytes: 256 << 10, SyncInterval: -1})
	cfg.Spool = spool
	published := int64(0)
	put := func(c *Client, n int) {
		t.Helper()
		for range n {
			if err := c.Publish(t.Context(), Reading(Int("i", published), String("s", strings.Repeat("x", 700)))); err != nil {
				t.Fatal(err)
			}
			published++
		}
	}
	window := func(w *devicev1.Welcome) { w.WindowFrames = 4 }
	first, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	put(first, 8)
	firstRun := run(t, first)
	conn := hub.accept(t).welcome(window)
	for seq := uint64(1); seq <= 4; seq++ {
		conn.telemetry(seq) // 0 to 3 arrive, and the hub does not get to say so
	}
	conn.close(1001, "")
	conn = hub.accept(t).welcome(window) // it has forgotten
	conn.telemetry(1)
	conn.throttle(time.Minute, 1) // and has no room
	put(first, 1000)
	if err := firstRun.stop(t); err != nil {
		t.Fatal(err)
	}
	dropped := first.Stats().RowsDropped
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}

	cfg.Spool = openSpool(t, dir, FileSpoolOptions{MaxBytes: 256 << 10, SyncInterval: -1})
	second, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	put(second, 1000)
	run(t, second)
	conn = hub.accept(t).welcome(window)
	for seq, want := range []int64{0, 1, 2, 3} {
		if tm, _ := conn.telemetry(uint64(seq + 1)); value(tm, "i") != want {
			t.Fatalf("row %d comes; want %d, which the hub may have", value(tm, "i"), want)
		}
	}
	conn.ack(4)
	next, _ := conn.telemetry(5)
	dropped += second.Stats().RowsDropped
	if gap := uint64(value(next, "i") - 4); dropped < 1500 || gap != dropped {
		t.Errorf("%d rows are missing, %d are counted as dropped", gap, dropped)
	}
}

func TestFlushEndsWithTheClient(t *testing.T) {
	hub := newPeer(t)
	c := start(t, hub.config())
	c.publish(t, 1)
	flushed := make(chan error, 1)
	go func() { flushed <- c.Flush(context.Background()) }()
	eventually(t, "flush waits", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.progressed != nil })
	c.stop(t)
	if err := <-flushed; !errors.Is(err, ErrClosed) {
		t.Fatalf("Flush: %v", err)
	}
}

func TestBatchesBySizeAndAge(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.MaxBatchRows, cfg.MaxBatchAge = 3, 2*time.Second // in which three rows are published on any machine
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	c.publish(t, 1, 2, 3, 4)
	if tm, _ := conn.telemetry(1); len(tm.Series[0].Columns[0].Ints) != 3 {
		t.Fatalf("%v", tm)
	}
	if tm, _ := conn.telemetry(2); len(tm.Series[0].Columns[0].Ints) != 1 { // by age
		t.Fatalf("%v", tm)
	}
}
