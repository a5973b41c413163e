package mqttbridge

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"time"
)

const (
	packetIDs = 1 << 16 // of MQTT, 0 is none
	slotBytes = 16
)

// redelivery remembers, for each packet identifier of a broker's session, the
// message that came under it last and when. A broker that is not sure whether
// a message has arrived sends it again, marked DUP, under the same identifier;
// most gear sends no time, so the time of arrival is the row's, and only with
// the first one is the repetition the same row.
//
// It is a file of one slot for each identifier, written without fsync before
// the message's rows are appended: it outlives the process, which is what
// repetitions come from. After a power cut a repetition may be a second row.
//
// The words of a message alone say little: a switch or a thermometer sends the
// same ones again and again, and a new message must not be taken for an older
// one, for that would lose a reading, where the other mistake has one twice.
// A slot whose message was not acknowledged cannot belong to another. One that
// was acknowledged can, where the broker gives identifiers again at once, and
// is repeated only where the acknowledgement was lost: it counts as long as
// the broker was seen to count identifiers up, as most do.
//
// The embedded broker (anew) gives repetitions other identifiers, and new
// messages the old ones before: it begins to count anew with each start. Then
// the slots are searched for the message, and what may still be repeated is
// moved out of the way of new messages. Where it was killed with the hub, it
// has forgotten what it sent last, and repeats it without a mark: in a session
// that goes on, a message which was heard and not acknowledged must come
// again, so that one with the same words is taken for it, and however many of
// the same words there are, their number is right. It may have forgotten
// acknowledgements as well; nothing tells what was acknowledged from a new
// message with the same words, and it becomes a second row.
//
// It is for one goroutine.
type redelivery struct {
	file    *os.File
	anew    bool   // identifiers say nothing after a start of the broker
	slots   []slot // that of identifier 0 says whether the broker gives identifiers again at once
	given   []bool // in this session
	givenN  int    // how many of given
	session *link  // whose messages are heard now
	resumed bool   // that the broker went on with an older one
	// What was acknowledged and came before this time is not repeated.
	over int64
	last int64 // the newest time of arrival
	// Hashes of what comes again, marked or not; some may have come already.
	unacked map[uint64]struct{}
	// Slots from 0 to used and from spare on are all that were ever used.
	used, spare int
	next        int // where to look for room next, going down

	changed []uint16 // slots to be written
	scratch []byte
}

// The acknowledgements of this long may be lost with a connection; no broker
// is thought to repeat what came so long before the newest message.
const (
	lostAcks  = int64(time.Minute) // a dead link is noticed within two keep-alives
	forgotten = int64(7 * 24 * time.Hour)
)

// againMark is the hash of slot 0 once the broker has given an identifier again
// with most not given since. That stays, whatever is seen later.
const againMark = 1

// roundTrip is less than any broker takes to give all identifiers.
const roundTrip = int64(time.Second)

type slot struct {
	hash  uint64 // of topic and payload; 0: never used
	time  int64  // of arrival, Unix ns
	acked bool   // its acknowledgement has been sent: another message may come under the identifier
	// heard since the last reconnect, under this or another identifier: no
	// repetition that comes now can be meant.
	heard bool
}

// begin a session: what comes next may be repeated. A broker that has
// forgotten the session before repeats nothing of it.
func (r *redelivery) begin(session *link, resumed bool) {
	r.session, r.resumed = session, resumed
	r.unacked = make(map[uint64]struct{})
	clear(r.given)
	r.givenN = 0
	for id := 1; id < len(r.slots); id++ {
		s := &r.slots[id]
		s.heard = false
		r.last = max(r.last, s.time)
		switch {
		case s.hash == 0:
		case !resumed:
			r.set(id, slot{})
		case !s.acked:
			r.unacked[s.hash] = struct{}{}
		}
	}
	r.over = r.last - lostAcks
}

