package profile

import (
	"math/bits"
	"time"
)

const (
	// reorderTime is how long a message may come behind later ones: those of
	// QoS 0 overtake those of QoS 1. Then it is lost.
	reorderTime = 10 * time.Second
	// repeatWindow is how many messages back one may be sent again.
	repeatWindow = 128
	// longGap is a gap that is believed only where the messages on one side
	// of it at least are in sequence: some gear counts wrongly.
	longGap = 64
)

// sparkplugCount follows seq, which counts all messages of a node but its
// deaths, from 0 to 255 and from 0 again (Sparkplug 3.0.0, 6.4.19).
//
// What is missing counts as lost after reorderTime, or when it cannot come any
// more. That is a lower bound: 256 missing messages leave no gap, and a gap
// may hide a birth, from which on the node counts anew.
type sparkplugCount struct {
	known bool // last is
	last  uint8
	time  uint64 // of that message, as it says
	birth uint8  // seq of the last birth

	seen, missing seqSet
	most          int       // that can have been lost of those missing, at least
	unsure        int       // of most: those of a long gap before the last message
	jumped        bool      // there was a gap before the last message
	since         time.Time // the first of them was missed
	passed        int       // messages since
}

// take in a message. gap: messages are missing, or it is not known whether
// some are. repeated: it may have come before.
func (c *sparkplugCount) take(seq uint8, timestamp uint64, repeated bool, now time.Time) (gap bool) {
	switch {
	case !c.known:
		if !repeated {
			c.known, c.last, c.time = true, seq, timestamp
			c.seen.add(seq)
		}
		return false
	case seq == c.last:
		return false
	case c.missing.has(seq) && c.last-seq < longGap: // it was overtaken
		c.missing.remove(seq)
		c.seen.add(seq)
		return false
	case c.last-seq < repeatWindow && c.seen.has(seq):
		if repeated {
			return false
		}
		if timestamp != 0 && timestamp < c.time { // sent again on the way to the broker, perhaps
			return true
		}
	}
	missed := int(seq-c.last) - 1
	if missed > 0 {
		if c.missing == (seqSet{}) {
			c.since, c.passed = now, 0
		}
	}
	c.believe(missed, seq)
	for c.last != seq {
		c.last++
		c.passed++
		c.seen.remove(c.last + repeatWindow)
		if c.last == seq {
			c.seen.add(seq)
			c.missing.remove(seq)
		} else {
			c.seen.remove(c.last)
			c.missing.add(c.last)
		}
	}
	c.time = timestamp
	return missed > 0
}

// believe that so many messages are missing before one of that seq, or none.
func (c *sparkplugCount) believe(missed int, seq uint8) {
	switch n := c.atLeast(missed, seq); {
	case missed == 0:
		c.unsure = 0
	case missed < longGap:
		c.most += n - c.unsure
		c.unsure = 0
	case c.jumped:
		c.most -= c.unsure
		c.unsure = 0
	default:
		c.most += n
		c.unsure = n
	}
	c.jumped = missed > 0
}

// atLeast is how many messages are lost at least where so many are missing
// before one of that seq: if a birth is among them the others count from it.
func (c *sparkplugCount) atLeast(missed int, seq uint8) int {
	switch {
	case c.birth != 0: // of this node they begin anywhere
		return 1
	case seq == 0: // 255 came after the birth
		return missed
	}
	return min(missed, int(seq))
}

// lost are the messages that are, since the last call. over: what is missing
// cannot come any more.
func (c *sparkplugCount) lost(now time.Time, over bool) uint64 {
	n := c.missing.len()
	if n == 0 || !over && (c.passed < repeatWindow || c.unsure > 0) && now.Sub(c.since) < reorderTime {
		return 0
	}
	n = min(n, c.most)
	c.missing, c.most, c.unsure = seqSet{}, 0, 0
	return uint64(n)
}

// waitAnew: what is missing may come yet, as the broker sends again what was
// under way when the connection was lost.
func (c *sparkplugCount) waitAnew(now time.Time) {
	if c.missing != (seqSet{}) {
		c.since = now
	}
}

// born: the node counts anew.
func (c *sparkplugCount) born(seq uint8, timestamp uint64) {
	*c = sparkplugCount{known: true, last: seq, time: timestamp, birth: seq}
	c.seen.add(seq)
}

// seqSet is a set of seqs.
type seqSet [4]uint64

func (s *seqSet) has(seq uint8) bool { return s[seq>>6]&(1<<(seq&63)) != 0 }
func (s *seqSet) add(seq uint8)      { s[seq>>6] |= 1 << (seq & 63) }
func (s *seqSet) remove(seq uint8)   { s[seq>>6] &^= 1 << (seq & 63) }

func (s *seqSet) len() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}
