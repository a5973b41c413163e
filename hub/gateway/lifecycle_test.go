package gateway_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func TestNewerSessionSupersedes(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	older := h.connect(c, 1)
	newer := h.connect(c, 1)
	older.wantClose(4001)
	if newer.welcome.GetSessionEpoch() <= older.welcome.GetSessionEpoch() {
		t.Errorf("epochs %d, %d", older.welcome.GetSessionEpoch(), newer.welcome.GetSessionEpoch())
	}
	// The late goodbye of the older one does not erase the newer.
	eventually(t, "one session", func() bool { return h.gw.Connections() == 1 })
	if p := h.table.Presence("dev-1"); !p.Online || p.Epoch != newer.welcome.GetSessionEpoch() {
		t.Errorf("presence = %+v", p)
	}
	newer.sendReading(1)
	newer.wantAck(1)
}

// Promise 10.
func TestRevocationClosesLiveSockets(t *testing.T) {
	h := startHub(t, options{})
	ctx := testContext(t)
	for _, tt := range []struct {
		id     string
		revoke func(id string) error
		code   int
	}{
		{"disabled", func(id string) error {
			_, err := h.reg.Update(ctx, id, func(d *registry.Device) error { d.Disabled = true; return nil })
			return err
		}, 4501},
		{"deleted", func(id string) error { return h.reg.Delete(ctx, id) }, 4500},
		{"rotated", func(id string) error { _, err := h.reg.Rotate(ctx, id, 0); return err }, 4004},
		{"grace-over", func(id string) error { _, err := h.reg.Rotate(ctx, id, 300*time.Millisecond); return err }, 4004},
	} {
		c := h.create(tt.id)
		p := h.connect(c, 1)
		began := time.Now()
		if err := tt.revoke(tt.id); err != nil {
			t.Fatal(err)
		}
		p.wantClose(tt.code)
		if took := time.Since(began); took > 10*time.Second { // promised: 1 s, of a machine that is not loaded; a heartbeat would take 12 s
			t.Errorf("%s: closed after %v", tt.id, took)
		}
		q := h.dial()
		q.sendHello(q.helloOf(c, 1))
		q.wantClose(map[bool]int{true: 4501, false: 4500}[tt.id == "disabled"])
	}
	eventually(t, "the deleted device is forgotten", func() bool {
		return h.table.Presence("deleted") == registry.Presence{}
	})
}

func TestRejectComesBeforeTheAckThatCoversIt(t *testing.T) {
	h := startHub(t, options{})
	p := h.connect(h.create("dev-1"), 1)
	bad := func(seq uint64) {
		f := reading(seq, time.Now())
		f.GetTelemetry().Series[0].Columns[0].Doubles[0] = math.NaN()
		p.send(f)
	}
	p.sendReading(1)
	bad(2)
	p.sendReading(3)
	bad(4)
	p.send(reading(5, time.Now().Add(48*time.Hour)))
	acked := uint64(0)
	rejected := map[uint64]devicev1.RejectCode{}
	for acked < 5 {
		f := p.next()
		if r := f.GetReject(); r != nil {
			rejected[r.GetSeq()] = r.GetCode()
			if r.GetSeq() <= acked {
				t.Errorf("Reject of %d after the Ack of %d", r.GetSeq(), acked)
			}
			continue
		}
		acked = f.GetAck().GetSeq()
		for _, seq := range []uint64{2, 4, 5} {
			if _, ok := rejected[seq]; seq <= acked && !ok {
				t.Errorf("Ack of %d before the Reject of %d", acked, seq)
			}
		}
	}
	want := map[uint64]devicev1.RejectCode{2: 2, 4: 2, 5: 3}
	if fmt.Sprint(rejected) != fmt.Sprint(want) {
		t.Errorf("rejected %v, want %v", rejected, want)
	}
}

func TestSequenceRules(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	p := h.connect(c, 1)
	for seq := uint64(7); seq <= 9; seq++ { // the first of a session may be any
		p.sendReading(seq)
	}
	p.wantAck(9)
	p.sendReading(8)
	p.wantAck(9) // a duplicate is acknowledged again
	if n := h.metrics.Appended.Load(); n != 3 {
		t.Errorf("%d frames appended, want 3", n)
	}
	p.sendReading(11)
	p.wantClose(4003)

	q := h.connect(c, 1)
	if q.welcome.GetLastSeq() != 9 {
		t.Errorf("last seq = %d", q.welcome.GetLastSeq())
	}
	q.sendReading(9)
	q.wantAck(9)
	q.sendReading(10)
	q.wantAck(10)
	if n := h.metrics.Appended.Load(); n != 4 {
		t.Errorf("%d frames appended, want 4", n)
	}
}

