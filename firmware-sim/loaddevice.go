package firmwaresim

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	credential "github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// flatOutStep is the time between rows of a load without a rate, in ns.
const flatOutStep = int64(10 * time.Microsecond)

// loadDevice is one device of a load. Its frames are made anew where they
// have to be sent again, so it needs no spool.
type loadDevice struct {
	// Set once.
	load       *loadRun
	index      int
	credential credential.Credential
	tls        *tls.Config
	boot       [credential.BootIDBytes]byte
	wake       chan struct{} // has room for one word: something below has changed

	mu          sync.Mutex
	link        *loadLink // nil: not connected
	next        uint64    // seq to be sent next
	highest     uint64    // seq that was sent
	acked       uint64
	pausedUntil time.Time
	thoughtBy   time.Time   // with a think time: when the next frame is due; zero: not known yet
	intended    []time.Time // of frames in flight, by seq modulo the length
	finished    bool
}

// run keeps the device connected until ctx ends or the hub refuses it.
func (d *loadDevice) run(ctx context.Context) {
	pause := loadFirstPause
	for ctx.Err() == nil {
		connected, err := d.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			d.load.failure.Store(&err)
		}
		var closed *websocket.CloseError
		if errors.As(err, &closed) && closed.Code >= 4500 {
			d.load.refused.Add(1)
			return
		}
		if connected {
			pause = loadFirstPause
		}
		if !sleep(ctx, rand.N(pause)) {
			return
		}
		pause = min(2*pause, d.load.cfg.Pause)
	}
}

// session is one connection, from dialling to its end.
func (d *loadDevice) session(ctx context.Context) (connected bool, err error) {
	r := d.load
	select {
	case r.gate <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	link, err := dialLoad(ctx, r, d)
	<-r.gate
	if err != nil {
		return false, err
	}
	r.online.Add(1)
	r.sessions.Add(1)
	defer r.online.Add(-1)
	defer context.AfterFunc(ctx, link.bye)()
	d.setLink(link)
	defer d.setLink(nil)
	d.resume(link.welcome)
	reading := make(chan error, 1)
	gone := make(chan struct{})
	go func() {
		reading <- link.read(d)
		_ = link.ws.Close()
		close(gone)
	}()
	err = d.send(ctx, link, gone)
	if err != nil {
		_ = link.ws.Close()
	}
	return true, errors.Join(<-reading, err)
}

func (d *loadDevice) setLink(l *loadLink) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.link = l
}

// resume goes on where the hub stands.
func (d *loadDevice) resume(w *devicev1.Welcome) {
	d.mu.Lock()
	if d.intended == nil {
		d.intended = make([]time.Time, max(w.WindowFrames, 1))
	}
	d.mu.Unlock()
	if w.LastSeq > 0 {
		d.acknowledged(w.LastSeq)
	}
	d.mu.Lock()
	d.next = d.acked + 1
	d.mu.Unlock()
}

// send what is due, as the window allows, until there is nothing more to
// send: nil.
func (d *loadDevice) send(ctx context.Context, link *loadLink, gone <-chan struct{}) error {
	r := d.load
	select {
	case <-r.began:
	case <-gone:
		return nil
	case <-ctx.Done():
		return nil
	}
	var frames *loadFrames
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		seq, wait, more := d.upNext(link)
		if !more {
			return nil
		}
		if seq == 0 {
			var late <-chan time.Time
			if wait > 0 {
				timer.Reset(wait)
				late = timer.C
			}
			select {
			case <-late:
			case <-d.wake:
			case <-gone:
				return nil
			case <-ctx.Done():
				return nil
			}
			continue
		}
		if frames == nil {
			frames = newLoadFrames(r.cfg.RowsPerFrame, r.cfg.FieldsPerRow, r.step)
		}
		r.sent.Add(1)
		if err := link.write(frames.frame(seq, r.epoch, d.index)); err != nil {
			return err
		}
	}
}

// upNext takes the seq of the frame to be sent now; 0: nothing may be sent
// for wait (0: until the device is woken). more is false where everything has
// been sent.
func (d *loadDevice) upNext(link *loadLink) (seq uint64, wait time.Duration, more bool) {
	r := d.load
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.cfg.Think > 0 && d.thoughtBy.IsZero() {
		d.thoughtBy = r.start.Add(d.share(r.cfg.Think))
	}
	if d.next > d.highest && d.sentAll(now) {
		d.finish()
		return 0, 0, !d.finished
	}
	due := now
	inFlight := int(d.next - 1 - d.acked)
	switch {
	case r.period > 0:
		due = d.dueAt(d.next)
	case r.cfg.Think > 0:
		if inFlight > 0 {
			return 0, 0, true
		}
		due = d.thoughtBy
	}
	if inFlight >= link.windowFrames || (inFlight+1)*link.frameBytes > link.windowBytes {
		return 0, 0, true
	}
	if at := latest(due, d.pausedUntil); at.After(now) {
		return 0, at.Sub(now), true
	}
	seq = d.next
	d.next++
	if seq > d.highest {
		d.highest = seq
		d.intended[seq%uint64(len(d.intended))] = due
	} else {
		r.resent.Add(1)
	}
	return seq, 0, true
}

// dueAt is when a frame of an open loop is to be sent. The devices are spread
// over the period.
func (d *loadDevice) dueAt(seq uint64) time.Time {
	r := d.load
	return r.start.Add(d.share(r.period) + time.Duration(seq-1)*r.period)
}

// share spreads the devices over a time.
func (d *loadDevice) share(span time.Duration) time.Duration {
	return time.Duration(float64(span) * float64(d.index) / float64(len(d.load.devices)))
}

// acknowledged takes an Ack.
func (d *loadDevice) acknowledged(seq uint64) {
	r := d.load
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	seq = min(seq, d.highest)
	if d.acked < seq { // a Welcome may acknowledge what was before
		d.thoughtBy = now.Add(r.cfg.Think)
		r.lastAck.Store(now.UnixNano())
	}
	for d.acked < seq {
		d.acked++
		r.latency.add(now.Sub(d.intended[d.acked%uint64(len(d.intended))]))
		r.acked.Add(1)
	}
	d.next = max(d.next, d.acked+1)
	d.signal()
	d.finish()
}

// sentAll reports whether the last frame has been sent once. mu is held.
func (d *loadDevice) sentAll(now time.Time) bool {
	r := d.load
	if r.frames > 0 || r.cfg.Idle {
		return d.highest >= uint64(r.frames)
	}
	return now.After(r.end) || r.cfg.Think > 0 && d.thoughtBy.After(r.end)
}

// finish notes that all is sent and acknowledged. mu is held.
func (d *loadDevice) finish() {
	if !d.finished && d.acked == d.highest && d.sentAll(time.Now()) {
		d.finished = true
		d.load.finished.Add(1)
	}
}

// throttled takes a Throttle.
func (d *loadDevice) throttled(t *devicev1.Throttle) {
	d.load.throttles.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pausedUntil = time.Now().Add(time.Duration(t.PauseMs) * time.Millisecond)
	if t.ResumeSeq > d.acked && t.ResumeSeq < d.next {
		d.next = t.ResumeSeq
	}
	d.signal()
}

func (d *loadDevice) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
