package firmwaresim

import (
	"fmt"
	"math/bits"
)

// lossKind is what was wrong when rows were acknowledged that are lost.
type lossKind int

const (
	lostHub lossKind = iota
	lostFull
	lostEither
	lostPoison
	lostOtherwise
	lossKinds
)

// lostWhen says of each kind which promise it breaks, and when that was. What
// is lostEither belongs to the kind of the other rows that are lost, where
// these are of one; else nobody can tell. So does what is lostPoison, which is
// else what a hub drops because the store refuses it.
var lostWhen = [lossKinds]struct {
	promise promise
	when    string
}{
	{promiseDurable, "acknowledged right before the hub was killed, or while its disk was full"},
	{promiseRefuses, "acknowledged while the hub's buffer was full or being filled, or waiting in it then"},
	{promiseDurable, "acknowledged while the hub's buffer was full or being filled, and right before the hub was killed or while its disk was full"},
	{promiseStored, "which the store must refuse, acknowledged while the hub's buffer or disk was full, or right before it was killed"},
	{promiseStored, "acknowledged while nothing was wrong with the hub's process, disk and buffer"},
}

// lostRows are the rows of one device that were acknowledged and are neither
// stored nor in quarantine, by kind.
type lostRows struct {
	device string
	rows   [lossKinds]uint64
	first  [lossKinds]int // the number of one; of those that there are
}

// add takes rows of the word w of a bitmap.
func (l *lostRows) add(kind lossKind, w int, some uint64) {
	if some != 0 && l.rows[kind] == 0 {
		l.first[kind] = w*64 + bits.TrailingZeros64(some)
	}
	l.rows[kind] += uint64(bits.OnesCount64(some))
}

func (l *lostRows) all() (n uint64) {
	for _, rows := range l.rows {
		n += rows
	}
	return n
}

// judgeLost finds a promise for each row that is lost, when those of all
// devices are known. A fault of the hub loses more than one: where others are
// lost that another promise is for, it says so.
func (r *proof) judgeLost() {
	var sum lostRows
	for _, l := range r.lost {
		for kind, rows := range l.rows {
			sum.rows[kind] += rows
		}
	}
	either, poison := lostWhen[lostEither].promise, lostWhen[lostPoison].promise
	if sum.rows[lostFull] > 0 && sum.rows[lostHub] == 0 {
		either = promiseRefuses
	}
	if sum.rows[lostOtherwise] == 0 && sum.rows[lostHub]+sum.rows[lostFull]+sum.rows[lostEither] > 0 {
		poison = either
	}
	for _, l := range r.lost {
		for kind, rows := range l.rows {
			if rows == 0 {
				continue
			}
			p := lostWhen[kind].promise
			switch lossKind(kind) {
			case lostEither:
				p = either
			case lostPoison:
				p = poison
			}
			r.find(p, "%s: %d acknowledged rows are neither stored nor in quarantine, the first is number %d: %s%s", l.device, rows, l.first[kind], lostWhen[kind].when, sum.doubt(lossKind(kind)))
		}
	}
}

// doubt says to what other promise rows of a kind may belong.
func (l *lostRows) doubt(kind lossKind) string {
	switch hub, full, otherwise := l.rows[lostHub], l.rows[lostFull], l.rows[lostOtherwise]; {
	case kind == lostOtherwise, kind == lostPoison:
		return ""
	case otherwise > 0:
		return fmt.Sprintf(" (%d are lost that were acknowledged while nothing was wrong: it may be the same fault, and then promise %d is the broken one)", otherwise, promiseStored)
	case kind == lostEither && (hub > 0) == (full > 0):
		return fmt.Sprintf(" (which of the two it was cannot be told: it may be promise %d in place of %d)", promiseRefuses, promiseDurable)
	}
	return ""
}