// At shutdown everything that was appended is acknowledged before the close
// frame.
func TestShutdownAcknowledgesWhatWasAppended(t *testing.T) {
	h := startHub(t, options{})
	const devices = 20
	type result struct {
		acked uint64
		code  error
	}
	results := make([]result, devices)
	var wg sync.WaitGroup
	for i := range devices {
		p := h.connect(h.create(fmt.Sprintf("dev-%d", i)), 1)
		for seq := uint64(1); seq <= 10; seq++ {
			p.sendReading(seq)
		}
		wg.Go(func() {
			for {
				f, err := p.read()
				if err != nil {
					results[i].code = err
					return
				}
				results[i].acked = max(results[i].acked, f.GetAck().GetSeq())
			}
		})
	}
	eventually(t, "some are taken", func() bool { return h.metrics.Appended.Load() >= devices*5 })
	if err := h.shutdown(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	total := uint64(0)
	for i := range results {
		total += results[i].acked
		if got := fmt.Sprint(results[i].code); got != "websocket: close 1001 (going away): shutting down" {
			t.Errorf("device %d: %s", i, got)
		}
	}
	if appended := h.metrics.Appended.Load(); total != appended {
		t.Errorf("%d frames acknowledged, %d appended", total, appended)
	}
	if h.table.Online() != 0 || h.metrics.Live.Load() != 0 {
		t.Error("somebody is still here")
	}
}

func TestDrainSendsDevicesAway(t *testing.T) {
	h := startHub(t, options{})
	var peers []*peer
	for i := range 5 {
		peers = append(peers, h.connect(h.create(fmt.Sprintf("dev-%d", i)), 1))
	}
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- h.table.Drain(ctx, 100)
	}()
	for _, p := range peers {
		closed := p.wantClose(4000)
		var ms int
		if _, err := fmt.Sscanf(closed.Text, "retry_ms=%d", &ms); err != nil || ms < 500 {
			t.Errorf("reason %q", closed.Text)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c, _ := h.reg.Get("dev-0")
	p := h.dial()
	p.sendHello(p.helloOf(h.credential(c), 1))
	p.wantClose(4000)
	h.table.Undrain()
	h.connect(h.credential(c), 1)
}

func TestDeviceSaysGoodbye(t *testing.T) {
	h := startHub(t, options{})
	p := h.connect(h.create("dev-1"), 1)
	if err := p.ws.WriteMessage(8, []byte{0x03, 0xe8}); err != nil { // close, 1000
		t.Fatal(err)
	}
	p.wantClose(1000)
	eventually(t, "offline", func() bool { return !h.table.Presence("dev-1").Online })
	if got := h.table.Presence("dev-1").Reason; got != "closed by the device" {
		t.Errorf("reason = %q", got)
	}
	q := h.connect(h.create("dev-2"), 1)
	_ = q.ws.NetConn().Close()
	eventually(t, "offline", func() bool { return !h.table.Presence("dev-2").Online })
	if got := h.table.Presence("dev-2").Reason; got != "connection lost" {
		t.Errorf("reason = %q", got)
	}
}

func TestDescribeIsStored(t *testing.T) {
	h := startHub(t, options{})
	c := h.create("dev-1")
	p := h.connect(c, 1)
	if len(p.welcome.GetDescribeDigest()) != 0 {
		t.Error("a digest of nothing")
	}
	p.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Describe{Describe: &devicev1.Describe{
		Fields: []*devicev1.FieldDescription{{Name: "bad name"}},
	}}})
	p.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Describe{Describe: &devicev1.Describe{
		Firmware: "1.2", Fields: []*devicev1.FieldDescription{{Name: "celsius", Unit: "Cel"}},
		Commands: []*devicev1.CommandDescription{{Name: "relay.set-0"}},
	}}})
	eventually(t, "stored", func() bool { d, _ := h.reg.Get("dev-1"); return len(d.Describe) > 0 })
	if q := h.connect(c, 1); len(q.welcome.GetDescribeDigest()) != 32 {
		t.Error("no digest")
	}
	if n := h.metrics.Describes.Load(); n != 1 {
		t.Errorf("%d descriptions stored", n)
	}
}

// A device that stops answering is found within interval and pong timeout,
// and leaves nothing behind.
func TestSilentDeviceIsFound(t *testing.T) {
	t.Parallel()
	h := startHub(t, options{})
	c := h.create("dev-1")
	p := h.dial()
	hello := p.helloOf(c, 1)
	hello.HeartbeatWishS = 1 // less than the least
	began := time.Now()
	p.sendHello(hello)
	w := p.next().GetWelcome() // nobody reads from here on
	if w.GetHeartbeatIntervalS() != 5 {
		t.Fatalf("interval = %d s, want the least, 5", w.GetHeartbeatIntervalS())
	}
	eventually(t, "offline", func() bool { return !h.table.Presence("dev-1").Online })
	if took := time.Since(began); took < 12*time.Second || took > 40*time.Second {
		t.Errorf("found after %v, want 12.5 s to 15 s, and no more than a busy machine adds", took)
	}
	if got := h.table.Presence("dev-1").Reason; got != "heartbeat missed" {
		t.Errorf("reason = %q", got)
	}
	eventually(t, "the connection is gone", func() bool { return h.gw.Connections() == 0 })
	p.ws.SetPingHandler(func(string) error { return nil })
	p.wantClose(4002)
}
