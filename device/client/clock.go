package client

import (
	"fmt"
	"math"
	"time"
)

// plausible is the earliest time that a clock which was ever set can show.
var plausible = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// clock gives rows their time, in Unix ns. Not safe for concurrent use.
type clock struct {
	wall       func() time.Time
	unreliable bool
	start      time.Time // origin of the monotonic clock

	// The hub's time at a moment of the monotonic clock, once it is used.
	hubTime int64
	hubMono time.Duration
	fromHub bool

	last int64 // the newest automatic stamp
}

func (k *clock) mono() time.Duration { return time.Since(k.start) }

// known reports whether there is a time to stamp rows with.
func (k *clock) known() bool {
	return k.fromHub || !k.unreliable && k.wall().After(plausible)
}

// at is the time of a moment of the monotonic clock. It is exact for the
// hub's time; the wall clock is read now and counted back.
func (k *clock) at(mono time.Duration) int64 {
	if k.fromHub {
		return k.hubTime + int64(mono-k.hubMono)
	}
	return k.wall().UnixNano() - int64(k.mono()-mono)
}

// stamp is at, but never the same for two rows, and rising.
func (k *clock) stamp(mono time.Duration) int64 {
	k.last = max(k.at(mono), k.last+1)
	return k.last
}

// set makes the hub's time the clock.
func (k *clock) set(hubTime int64, mono time.Duration) {
	k.hubTime, k.hubMono, k.fromHub = hubTime, mono, true
	// A clock that was ahead must not hold the stamps of later rows there.
	if k.last > hubTime+int64(MaxFuture) {
		k.last = 0
	}
}

// learn takes the time of a hub that has proved itself, where the own clock
// cannot be used or is so wrong that the hub would reject its rows. It
// reports whether it did.
func (k *clock) learn(hubTime int64, mono time.Duration) bool {
	if hubTime <= 0 || hubTime > math.MaxInt64/2 {
		return false
	}
	wrong := !k.known()
	if !wrong && !k.unreliable {
		ahead := k.at(mono) - hubTime
		wrong = ahead > int64(MaxFuture)/2 || -ahead > int64(MaxPast)/2
	}
	if !wrong && !k.unreliable {
		return false
	}
	k.set(hubTime, mono)
	return wrong
}

// checkTime returns nil, or an error that wraps ErrInvalidRow.
func (k *clock) checkTime(t time.Time) error {
	if y := t.Year(); y < 1970 || y > 2200 {
		return fmt.Errorf("%w: time %v is out of range", ErrInvalidRow, t)
	}
	if !k.known() {
		return nil
	}
	d := t.UnixNano() - k.at(k.mono())
	if d > int64(MaxFuture) || -d > int64(MaxPast) {
		return fmt.Errorf("%w: time %v is more than 1 h ahead or 10 years back", ErrInvalidRow, t)
	}
	return nil
}
