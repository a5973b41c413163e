package mqttbridge

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
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
// A broker may also give a repetition another identifier (the embedded one
// does after a reconnect): then the slots are searched for the message.
//
// It is for one goroutine.
type redelivery struct {
	file  *os.File
	slots []slot
	used  int // slots below which all are that were ever used

	changed []uint16 // slots to be written
	scratch []byte
}

type slot struct {
	hash  uint64 // of topic and payload; 0: never used
	time  int64  // of arrival, Unix ns
	acked bool   // its acknowledgement has been sent: another message may come under the identifier
	// heard since the last reconnect, under this or another identifier: no
	// repetition that comes now can be meant.
	heard bool
}

// openRedelivery opens the file, or makes it.
func openRedelivery(path string) (*redelivery, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the memory of redeliveries: %w", err)
	}
	r := &redelivery{file: f, slots: make([]slot, packetIDs)}
	b := make([]byte, packetIDs*slotBytes)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		_ = f.Close()
		return nil, fmt.Errorf("read the memory of redeliveries: %w", err)
	}
	for id := range n / slotBytes {
		at := b[id*slotBytes:]
		s := slot{hash: binary.LittleEndian.Uint64(at), time: int64(binary.LittleEndian.Uint64(at[8:]))}
		if s.hash != 0 {
			s.acked = s.time < 0
			s.time &= math.MaxInt64
			r.slots[id], r.used = s, id+1
		}
	}
	return r, nil
}

// ackedBit of a stored time: the sign, which a time of our days has not.
const ackedBit = -1 << 63

func (r *redelivery) close() error { return r.file.Close() }

// reconnected: what comes next may be repeated.
func (r *redelivery) reconnected() {
	for id := range r.slots[:r.used] {
		r.slots[id].heard = false
	}
}

// messageHash is never 0.
func messageHash(topic string, payload []byte) uint64 {
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
	if dup && s.hash == hash {
		s.heard = true
		return s.time
	}
	next := slot{hash: hash, heard: true}
	if other := r.search(dup, hash); other != nil {
		other.heard = true
		next.time = other.time
	} else {
		next.time = fresh()
	}
	*s = next
	r.used = max(r.used, int(id)+1)
	r.changed = append(r.changed, id)
	return next.time
}

// search finds the message under another identifier: rather one that was not
// acknowledged, of these the oldest.
func (r *redelivery) search(dup bool, hash uint64) *slot {
	if !dup {
		return nil
	}
	var found *slot
	for id := range r.slots[:r.used] {
		s := &r.slots[id]
		if s.hash != hash || s.heard {
			continue
		}
		if found == nil || found.acked && !s.acked || found.acked == s.acked && s.time < found.time {
			found = s
		}
	}
	return found
}

// acked says that the message under id is about to be acknowledged. It is to
// be written before that.
func (r *redelivery) acked(id uint16, hash uint64) {
	if s := &r.slots[id]; s.hash == hash && !s.acked {
		s.acked = true
		r.changed = append(r.changed, id)
	}
}

// writeGap is up to how many slots between two that have changed are written
// with them.
const writeGap = 64

// write the slots that have changed since the last time: mostly one run, as
// brokers count their packet identifiers up. What an error leaves unwritten
// stays so, until it changes again.
func (r *redelivery) write() error {
	if len(r.changed) == 0 {
		return nil
	}
	slices.Sort(r.changed)
	var failed error
	for first := 0; first < len(r.changed); {
		last := first
		for last+1 < len(r.changed) && int(r.changed[last+1])-int(r.changed[last]) <= writeGap {
			last++
		}
		if err := r.writeRun(r.changed[first], r.changed[last]); err != nil {
			failed = fmt.Errorf("write the memory of redeliveries: %w", err)
		}
		first = last + 1
	}
	r.changed = r.changed[:0]
	return failed
}

func (r *redelivery) writeRun(first, last uint16) error {
	b := r.scratch[:0]
	for _, s := range r.slots[first : int(last)+1] {
		at := s.time
		if s.acked {
			at |= ackedBit
		}
		b = binary.LittleEndian.AppendUint64(b, s.hash)
		b = binary.LittleEndian.AppendUint64(b, uint64(at))
	}
	r.scratch = b
	_, err := r.file.WriteAt(b, int64(first)*slotBytes)
	return err
}
