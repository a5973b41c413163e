package session

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

func TestAckNeverPassesAnUndurableFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		w.held = true
		c := w.connect(newPipe(), 0)
		c.reading(1)
		c.empty(2)
		c.reading(3)
		c.empty(4)
		c.reading(5)
		for _, seq := range []uint64{2, 4} {
			if r := c.next().GetReject(); r.GetSeq() != seq || r.GetCode() != devicev1.RejectCode_REJECT_CODE_EMPTY {
				t.Fatalf("got %v, want the Reject of %d", r, seq)
			}
		}
		synctest.Wait()
		c.silent() // 2 and 4 are settled, but 1 is not durable
		w.release(1)
		c.wantAck(2)
		synctest.Wait()
		c.silent()
		w.release(1)
		c.wantAck(4)
		if last := w.memory.lastDurable(c.session.boot); last != 3 {
			t.Errorf("remembered %d: a rejected end is not durable", last)
		}
		w.release(1)
		c.wantAck(5)
		c.empty(6)
		if c.next().GetReject() == nil {
			t.Fatal("no Reject")
		}
		c.wantAck(6) // nothing before it is in flight
		if c.session.flight.ring != nil || c.session.flight.bytes != 0 {
			t.Error("an idle session holds a ring")
		}
		c.leave()
	})
}

func TestFullBufferSendsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		c := w.connect(newPipe(), 0)
		c.reading(1)
		c.wantAck(1)
		w.set(func() { w.full, w.pressure.Throttle = true, 2*time.Second })
		c.reading(2, 3, 4)
		th := c.next().GetThrottle()
		if th.GetResumeSeq() != 2 || th.GetPauseMs() < 2000 || th.GetPauseMs() > 3001 {
			t.Fatalf("got %v", th)
		}
		synctest.Wait()
		c.silent() // 3 and 4 were under way: ignored

		time.Sleep(time.Duration(th.GetPauseMs()) * time.Millisecond)
		w.set(func() { w.full, w.pressure.Throttle = false, 0 })
		c.reading(3) // still not what was asked for
		c.reading(2, 3, 4, 5)
		c.wantAck(5)
		want := []uint64{1, 2, 3, 4, 5}
		if len(w.entries) != len(want) {
			t.Fatalf("appended %v", w.entries)
		}
		for i := range want {
			if w.entries[i] != want[i] {
				t.Fatalf("appended %v", w.entries)
			}
		}
		c.leave()
	})
}

func TestPausesThatAreNotKeptEndTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{WindowFrames: 4})
		w.full, w.pressure.Throttle = true, 10*time.Second
		c := w.connect(newPipe(), 0)
		for range 200 {
			c.reading(1)
		}
		c.wantEnd(CloseRateLimit)
		if len(w.entries) != 0 {
			t.Error("appended")
		}
	})
}

// A device that keeps its pauses is never closed for its rate.
func TestRateIsBoundedAndKeptByPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{FramesPerSec: 10, WindowFrames: 4})
		c := w.connect(newPipe(), 0)
		begin := time.Now()
		const frames = 500
		throttled := 0
		for seq := uint64(1); seq <= frames; {
			c.reading(seq)
			f := c.next()
			switch {
			case f.GetAck() != nil:
				if f.GetAck().GetSeq() != seq {
					t.Fatalf("Ack of %d, want %d", f.GetAck().GetSeq(), seq)
				}
				seq++
			case f.GetThrottle().GetResumeSeq() == seq:
				throttled++
				time.Sleep(time.Duration(f.GetThrottle().GetPauseMs()) * time.Millisecond)
			default:
				t.Fatalf("got %v", f)
			}
		}
		if took := time.Since(begin); took < 40*time.Second || throttled == 0 {
			t.Errorf("%d frames at 10 a second took %v, with %d pauses", frames, took, throttled)
		}
		c.leave()
	})
}

func TestFloodOfOtherFramesEndsTheSession(t *testing.T) {
	for name, frame := range map[string][]byte{"unknown": {0x7a, 0}, "pong": nil, "duplicate": {0x12, 2, 8, 1}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Limits{FramesPerSec: 10, WindowFrames: 4})
			c := w.connect(newPipe(), 0)
			c.reading(1)
			c.wantAck(1)
			for range 300 {
				c.up <- frame
			}
			t.Log(name)
			c.wantEnd(CloseRateLimit)
		})
	}
}

func TestGapIsForbiddenUnlessTheHubMadeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		c := w.connect(newPipe(), 0)
		c.reading(1, 2, 4)
		c.wantEnd(CloseForbidden)
		if len(w.entries) != 2 {
			t.Errorf("appended %v", w.entries)
		}
	})
}

func TestWindowIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{WindowFrames: 3})
		w.held = true
		c := w.connect(newPipe(), 0)
		c.reading(1, 2, 3)
		synctest.Wait()
		w.release(1)
		c.wantAck(1)
		c.reading(4) // three in flight
		synctest.Wait()
		select {
		case <-c.done:
			t.Fatal("closed within the window")
		default:
		}
		c.reading(5)
		c.wantEnd(CloseRateLimit)
	})
}

func TestWindowOfBytesIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{MaxFrameBytes: 4 << 10, WindowBytes: 4 << 10})
		w.held = true
		c := w.connect(newPipe(), 0)
		for seq := uint64(1); seq <= 2; seq++ {
			c.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Telemetry{Telemetry: &devicev1.Telemetry{
				Seq: seq, Series: []*devicev1.Series{{BaseTimeUnixNs: time.Now().UnixNano(),
					Columns: []*devicev1.Column{{Name: "v", Strings: []string{strings.Repeat("x", 3000)}}}}},
			}}})
		}
		c.wantEnd(CloseRateLimit)
	})
}

func TestSlowDownIsAskedForSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		w.pressure.Throttle = 500 * time.Millisecond
		c := w.connect(newPipe(), 0)
		slow, seq := 0, uint64(0)
		for range 20 { // two seconds
			seq++
			c.reading(seq)
			time.Sleep(100 * time.Millisecond)
		}
		for acked := uint64(0); acked < seq; {
			f := c.next()
			if th := f.GetThrottle(); th != nil {
				if th.GetResumeSeq() != 0 || th.GetPauseMs() != 500 {
					t.Fatalf("got %v", th)
				}
				slow++
			}
			acked = max(acked, f.GetAck().GetSeq())
		}
		if slow < 1 || slow > 3 {
			t.Errorf("asked %d times in two seconds", slow)
		}
		c.leave()
	})
}

func TestHeartbeat(t *testing.T) {
	for _, tt := range []struct {
		wish uint32
		want time.Duration
	}{{0, 25 * time.Second}, {5, 5 * time.Second}, {1, 5 * time.Second}, {1800, 30 * time.Minute}, {9999, 30 * time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Limits{})
			c := w.connect(newPipe(), tt.wish)
			if got := time.Duration(c.welcome.GetHeartbeatIntervalS()) * time.Second; got != tt.want {
				t.Fatalf("interval %v, want %v", got, tt.want)
			}
			begin := time.Now()
			<-c.pings
			if first := time.Since(begin); first < tt.want/2 || first > tt.want+wheelTick {
				t.Errorf("wish %d: first ping after %v", tt.wish, first)
			}
			last := time.Now()
			for range 5 {
				<-c.pings
				if gap := time.Since(last); gap < tt.want-wheelTick || gap > tt.want+wheelTick {
					t.Errorf("wish %d: ping after %v", tt.wish, gap)
				}
				last = time.Now()
			}
			c.leave()
			if w.wheel.slots != [wheelSlots]*Session{} {
				t.Error("the wheel still holds a session")
			}
		})
	}
}

func TestDeadPeerIsFound(t *testing.T) {
	for _, wish := range []uint32{5, 25, 300} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Limits{})
			p := newPipe()
			p.pongs = false
			c := w.connect(p, wish)
			begin := time.Now()
			c.wantEnd(CloseHeartbeat)
			most := time.Duration(wish)*time.Second + PongTimeout + 2*wheelTick
			if took := time.Since(begin); took > most {
				t.Errorf("wish %d: found after %v, promised %v", wish, took, most)
			}
		})
	}
}

// Whatever is heard counts as life.
func TestReadingsAreSignsOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		p := newPipe()
		p.pongs = false
		c := w.connect(p, 5)
		for seq := uint64(1); seq <= 20; seq++ {
			c.reading(seq)
			c.wantAck(seq)
			time.Sleep(9 * time.Second)
		}
		c.wantEnd(CloseHeartbeat)
	})
}

// A halt of the whole process is not the devices' fault.
func TestHaltedProcessGivesDevicesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		p := newPipe()
		p.pongs = false
		c := w.connect(p, 5)
		<-c.pings
		w.halt()
		time.Sleep(time.Minute)
		w.turn()
		time.Sleep(PongTimeout / 2)
		select {
		case <-c.done:
			t.Fatal("closed for the hub's own halt")
		default:
		}
		p.up <- nil // the pong that was waiting is read only now
		time.Sleep(PongTimeout)
		select {
		case <-c.done:
			t.Fatal("closed in spite of its pong")
		default:
		}
		c.wantEnd(CloseHeartbeat)
	})
}

func TestHandshakeTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		c := w.start(newPipe())
		begin := time.Now()
		c.wantEnd(CloseHandshakeTimeout)
		if took := time.Since(begin); took != HandshakeTimeout {
			t.Errorf("after %v", took)
		}
		if w.deps.Metrics.Handshakes[TimedOut].Load() != 1 {
			t.Error("not counted")
		}
	})
}

func TestStopSettlesWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		w.held = true
		c := w.connect(newPipe(), 0)
		c.reading(1, 2)
		synctest.Wait()
		c.session.Stop(CloseShutdown, "")
		time.Sleep(time.Second)
		w.release(2)
		c.wantAck(2)
		c.wantEnd(CloseShutdown)
	})
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		w.held = true
		c := w.connect(newPipe(), 0)
		c.reading(1)
		synctest.Wait()
		c.session.Stop(CloseShutdown, "")
		begin := time.Now()
		c.wantEnd(CloseShutdown)
		if took := time.Since(begin); took != settleTimeout {
			t.Errorf("after %v", took)
		}
		w.release(1) // the session is over; its memory is not
		if got := w.memory.lastDurable(c.session.boot); got != 1 {
			t.Errorf("last durable = %d", got)
		}
	})
}

func TestRevocationDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		w.held = true
		c := w.connect(newPipe(), 0)
		c.reading(1)
		synctest.Wait()
		c.session.Stop(CloseShutdown, "")
		synctest.Wait()
		begin := time.Now()
		c.session.Stop(CloseDisabled, "")
		c.wantEnd(CloseShutdown) // the first word stays
		if took := time.Since(begin); took > time.Second {
			t.Errorf("after %v", took)
		}
		w.release(1)
	})
}

// A stuck write ends after its time-out; the session ends with it and leaves
// nothing.
func TestDeviceThatDoesNotReadIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		p := newPipe()
		c := w.connect(p, 0)
		p.down = make(chan []byte)
		begin := time.Now()
		c.reading(1)
		c.wantEnd(CloseTooSlow)
		if took := time.Since(begin); took < WriteTimeout || took > WriteTimeout+time.Second {
			t.Errorf("after %v", took)
		}
	})
}

// What waits for a device that does not read is bounded in bytes: the session
// ends when the bound is met, at once, and not when a write is late.
func TestOutgoingQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 64 << 10
		w := newWorld(t, Limits{MaxQueuedBytes: most})
		p := newPipe()
		c := w.connect(p, 0)
		p.down = make(chan []byte)
		begin, queued := time.Now(), 0
		frame := &devicev1.HubFrame{Frame: &devicev1.HubFrame_Command{Command: &devicev1.Command{Name: strings.Repeat("x", 1000)}}}
		for ; queued < 10*most && c.session.Send(frame) == nil; queued += proto.Size(frame) {
		}
		if queued > most || queued < most-2*proto.Size(frame) {
			t.Errorf("%d bytes are queued; want %d", queued, most)
		}
		if n := w.deps.Metrics.Overflows.Load(); n != 1 || time.Since(begin) != 0 {
			t.Errorf("%d overflows after %v", n, time.Since(begin))
		}
		c.wantEnd(CloseTooSlow)
	})
}

// An unknown device, a wrong proof and a dead generation cost the hub the same
// work before the answer, so that a clock tells a stranger nothing. The best of
// many runs is what the work costs without the rest of the machine.
func TestRefusalsTakeAlike(t *testing.T) {
	w := newWorld(t, Limits{})
	s := New(newPipe(), w.deps)
	hello := func(id string, generation uint32) *devicev1.Hello {
		return &devicev1.Hello{
			DeviceId: id, Generation: generation, DeviceNonce: make([]byte, device.NonceBytes), BootId: make([]byte, device.BootIDBytes),
			DeviceProof: make([]byte, device.ProofBytes), BindingType: devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER,
		}
	}
	kinds := map[string]*devicev1.Hello{"wrong proof": hello("dev-1", 1), "dead generation": hello("dev-1", 7), "unknown": hello("dev-2", 1)}
	best := map[string]time.Duration{}
	apart := func() (kind string) {
		for kind, took := range best {
			if other := best["wrong proof"]; took > other*5/4 || other > took*5/4 {
				return kind
			}
		}
		return ""
	}
	// A busy machine gets more runs: what costs less work is faster in all.
	for run := 0; run < 300 || run < 20_000 && apart() != ""; run++ {
		for kind, h := range kinds {
			begin := time.Now()
			for range 10 {
				if _, err := s.verify(h); err == nil {
					t.Fatalf("%s: is accepted", kind)
				}
			}
			if took := time.Since(begin); best[kind] == 0 || took < best[kind] {
				best[kind] = took
			}
		}
	}
	if kind := apart(); kind != "" {
		t.Errorf("%s takes %v, a wrong proof %v", kind, best[kind]/10, best["wrong proof"]/10)
	}
	t.Logf("%v", best)
}

