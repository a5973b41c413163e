package mqttbridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tetherline/tetherline/hub/natsd"
)

// earlyJournal is the file of messages that wait for what describes them, so
// that the broker may be told that they have arrived: what is retained, and
// describes them, comes behind them, and most brokers send no more than some
// messages ahead of acknowledgements.
//
// It is written at its end: a record for each message, and one when it is
// done with. A record is its length and CRC-32C (4 bytes each, little endian),
// then its kind, the number of the message (8 bytes) and, of a message, the
// time of arrival in ns (8 bytes), the lengths of the profile's name and of
// the topic (2 bytes each), where there is a note its length (4 bytes), and
// those and the payload. What is behind a record
// that is not whole was never acknowledged. A file in which nobody waits is
// emptied; one in which few do is written anew.
//
// It is for one goroutine.
type earlyJournal struct {
	path string
	file *os.File
	size int64 // of what is good
	live int64 // bytes of records of messages that wait
	next uint64

	unwritten []byte
	unsynced  bool // a message is among what was not synced
}

// earlyRecord is a message in the journal.
type earlyRecord struct {
	id      uint64
	at      int64 // time of arrival, Unix ns
	profile string
	topic   string
	payload []byte
	note    []byte // of the profile; nil: none
}

const (
	earlyHead  = 8 // of a record: length and checksum
	earlyAdded = 1 // kinds of records
	earlyDone  = 2
	earlyNoted = 3 // earlyAdded with a note
	earlyFixed = 1 + 8 + 8 + 2 + 2

	earlyNoteHead = 4

	earlyRewrite = 4 << 20 // bytes, of a file that is worth writing anew
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openEarlyJournal opens the file, or makes it, and returns the messages that
// wait, in their order. What cannot be read of it is left out.
func openEarlyJournal(path string) (*earlyJournal, []earlyRecord, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the journal of early messages: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the journal of early messages: %w", err)
	}
	if err := natsd.SyncFolder(filepath.Dir(path)); err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("journal of early messages: %w", err)
	}
	j := &earlyJournal{path: path, file: f, next: 1}
	var all []earlyRecord
	place := make(map[uint64]int)
	for rest := text; ; {
		kind, r, n := readEarlyRecord(rest)
		if n == 0 {
			break
		}
		rest = rest[n:]
		j.size += int64(n)
		j.next = max(j.next, r.id+1)
		if i, known := place[r.id]; kind == earlyDone && known {
			j.live -= all[i].size()
			all[i].topic = ""
			continue
		}
		if kind == earlyAdded || kind == earlyNoted {
			place[r.id] = len(all)
			all = append(all, r)
			j.live += r.size()
		}
	}
	if err := f.Truncate(j.size); err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("cut the journal of early messages: %w", err)
	}
	waiting := all[:0]
	for _, r := range all {
		if r.topic != "" {
			waiting = append(waiting, r)
		}
	}
	return j, waiting, nil
}

// readEarlyRecord reads the first record; n is 0 where none is whole.
func readEarlyRecord(from []byte) (kind byte, r earlyRecord, n int) {
	if len(from) < earlyHead {
		return 0, r, 0
	}
	length := int64(binary.LittleEndian.Uint32(from))
	if length < 9 || int64(len(from)-earlyHead) < length {
		return 0, r, 0
	}
	body := from[earlyHead : earlyHead+length]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(from[4:]) {
		return 0, r, 0
	}
	n = earlyHead + int(length)
	kind, r.id = body[0], binary.LittleEndian.Uint64(body[1:])
	if kind != earlyAdded && kind != earlyNoted {
		return kind, r, n
	}
	if length < earlyFixed {
		return 0, r, 0
	}
	note := 0
	r.at = int64(binary.LittleEndian.Uint64(body[9:]))
	profile, topic := int(binary.LittleEndian.Uint16(body[17:])), int(binary.LittleEndian.Uint16(body[19:]))
	if body = body[earlyFixed:]; kind == earlyNoted {
		if len(body) < earlyNoteHead {
			return 0, r, 0
		}
		note, body = int(binary.LittleEndian.Uint32(body)), body[earlyNoteHead:]
	}
	if len(body) < profile+topic+note {
		return 0, r, 0
	}
	r.profile, body = string(body[:profile]), body[profile:]
	r.topic, body = string(body[:topic]), body[topic:]
	if r.payload = body[note:]; note > 0 {
		r.note = body[:note]
	}
	return kind, r, n
}

