package telemetry

import (
	"math"
	"time"
)

// Windows cuts time into the windows of a query: a window begins wherever
// the wall clock of Location shows a whole multiple of Length, counted from
// its 1970-01-01T00:00. For lengths that divide a day that is local midnight
// and its multiples; for whole days it is local midnight.
//
// Where the clock is put forward over such a beginning, the window begins at
// the change; where it is put back over one, the window begins twice. A
// window of hours or days in which the clock is changed is so much shorter or
// longer.
type Windows struct {
	Length   time.Duration // MinWindow to MaxWindow
	Location *time.Location
}

// At is the window [start, end) that holds the time t, in Unix ns. t is some
// centuries away from the ends of int64.
func (w Windows) At(t int64) (start, end int64) {
	length := int64(w.Length)
	zone := zoneAt(w.Location, t)
	index := floorDiv(t+zone.offset, length)
	return w.startOf(index, zone), w.endOf(index, zone)
}

// startOf walks back over the changes of the clock that lie inside the
// window index, of which zone is a part.
func (w Windows) startOf(index int64, zone zone) int64 {
	length := int64(w.Length)
	for {
		start := index*length - zone.offset
		if start >= zone.from {
			return start
		}
		before := zoneAt(w.Location, zone.from-1)
		if floorDiv(zone.from-1+before.offset, length) != index {
			return zone.from
		}
		zone = before
	}
}

// endOf walks on to the next time at which a window begins.
func (w Windows) endOf(index int64, zone zone) int64 {
	length := int64(w.Length)
	for {
		end := (index+1)*length - zone.offset
		if end < zone.to {
			return end
		}
		after := zoneAt(w.Location, zone.to)
		if w.startOf(floorDiv(zone.to+after.offset, length), after) == zone.to {
			return zone.to
		}
		zone = after
	}
}

// Run is the longest run of windows from the one that holds t on, in which
// each is exactly Length long: start, start+Length, … end. Where the window
// itself is of another length because the clock is changed in it, the run is
// that window alone.
func (w Windows) Run(t int64) (start, end int64) {
	start, end = w.At(t)
	length := int64(w.Length)
	zone := zoneAt(w.Location, start)
	if end-start != length || end > zone.to {
		return start, end
	}
	end = start + (min(zone.to, MaxTime)-start)/length*length
	if _, e := w.At(end - 1); e != end {
		end -= length // the last one goes on behind the change
	}
	return start, end
}

// zone is a stretch of time [from, to) in which a location's clock is not
// changed; offset is what it is ahead of UTC. All in ns.
type zone struct {
	from, to, offset int64
}

func zoneAt(loc *time.Location, t int64) zone {
	at := time.Unix(0, t).In(loc)
	_, seconds := at.Zone()
	z := zone{from: math.MinInt64, to: math.MaxInt64, offset: int64(seconds) * int64(time.Second)}
	from, to := at.ZoneBounds()
	if !from.IsZero() && from.After(time.Unix(0, MinTime)) {
		z.from = from.UnixNano()
	}
	if !to.IsZero() && to.Before(time.Unix(0, MaxTime)) {
		z.to = to.UnixNano()
	}
	return z
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
