package mqttbridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// openRedelivery opens the file, or makes it.
func openRedelivery(path string, anew bool) (*redelivery, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the memory of redeliveries: %w", err)
	}
	r := &redelivery{file: f, anew: anew, slots: make([]slot, packetIDs), given: make([]bool, packetIDs), spare: packetIDs, next: packetIDs - 1}
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
	r.begin(nil, true)
	return r, nil
}

// ackedBit of a stored time: the sign, which a time of our days has not.
const ackedBit = -1 << 63

func (r *redelivery) close() error { return r.file.Close() }

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