// While a node does not follow the registry, nobody is turned away for good: a
// device may have been made, or given a new credential, on another one.
func TestNobodyIsTurnedAwayForGoodWithoutTheRegistry(t *testing.T) {
	w := newWorld(t, Limits{})
	s := New(newPipe(), w.deps)
	h := &devicev1.Hello{
		DeviceId: "dev-2", Generation: 1, DeviceNonce: make([]byte, device.NonceBytes), BootId: make([]byte, device.BootIDBytes),
		DeviceProof: make([]byte, device.ProofBytes), BindingType: devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER,
	}
	for _, tt := range []struct {
		behind error
		want   CloseCode
	}{{nil, CloseUnauthorized}, {errors.New("no connection"), CloseInternal}} {
		w.behind = tt.behind
		_, err := s.verify(h)
		if v := new(Violation); !errors.As(err, &v) || v.Code != tt.want || v.Code.Info().Reconnect != (tt.behind != nil) {
			t.Errorf("with the registry in state %v: %v; want %v", tt.behind, err, tt.want)
		}
	}
}

func TestSplitFrame(t *testing.T) {
	body := []byte{8, 1}
	whole, err := proto.Marshal(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Telemetry{
		Telemetry: &devicev1.Telemetry{Seq: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		in   []byte
		kind frameKind
		body []byte
		bad  bool
	}{
		"telemetry":               {whole, frameTelemetry, body, false},
		"empty":                   {nil, frameUnknown, nil, false},
		"unknown beside":          {append([]byte{0x78, 5}, whole...), frameTelemetry, body, false},
		"unknown alone":           {[]byte{0x7a, 1, 0}, frameUnknown, nil, false},
		"cut":                     {whole[:len(whole)-1], 0, nil, true},
		"two":                     {append(append([]byte(nil), whole...), whole...), 0, nil, true},
		"known number as varint":  {[]byte{0x10, 1}, frameUnknown, nil, false},
		"field number 0":          {[]byte{0x02, 0}, 0, nil, true},
		"length beyond the frame": {[]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0x0f}, 0, nil, true},
	} {
		kind, got, err := splitFrame(tt.in)
		if (err != nil) != tt.bad || kind != tt.kind || !bytes.Equal(got, tt.body) {
			t.Errorf("%s: %v %x %v", name, kind, got, err)
		}
	}
}

func FuzzSplitFrame(f *testing.F) {
	f.Add([]byte{0x12, 2, 8, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, body, err := splitFrame(b)
		if err != nil {
			return
		}
		var want devicev1.DeviceFrame
		if proto.Unmarshal(b, &want) != nil {
			return // a body that is no message; its own decoder says so
		}
		if tm := want.GetTelemetry(); (tm != nil) != (kind == frameTelemetry) {
			t.Fatalf("kind %v, protobuf says %v", kind, &want)
		} else if tm != nil && telemetrySeq(body) != tm.GetSeq() {
			t.Fatalf("seq %d, protobuf says %d", telemetrySeq(body), tm.GetSeq())
		}
	})
}

func TestAppendAck(t *testing.T) {
	for range 1000 {
		seq := rand.Uint64() >> rand.N(64)
		want, err := proto.Marshal(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Ack{Ack: &devicev1.Ack{Seq: seq}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := appendAck(nil, seq); seq != 0 && !bytes.Equal(got, want) {
			t.Fatalf("Ack of %d: %x, want %x", seq, got, want)
		}
	}
}

func TestCloseCodes(t *testing.T) {
	table := CloseCodes()
	for i, c := range table {
		if i > 0 && table[i-1].Code >= c.Code {
			t.Errorf("%d is not in order", c.Code)
		}
		if c.Reconnect != (c.Code < 4500) {
			t.Errorf("%d: reconnect %v", c.Code, c.Reconnect)
		}
		if c.Name == "" || c.Text == "" || c.Presence == "" || len(c.Reason) > 123 {
			t.Errorf("%d: incomplete", c.Code)
		}
		if c.Code.Info() != c {
			t.Errorf("%d: Info is another row", c.Code)
		}
	}
	if CloseCode(4999).Info().Code != CloseLost {
		t.Error("an unknown code has a row")
	}
}

var _ telemetry.Buffer = (*world)(nil)

// A device that is disabled between its proof and its place in the table is
// told by nobody else: the session looks again.
func TestChangeBeforeAttachIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		w.onAttach = func() {
			d := w.dev.Clone()
			d.Disabled = true
			w.dev = d
		}
		c := w.start(newPipe())
		c.hello(w, 0)
		c.wantEnd(CloseDisabled)
		if w.live != nil {
			t.Error("still in the table")
		}
	})
}
