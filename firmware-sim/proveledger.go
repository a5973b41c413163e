package firmwaresim

import (
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
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

// doubt is what was wrong when a row was acknowledged: should the row be
// missing, that promise is broken.
type doubt int

const (
	doubtHub  doubt = iota // the hub died right after it, or its disk was full
	doubtFull              // its buffer was being filled, or full
	doubts
)

// rowLedger is what one device knows of its rows, apart from the hub. Rows
// are numbered from 0. It takes about 3 bits a row, so that a soak of 100
// million rows fits into 40 MB. It may be used at once by many goroutines.
type rowLedger struct {
	doubting *[doubts]atomic.Bool // of the present, for all devices
	acking   chan<- struct{}      // hears of acknowledgements, where somebody listens

	mu       sync.Mutex
	next     uint32 // rows that the SDK has taken
	acked    bitmap
	rejected bitmap
	dropped  bitmap
	poison   bitmap // rows that the store must refuse
	stubborn bitmap // of these: the one that is answered with 500
	pardoned bool   // which may be stored nevertheless
	doubtful [doubts]bitmap
	// sums are over the acknowledged rows, poison left out, for each 64.
	sums     []uint64
	poisoned map[uint32]uint64 // sums of acknowledged poison rows, by number
	recent   []recentAck       // of the last second, and some more
	newest   ledgerRow         // of the frame that was refused last: the row of the latest time
	oldest   ledgerRow
}

type recentAck struct {
	n  uint32
	at time.Time
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
	now := time.Now()
	old := 0
	for old < len(l.recent) && now.Sub(l.recent[old].at) > lastMoments {
		old++
	}
	l.recent = append(l.recent[:0], l.recent[old:]...)
	for _, r := range rows {
		if !l.acked.set(r.n) {
			continue // sent again after a restart of the device
		}
		if r.poison {
			if l.poisoned == nil {
				l.poisoned = make(map[uint32]uint64)
			}
			l.poisoned[r.n] = r.sum()
		} else {
			for int(r.n/64) >= len(l.sums) {
				l.sums = append(l.sums, 0)
			}
			l.sums[r.n/64] += r.sum()
		}
		l.recent = append(l.recent, recentAck{r.n, now})
		for i := range doubts {
			if l.doubting[i].Load() {
				l.doubtful[i].set(r.n)
			}
		}
	}
	l.mu.Unlock()
	select {
	case l.acking <- struct{}{}:
	default:
	}
}

// lastMoments is how long before the death of a hub a row is acknowledged
// that it may have lost.
const lastMoments = time.Second

// doubtRecent doubts the rows of the last moments before t.
func (l *rowLedger) doubtRecent(why doubt, t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.recent {
		if t.Sub(a.at) <= lastMoments {
			l.doubtful[why].set(a.n)
		}
	}
}

func (l *rowLedger) refused(rows []ledgerRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range rows {
		l.rejected.set(r.n)
		if i == 0 || r.time > l.newest.time {
			l.newest = r
		}
		if i == 0 || r.time < l.oldest.time {
			l.oldest = r
		}
	}
}

// refusedLast are the rows of the earliest and of the latest time of the frame
// that was refused last.
func (l *rowLedger) refusedLast() (oldest, newest ledgerRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.oldest, l.newest
}

func (l *rowLedger) givenUp(rows []ledgerRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rows {
		l.dropped.set(r.n)
	}
}

// ledgerRow is what is remembered of a row until it is added to the ledger.
type ledgerRow struct {
	n      uint32
	time   int64  // Unix ns
	fields uint64 // sum over its fields: names, kinds and values
	poison bool   // the store must refuse it
}

// numberOf packs a device and a number of a row into the value of its field.
func numberOf(device int, n uint32) int64 { return int64(device)<<32 | int64(n) }

// valueOf is what a row must say.
func valueOf(device int, n uint32) float64 {
	return float64(mix(uint64(numberOf(device, n)))>>11) / (1 << 53) * 100
}

// sum of a row is added up over rows, in any order.
func (r ledgerRow) sum() uint64 { return mix(mix(mix(uint64(r.time))^uint64(r.n)) ^ r.fields) }

// The sum over a row's fields is the same in any order of them, too.
var sumSeed = maphash.MakeSeed()

func fieldSum(name string, kind, value uint64) uint64 {
	return mix(mix(maphash.String(sumSeed, name)^kind) ^ value)
}

func doubleSum(name string, v float64) uint64 { return fieldSum(name, 1, math.Float64bits(v)) }
func intSum(name string, v int64) uint64      { return fieldSum(name, 2, uint64(v)) }
func boolSum(name string, v bool) uint64      { return fieldSum(name, 3, uint64(btoi(v))) }
func stringSum(name, v string) uint64         { return fieldSum(name, 4, maphash.String(sumSeed, v)) }

// valuesSum is the sum over fields as an operator is handed them.
func valuesSum(values map[string]*operatorv1.Value) (sum uint64) {
	for name, v := range values {
		switch v := v.GetValue().(type) {
		case *operatorv1.Value_DoubleValue:
			sum += doubleSum(name, v.DoubleValue)
		case *operatorv1.Value_IntValue:
			sum += intSum(name, v.IntValue)
		case *operatorv1.Value_BoolValue:
			sum += boolSum(name, v.BoolValue)
		case *operatorv1.Value_StringValue:
			sum += stringSum(name, v.StringValue)
		}
	}
	return sum
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// stubbornIs notes the row that the store answers with 500.
func (l *rowLedger) stubbornIs(n uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stubborn.set(n)
}

// pardon says whether that row may be stored.
func (l *rowLedger) pardon(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pardoned = yes
}

// mustNotBeStored is the word of rows that the store has refused for good.
func (l *rowLedger) mustNotBeStored(w int) uint64 {
	if l.pardoned {
		return l.poison.word(w) &^ l.stubborn.word(w)
	}
	return l.poison.word(w)
}
