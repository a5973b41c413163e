package mqttbridge

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// toldRecord says where the rows went that one message tells of one time.
type toldRecord struct {
	number uint64 // counts up from 1
	gear   uint64 // hash of profile and name
	time   int64  // that the gear tells, Unix ns
	first  int64  // when the message came first; 0: it has QoS 0
	said   uint64 // hash of what it says of that time
	base   uint32 // ns from time to its first row
	end    uint32 // and to its last one
}

const (
	maxTold   = 1 << 15 // records of a broker
	toldBytes = 48
)

// toldFile are the last records of a broker's messages that tell their own time.
// They are in a file that is written without fsync before the rows are
// appended: it outlives the process, which is what repetitions come from.
// After a power cut what contradicts the last word on a time may replace it.
//
// It is for one goroutine.
type toldFile struct {
	file    *os.File
	records []toldRecord // by number modulo maxTold
	before  []uint64     // number of the record before of that gear and time, as far as it is there
	last    map[toldKey]uint64
	number  uint64 // of the newest
	written uint64 // of the newest in the file
	scratch []byte
}

type toldKey struct {
	gear uint64
	time int64
}

func openTold(path string) (*toldFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the memory of times: %w", err)
	}
	t := &toldFile{file: f, last: make(map[toldKey]uint64)}
	b, err := io.ReadAll(io.LimitReader(f, maxTold*toldBytes))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the memory of times: %w", err), f.Close())
	}
	var found []toldRecord
	for ; len(b) >= toldBytes; b = b[toldBytes:] {
		if r := toldRecordOf(b); r.number != 0 {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(x, y toldRecord) int { return cmp.Compare(x.number, y.number) })
	for _, r := range found {
		t.number = r.number - 1
		t.add(r)
	}
	t.written = t.number
	return t, nil
}

// add a record; its number is given here.
func (t *toldFile) add(r toldRecord) {
	t.number++
	r.number = t.number
	if t.records == nil {
		t.records, t.before = make([]toldRecord, maxTold), make([]uint64, maxTold)
	}
	at := r.number % maxTold
	if old := &t.records[at]; old.number != 0 && t.last[old.key()] == old.number {
		delete(t.last, old.key())
	}
	t.records[at], t.before[at] = r, t.last[r.key()]
	t.last[r.key()] = r.number
}

func (r *toldRecord) key() toldKey { return toldKey{r.gear, r.time} }

// find the newest record of that gear and time of which f is true; nil: there
// is none.
func (t *toldFile) find(gear uint64, time int64, f func(r *toldRecord) bool) *toldRecord {
	for n := t.last[toldKey{gear, time}]; n != 0; n = t.before[n%maxTold] {
		r := &t.records[n%maxTold]
		if r.number != n {
			return nil // another one has its place
		}
		if f(r) {
			return r
		}
	}
	return nil
}

func (t *toldFile) newest(gear uint64, time int64) *toldRecord {
	return t.find(gear, time, func(*toldRecord) bool { return true })
}

// free is the first place behind a time, from that many ns on, that the gear
// has not told as a time itself.
func (t *toldFile) free(gear uint64, time, ns int64) int64 {
	for r := t.newest(gear, time+ns); r != nil && ns < math.MaxUint32/2; r = t.newest(gear, time+ns) {
		ns += int64(r.end) + 1
	}
	return min(ns, math.MaxUint32/2)
}

// write the records that are new since the last time. What an error leaves
// unwritten stays so.
func (t *toldFile) write() error {
	from := max(t.written, t.number-min(t.number, maxTold)) + 1
	t.written = t.number
	var failed error
	for from <= t.number {
		to := min(t.number, from|(maxTold-1)) // the end of the file, or of the records
		b := t.scratch[:0]
		for n := from; n <= to; n++ {
			b = t.records[n%maxTold].append(b)
		}
		t.scratch = b
		if _, err := t.file.WriteAt(b, int64(from%maxTold)*toldBytes); err != nil {
			failed = fmt.Errorf("write the memory of times: %w", err)
		}
		from = to + 1
	}
	return failed
}

func (t *toldFile) close() error { return t.file.Close() }

func (r *toldRecord) append(b []byte) []byte {
	for _, v := range []uint64{r.number, r.gear, uint64(r.time), uint64(r.first), r.said} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, r.base), r.end)
}

func toldRecordOf(b []byte) toldRecord {
	u := binary.LittleEndian.Uint64
	return toldRecord{
		number: u(b), gear: u(b[8:]), time: int64(u(b[16:])), first: int64(u(b[24:])), said: u(b[32:]),
		base: binary.LittleEndian.Uint32(b[40:]), end: binary.LittleEndian.Uint32(b[44:]),
	}
}

// toldGear is the hash of gear.
func toldGear(g *gear) uint64 {
	return fnvString(fnvByte(fnvString(fnvBasis, g.bound.cfg.Name), 0), g.name)
}

// saidHash adds the fields of a row to the hash of those before.
func saidHash(before uint64, fields []toldField) uint64 {
	h := fnvInt(fnvBasis, before)
	for _, f := range fields {
		h = fnvInt(fnvInt(h, f.name), f.value)
	}
	return h
}

// FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/
const (
	fnvBasis = 14695981039346656037
	fnvPrime = 1099511628211
)

func fnvByte(h uint64, b byte) uint64 { return (h ^ uint64(b)) * fnvPrime }

func fnvString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = fnvByte(h, s[i])
	}
	return h
}

func fnvInt(h, v uint64) uint64 {
	for range 8 {
		h = fnvByte(h, byte(v))
		v >>= 8
	}
	return h
}

// floatBits are those of a value: 0 and -0 are one.
func floatBits(v float64) uint64 {
	return math.Float64bits(v + 0)
}
