package profile

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// maxMadeNames is how many measurements are remembered, of all gear.
const maxMadeNames = 10_000

// madeKey is a measurement of gear, and madeOf what it was made of first.
type (
	madeKey struct{ gear, measurement string }
	madeOf  struct {
		hash  uint64
		words string // the same for people
	}
)

// sameMeasurement tells that a line makes the measurement of another one of the
// same gear, of another name or other tags.
func (p *influx) sameMeasurement(gear, measurement string, parts []string, trouble *troubles) {
	var h maphash.Hash
	h.SetSeed(p.seed)
	for _, part := range parts {
		_, _ = h.WriteString(part)
		_ = h.WriteByte(0) // in no name
	}
	first, known := p.made[madeKey{gear, measurement}]
	switch now := h.Sum64(); {
	case !known:
		if p.made == nil || len(p.made) >= maxMadeNames {
			p.made = make(map[madeKey]madeOf)
		}
		p.made[madeKey{strings.Clone(gear), measurement}] = madeOf{now, quoted(strings.Join(parts, " "))}
	case first.hash != now:
		trouble.add(fmt.Sprintf("%s and %s make the measurement %s both: make a tag that differs a field, under tags",
			first.words, quoted(strings.Join(parts, " ")), measurement))
	}
}
