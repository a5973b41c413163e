package wire

import (
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/tetherline/tetherline/telemetry"
)

// FieldSet remembers the distinct (measurement, field) pairs of one device, at
// most telemetry.MaxFields of them. Its zero value is empty and takes no
// memory beyond itself; each pair costs 8 bytes. It is not for concurrent use.
//
// Pairs are remembered by 64-bit hashes under a key of this process. Two pairs
// with one hash count as one: the device may then use a field more than the
// limit. That is the only consequence, and it is rarer than 1 in 10^14 for a
// full set.
type FieldSet struct {
	hashes []uint64 // rising
}

// Len is the number of pairs.
func (s *FieldSet) Len() int { return len(s.hashes) }

// full reports whether n more pairs are too many.
func (s *FieldSet) full(n int) bool { return len(s.hashes)+n > telemetry.MaxFields }

func (s *FieldSet) has(hash uint64) bool {
	_, ok := slices.BinarySearch(s.hashes, hash)
	return ok
}

// add hashes that it does not have. It allocates exactly what they need:
// thousands of sets lie idle.
func (s *FieldSet) add(fresh []uint64) {
	if len(fresh) == 0 {
		return
	}
	all := make([]uint64, 0, len(s.hashes)+len(fresh))
	all = append(all, s.hashes...)
	all = append(all, fresh...)
	slices.Sort(all)
	s.hashes = all
}

// hashKey is one for all devices, and unknown to them.
var hashKey = maphash.MakeSeed()

func hashName(name []byte) uint64 { return maphash.Bytes(hashKey, name) }

// hashPair joins the hashes of a measurement and a field name; the order
// matters.
func hashPair(measurement, field uint64) uint64 {
	hi, lo := bits.Mul64(measurement^0x9e3779b97f4a7c15, bits.RotateLeft64(field, 32)^0xd1b54a32d192ed03)
	return hi ^ lo ^ field
}
