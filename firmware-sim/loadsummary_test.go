package firmwaresim

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// A load that is interrupted tells of the frames whose time had come, and says
// that it was interrupted.
func TestInterruptedLoad(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	r := &loadRun{cfg: LoadConfig{Devices: 2, Rate: 2, RowsPerFrame: 1, FieldsPerRow: 1}, period: time.Second, frames: 10}
	for i := range 2 {
		r.devices = append(r.devices, &loadDevice{load: r, index: i, intended: make([]time.Time, 4)})
	}
	if n := r.due(time.Now()); n != 0 {
		t.Errorf("%d frames are due while devices connect", n)
	}
	r.start = time.Now().Add(-2700 * time.Millisecond) // three frames of the first device, and of the second
	for after, want := range map[time.Duration]int64{0: 1, 499 * time.Millisecond: 1, 500 * time.Millisecond: 2, 2600 * time.Millisecond: 6, time.Minute: 20} {
		if n := r.due(r.start.Add(after)); n != want {
			t.Errorf("after %v %d frames were due; want %d", after, n, want)
		}
	}
	interrupt()
	m := &loadMeter{}
	s, err := r.ended(ctx, m, ctx.Err())
	var text bytes.Buffer
	_, _ = s.WriteTo(&text)
	if !errors.Is(err, context.Canceled) || s.Ended != "interrupted" || s.FramesDropped < 6 || s.FramesDropped > 20 || s.OwnCPUSeconds != 0 || !strings.Contains(text.String(), "ENDED EARLY") {
		t.Errorf("got %+v, %v\n%s", s, err, &text)
	}
	if m.begin(); m.ownCPU() < 0 {
		t.Errorf("%v of CPU", m.ownCPU())
	}
}

// An acknowledgement of nothing new is not the last one: rates end with that.
func TestWelcomeIsNoLastAcknowledgement(t *testing.T) {
	r := &loadRun{frames: 2}
	d := &loadDevice{load: r, next: 3, highest: 2, wake: make(chan struct{}, 1), intended: make([]time.Time, 4)}
	d.acknowledged(2)
	last := r.lastAck.Load()
	d.acknowledged(2)
	if last == 0 || r.lastAck.Load() != last || r.acked.Load() != 2 {
		t.Errorf("the last acknowledgement was at %d, and after a Welcome at %d; %d frames", last, r.lastAck.Load(), r.acked.Load())
	}
}

// Who held still has no rate of its own, and what it takes to connect again is
// no cost of a frame.
func TestIdleSummary(t *testing.T) {
	s := LoadSummary{Devices: 3, Idle: true, FramesSent: 3, FramesAcked: 3, Hub: &HubUse{UserSeconds: 5}}
	var text bytes.Buffer
	if _, err := s.WriteTo(&text); err != nil || !strings.Contains(text.String(), "hold still") || strings.Contains(text.String(), "µs a frame") || strings.Contains(text.String(), "values/s") {
		t.Errorf("%v\n%s", err, &text)
	}
}

// The folder of a load that was killed is removed by the next one, and that of
// a living one is not.
func TestLeftLoadsAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	left, err := emptyFolder("", "load")
	if err != nil {
		t.Fatal(err)
	}
	release, err := holdFolder(left)
	if err != nil {
		t.Fatal(err)
	}
	if removeLeftLoads(); !exists(left) {
		t.Error("the folder of a living load is removed")
	}
	release()
	if removeLeftLoads(); exists(left) && canMeasure {
		t.Error("the folder of a dead load stays")
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