// saw that the broker gave an identifier to a new message, and learns of it.
func (r *redelivery) saw(id uint16) {
	if r.given[id] {
		if r.givenN < packetIDs/2 {
			if r.slots[0].hash != againMark {
				r.set(0, slot{hash: againMark})
			}
			return
		}
		clear(r.given) // it has counted all through them
		r.givenN = 0
	}
	r.given[id] = true
	r.givenN++
}

// repeated says whether a message that is marked so is the one of the slot
// with its identifier and its words. Where the identifier before was given
// later than this one, the broker has counted all through them, and comes to
// this one again. A broker that never gave any but the first one may give that
// one always.
func (r *redelivery) repeated(id uint16) bool {
	s, before := &r.slots[id], &r.slots[packetIDs-1]
	if id > 1 {
		before = &r.slots[id-1]
	}
	counts := !r.anew && r.slots[0].hash != againMark && r.used > 2
	return !s.acked || counts && s.time >= r.over && before.time <= s.time+roundTrip
}

// awaited says whether the message of a slot may be repeated.
func (r *redelivery) awaited(s *slot) bool {
	return s.hash != 0 && !s.heard && !s.acked && r.resumed && s.time >= r.over-forgotten
}

// messageHash is never 0.
func messageHash(topic string, payload []byte) uint64 {
	var room [512]byte
	if len(topic)+1+len(payload) <= len(room) {
		all := append(append(append(room[:0], topic...), 0), payload...) // 0 is in no topic
		sum := sha256.Sum256(all)
		return max(binary.LittleEndian.Uint64(sum[:]), 1)
	}
	h := sha256.New()
	_, _ = io.WriteString(h, topic)
	_, _ = h.Write([]byte{0}) // in no topic
	_, _ = h.Write(payload)
	var sum [sha256.Size]byte
	return max(binary.LittleEndian.Uint64(h.Sum(sum[:0])), 1)
}

// arrival is when a message of QoS 1 came first. fresh makes that time for one
// that is not known. It is to be written before the rows are appended.
func (r *redelivery) arrival(id uint16, dup bool, hash uint64, fresh func() int64) int64 {
	s := &r.slots[id]
	if !dup {
		r.saw(id)
	}
	if dup && s.hash == hash && r.repeated(id) {
		s.heard = true
		return s.time
	}
	next := slot{hash: hash, heard: true}
	if other := r.search(hash); other < 0 {
		next.time = fresh()
	} else {
		next.time = r.slots[other].time
		r.set(other, slot{})
	}
	if r.anew && r.awaited(s) {
		r.move(*s)
	}
	r.last = max(r.last, next.time)
	r.used = max(r.used, int(id)+1)
	r.set(int(id), next)
	return next.time
}

func (r *redelivery) set(id int, s slot) {
	r.slots[id] = s
	r.changed = append(r.changed, uint16(id))
}

// search finds the slot of a message that was not acknowledged under another
// identifier, the oldest of them. -1: there is none.
func (r *redelivery) search(hash uint64) int {
	if _, unacked := r.unacked[hash]; !r.anew || !unacked {
		return -1
	}
	found := -1
	look := func(from, to int) {
		for id := from; id < to; id++ {
			s := &r.slots[id]
			if s.hash == hash && !s.heard && !s.acked && (found < 0 || s.time < r.slots[found].time) {
				found = id
			}
		}
	}
	look(1, min(r.used, r.spare))
	look(max(r.spare, 1), packetIDs)
	return found
}

// move keeps a message that may be repeated where no message is that may be.
// Where there is no such room, a repetition of it becomes a second row.
func (r *redelivery) move(s slot) {
	for range packetIDs {
		id := r.next
		if r.next--; r.next < 1 {
			r.next = packetIDs - 1
		}
		if old := &r.slots[id]; !old.heard && !r.awaited(old) {
			r.spare = min(r.spare, id)
			r.set(id, s)
			return
		}
	}
}

// acked says that the message under id is about to be acknowledged. It is to
// be written before that.
func (r *redelivery) acked(id uint16, hash uint64) {
	if s := &r.slots[id]; s.hash == hash && !s.acked {
		s.acked = true
		r.changed = append(r.changed, id)
	}
}