// size of the record in the file.
func (r *earlyRecord) size() int64 {
	n := earlyHead + earlyFixed + len(r.profile) + len(r.topic) + len(r.payload)
	if len(r.note) > 0 {
		n += earlyNoteHead + len(r.note)
	}
	return int64(n)
}

// add a message, with the number that it gets here. It is durable after sync.
func (j *earlyJournal) add(r *earlyRecord) {
	r.id = j.next
	j.next++
	b := make([]byte, 0, r.size()-earlyHead)
	kind := byte(earlyAdded)
	if len(r.note) > 0 {
		kind = earlyNoted
	}
	b = binary.LittleEndian.AppendUint64(append(b, kind), r.id)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.at))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.profile)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.topic)))
	if len(r.note) > 0 {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r.note)))
	}
	b = append(append(append(b, r.profile...), r.topic...), r.note...)
	j.record(append(b, r.payload...))
	j.live += r.size()
	j.unsynced = true
}

// done with a message: it is not there any more after the next flush.
func (j *earlyJournal) done(r *earlyRecord) {
	j.record(binary.LittleEndian.AppendUint64([]byte{earlyDone}, r.id))
	j.live -= r.size()
}

func (j *earlyJournal) record(body []byte) {
	j.unwritten = binary.LittleEndian.AppendUint32(j.unwritten, uint32(len(body)))
	j.unwritten = binary.LittleEndian.AppendUint32(j.unwritten, crc32.Checksum(body, castagnoli))
	j.unwritten = append(j.unwritten, body...)
}

// sync makes what was added durable. After an error nothing of it counts as
// that, and the next call tries again.
func (j *earlyJournal) sync() error {
	if !j.unsynced {
		return nil
	}
	return j.write(j.file.Sync)
}

// write what was not; after an error it is written again.
func (j *earlyJournal) write(sync func() error) error {
	if _, err := j.file.WriteAt(j.unwritten, j.size); err != nil {
		return fmt.Errorf("write the journal of early messages: %w", err)
	}
	if err := sync(); err != nil {
		return fmt.Errorf("sync the journal of early messages: %w", err)
	}
	j.size += int64(len(j.unwritten))
	j.unwritten, j.unsynced = j.unwritten[:0], false
	return nil
}

// flush writes what was done. waiting are the messages that are not, all of
// which are in the journal.
func (j *earlyJournal) flush(waiting func(yield func(*earlyRecord) bool)) error {
	switch {
	case j.unsynced || len(j.unwritten) == 0 && (j.live > 0 || j.size == 0):
		return nil
	case j.live == 0:
		if err := j.file.Truncate(0); err != nil {
			return fmt.Errorf("empty the journal of early messages: %w", err)
		}
		j.size, j.unwritten = 0, nil
		return nil
	}
	if err := j.write(func() error { return nil }); err != nil || j.size < earlyRewrite || j.live > j.size/2 {
		return err
	}
	return j.rewrite(waiting)
}

// rewrite the file with those alone that wait, whole or not at all.
func (j *earlyJournal) rewrite(waiting func(yield func(*earlyRecord) bool)) error {
	f, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the journal of early messages anew: %w", err)
	}
	anew := &earlyJournal{path: j.path, file: f, next: j.next}
	for r := range waiting {
		anew.next = r.id
		anew.add(r)
	}
	anew.next = j.next
	if err = anew.sync(); err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("write the journal of early messages anew: %w", err)
	}
	_ = j.file.Close()
	*j = *anew
	return natsd.SyncFolder(filepath.Dir(j.path))
}

func (j *earlyJournal) close() error { return j.file.Close() }
