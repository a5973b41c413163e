package session

import (
	"sync/atomic"
	"time"
)

// bucket is a token bucket in 8 bytes (the generic cell rate algorithm of
// ITU-T I.371): the time, in ns of the wheel's clock, at which it is full
// again.
type bucket struct {
	full int64
}

// wait is how long to wait before cost may be taken; 0: now. cost and burst
// are in ns of refilling.
func (b *bucket) wait(now, cost, burst int64) int64 {
	return max(0, max(b.full, now)+cost-burst-now)
}

func (b *bucket) take(now, cost int64) { b.full = max(b.full, now) + cost }

// limiter bounds the frames and bytes of one device. The reader's.
type limiter struct {
	frames bucket
	bytes  bucket
	// over counts frames beyond the rate, and those sent in a pause, since
	// the device was last seen keeping to it.
	over int
}

// rates are Limits in ns.
type rates struct {
	frame, frameBurst int64 // of one frame
	byte              float64
	byteBurst         int64
}

// ratesOf allows a burst of two seconds, and always what a device that comes
// back resends: its window, twice.
func ratesOf(l *Limits) rates {
	frame := float64(time.Second) / l.FramesPerSec
	perByte := float64(time.Second) / l.BytesPerSec
	return rates{
		frame:      int64(frame),
		frameBurst: int64(frame * max(2*l.FramesPerSec, 2*float64(l.WindowFrames)+16)),
		byte:       perByte,
		byteBurst:  int64(perByte * max(2*l.BytesPerSec, 2*float64(l.WindowBytes))),
	}
}

// admit takes one frame of size bytes from the buckets, or takes nothing and
// returns how long, in ns, the device should wait.
func (l *limiter) admit(d *Deps, now int64, size int) int64 {
	r := &d.rates
	cost := int64(r.byte * float64(size))
	if w := max(l.frames.wait(now, r.frame, r.frameBurst), l.bytes.wait(now, cost, r.byteBurst)); w > 0 {
		return w
	}
	if l.frames.full <= now && l.bytes.full <= now {
		l.over = 0
	}
	l.frames.take(now, r.frame)
	l.bytes.take(now, cost)
	return 0
}

// overrun counts a frame beyond the limits. A device that was told to pause
// may have a window of frames under way; what goes far beyond that is abuse.
func (s *Session) overrun() error {
	s.limit.over++
	if s.limit.over > s.deps.Limits.WindowFrames+64 {
		return &Violation{Code: CloseRateLimit}
	}
	return nil
}

// quotaPerSecond is how many refused handshakes are logged in a second.
const quotaPerSecond = 10

// quota allows a number of events in each second. It may be used at once by
// many goroutines.
type quota struct {
	second atomic.Int64
	left   atomic.Int32
}

func (q *quota) take(now time.Time) bool {
	second := now.Unix()
	if old := q.second.Load(); old != second && q.second.CompareAndSwap(old, second) {
		q.left.Store(quotaPerSecond)
	}
	return q.left.Add(-1) >= 0
}
