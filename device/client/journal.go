package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Bounds of the journal. A command that has no end, or whose end the hub has
// not acknowledged, is kept beyond them, but for the last: those are dropped
// when there are more than twice journalIDs.
const (
	journalIDs   = 1024
	journalAge   = 30 * 24 * time.Hour
	journalBytes = 1 << 20 // of acknowledged results
)

// journal remembers command ids and how the commands ended. A record of its
// file is: length of the payload 4, CRC-32C of the payload 4, payload; the
// payload is a type byte and its data. Numbers are big endian.
type journal struct {
	path    string
	file    *os.File // nil: in memory only
	entries map[string]*entry
	order   []*entry // oldest first
	size    int64
	results int // bytes of ends
	records int // in the file
	torn    int64
}

// entry is one command id.
type entry struct {
	id        string
	delivered int64 // Unix time in s
	restart   bool  // begun, and ends well with the process
	end       []byte
	acked     bool
	short     bool // the payload of the end is let go
	live      *job // of this process; nil: none

	tell    uint8 // what the hub is to hear
	endSent time.Time
}

// Types of records.
const (
	recordDelivered = 'D' // time 8, id
	recordRestart   = 'R' // id
	recordEnd       = 'E' // CommandUpdate
	recordAcked     = 'A' // id

	journalHeaderBytes = 8
	maxJournalRecord   = 32 << 10
)

// openJournal reads the journal at path; "" keeps one in memory.
func openJournal(path string) (*journal, error) {
	j := &journal{path: path}
	if path == "" {
		return j, nil
	}
	file, err := lockFile(path)
	if err != nil {
		return nil, fmt.Errorf("command journal %s: %w", path, err)
	}
	j.file = file
	data, err := io.ReadAll(file)
	if err == nil {
		j.size = j.read(data)
		if j.torn = int64(len(data)) - j.size; j.torn > 0 {
			err = errors.Join(file.Truncate(j.size), file.Sync())
		}
	}
	if err == nil {
		err = syncDir(filepath.Dir(path)) // the file may be new
	}
	if err != nil {
		return nil, fmt.Errorf("command journal %s: %w", path, errors.Join(err, file.Close()))
	}
	return j, nil
}

// read replays records up to the first that is torn, and returns their bytes.
func (j *journal) read(data []byte) int64 {
	rest := data
	for len(rest) >= journalHeaderBytes {
		n := binary.BigEndian.Uint32(rest)
		if n == 0 || n > maxJournalRecord || int(n) > len(rest)-journalHeaderBytes {
			break
		}
		payload := rest[journalHeaderBytes : journalHeaderBytes+n]
		if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(rest[4:]) {
			break
		}
		j.replay(payload[0], payload[1:])
		rest = rest[journalHeaderBytes+n:]
	}
	return int64(len(data) - len(rest))
}

func (j *journal) replay(kind byte, data []byte) {
	j.records++
	switch kind {
	case recordDelivered:
		if len(data) > 8 {
			j.enter(string(data[8:]), int64(binary.BigEndian.Uint64(data)))
		}
	case recordRestart:
		if e := j.entries[string(data)]; e != nil {
			e.restart = true
		}
	case recordEnd:
		u := new(devicev1.CommandUpdate)
		if proto.Unmarshal(data, u) == nil {
			if e := j.entries[u.Id]; e != nil {
				j.setEnd(e, slices.Clone(data))
			}
		}
	case recordAcked:
		if e := j.entries[string(data)]; e != nil {
			e.acked = true
		}
	}
}

func (j *journal) enter(id string, at int64) *entry {
	if e := j.entries[id]; e != nil {
		return e
	}
	if j.entries == nil {
		j.entries = make(map[string]*entry)
	}
	e := &entry{id: id, delivered: at}
	j.entries[id] = e
	j.order = append(j.order, e)
	return e
}

func (j *journal) setEnd(e *entry, end []byte) {
	j.results += len(end) - len(e.end)
	e.end = end
}

// deliver remembers a new id, durably.
func (j *journal) deliver(id string, now time.Time) (*entry, error) {
	j.expire(now)
	at := now.Unix()
	data := binary.BigEndian.AppendUint64(nil, uint64(at))
	if err := j.write(recordDelivered, append(data, id...), true); err != nil {
		return nil, err
	}
	return j.enter(id, at), nil
}

// begin notes that the end of the process is the command's success, durably.
func (j *journal) begin(e *entry) error {
	if err := j.write(recordRestart, []byte(e.id), true); err != nil {
		return err
	}
	e.restart = true
	return nil
}

// finish records the end, durably. It is set even where it cannot be written.
func (j *journal) finish(e *entry, u *devicev1.CommandUpdate) error {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(u)
	if err != nil {
		return fmt.Errorf("command journal: encode: %w", err)
	}
	j.setEnd(e, data)
	return j.write(recordEnd, data, true)
}

// acknowledge notes that the hub has the end. It need not be durable: the end
// would be sent once more.
func (j *journal) acknowledge(e *entry) error {
	e.acked = true
	return j.write(recordAcked, []byte(e.id), false)
}

func (j *journal) write(kind byte, data []byte, sync bool) error {
	if j.file == nil {
		return nil
	}
	record := appendRecord(nil, kind, data)
	_, err := j.file.WriteAt(record, j.size)
	if err == nil && sync {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("command journal: write: %w", errors.Join(err, j.file.Truncate(j.size)))
	}
	j.size += int64(len(record))
	j.records++
	return nil
}

func appendRecord(b []byte, kind byte, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(1+len(data)))
	crc := crc32.Update(crc32.Checksum([]byte{kind}, castagnoli), castagnoli, data)
	b = binary.BigEndian.AppendUint32(b, crc)
	b = append(b, kind)
	return append(b, data...)
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return errors.Join(j.file.Sync(), j.file.Close())
}
