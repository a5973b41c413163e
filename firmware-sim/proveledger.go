package firmwaresim

import (
	"math/bits"
	"sync"
	"time"
)

// bitmap is a set of row numbers; it grows as it is set.
type bitmap []uint64

func (b *bitmap) set(n uint32) (fresh bool) {
	for int(n/64) >= len(*b) {
		*b = append(*b, 0)
	}
	word, bit := &(*b)[n/64], uint64(1)<<(n%64)
	fresh = *word&bit == 0
	*word |= bit
	return fresh
}

func (b bitmap) has(n uint32) bool {
	return int(n/64) < len(b) && b[n/64]&(1<<(n%64)) != 0
}

func (b bitmap) word(i int) uint64 {
	if i < len(b) {
		return b[i]
	}
	return 0
}

func (b bitmap) count() (n uint64) {
	for _, w := range b {
		n += uint64(bits.OnesCount64(w))
	}
	return n
}

// rowLedger is what one device knows of its rows, apart from the hub. Rows
// are numbered from 0. It takes about 3 bits a row, so that a soak of 100
// million rows fits into 40 MB. It may be used at once by many goroutines.
type rowLedger struct {
	began time.Time

	mu       sync.Mutex
	next     uint32 // rows that the SDK has taken
	acked    bitmap
	rejected bitmap
	dropped  bitmap
	poison   bitmap // rows that the store must refuse
	// sums are over the identity and the content of the acknowledged rows,
	// and when is the newest time at which one was acknowledged, in tenths of
	// a second since began: both for each 64 rows.
	sums []uint64
	when []uint32
}

// published is called when the SDK has taken the row of that number.
func (l *rowLedger) published(poison bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if poison {
		l.poison.set(l.next)
	}
	l.next++
}

func (l *rowLedger) number() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

func (l *rowLedger) acknowledged(rows []ledgerRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := uint32(time.Since(l.began) / (time.Second / 10))
	for _, r := range rows {
		if !l.acked.set(r.n) {
			continue // sent again after a restart of the device
		}
		for int(r.n/64) >= len(l.sums) {
			l.sums, l.when = append(l.sums, 0), append(l.when, 0)
		}
		l.sums[r.n/64] += r.sum()
		l.when[r.n/64] = now
	}
}

func (l *rowLedger) refused(rows []ledgerRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rows {
		l.rejected.set(r.n)
	}
}

func (l *rowLedger) givenUp(rows []ledgerRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rows {
		l.dropped.set(r.n)
	}
}

// ledgerRow is what identifies a row.
type ledgerRow struct {
	n    uint32
	time int64 // Unix ns
}

// numberOf packs a device and a number of a row into the value of its field.
func numberOf(device int, n uint32) int64 { return int64(device)<<32 | int64(n) }

// valueOf is what a row must say.
func valueOf(device int, n uint32) float64 {
	return float64(mix(uint64(numberOf(device, n)))>>11) / (1 << 53) * 100
}

// sum is added up over rows, in any order.
func (r ledgerRow) sum() uint64 { return mix(mix(uint64(r.time)) ^ uint64(r.n)) }

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// restart counts the times of acknowledgements from then on.
func (l *rowLedger) restart(began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = began
}
