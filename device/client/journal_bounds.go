package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// expire keeps the journal within its bounds, and rewrites its file when most
// of it is history.
func (j *journal) expire(now time.Time) {
	oldest := now.Add(-journalAge).Unix()
	if !now.After(plausible) {
		oldest = 0 // no age without a clock
	}
	excess := len(j.order) - journalIDs + 1
	j.order = slices.DeleteFunc(j.order, func(e *entry) bool {
		settled := e.live == nil && e.end != nil && e.acked
		stuck := e.live == nil && e.end != nil && excess > journalIDs
		if !(settled && (excess > 0 || e.delivered < oldest) || stuck) {
			return false
		}
		excess--
		j.results -= len(e.end)
		delete(j.entries, e.id)
		return true
	})
	for _, e := range j.order {
		if j.results <= journalBytes {
			break
		}
		if e.acked && e.end != nil && !e.short {
			e.short = true
			j.setEnd(e, withoutResult(e.end))
		}
	}
}

// withoutResult is the end without its payload.
func withoutResult(end []byte) []byte {
	u := new(devicev1.CommandUpdate)
	if proto.Unmarshal(end, u) != nil || u.Result == nil {
		return end
	}
	u.Result = nil
	short, err := proto.Marshal(u)
	if err != nil {
		return end
	}
	return short
}

// compact rewrites the file where it has far more records than are alive. The
// old file stays in use where that fails.
func (j *journal) compact() error {
	if j.file == nil || j.records < 4*len(j.order)+256 {
		return nil
	}
	var data []byte
	records := 0
	put := func(kind byte, payload []byte) {
		data = appendRecord(data, kind, payload)
		records++
	}
	for _, e := range j.order {
		put(recordDelivered, append(binary.BigEndian.AppendUint64(nil, uint64(e.delivered)), e.id...))
		if e.restart {
			put(recordRestart, []byte(e.id))
		}
		if e.end != nil {
			put(recordEnd, e.end)
		}
		if e.acked {
			put(recordAcked, []byte(e.id))
		}
	}
	return j.replace(data, records)
}

// replace puts a new file in the place of the journal's. It is locked before
// it has the name, so that there is no moment without a lock.
func (j *journal) replace(data []byte, records int) error {
	tmp := j.path + ".new"
	_ = os.Remove(tmp)
	file, err := lockFile(tmp)
	if err != nil {
		return fmt.Errorf("command journal: compact: %w", err)
	}
	_, err = file.WriteAt(data, 0)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, j.path)
	}
	if err != nil {
		return fmt.Errorf("command journal: compact: %w", errors.Join(err, file.Close(), os.Remove(tmp)))
	}
	old := j.file
	j.file, j.size, j.records = file, int64(len(data)), records
	return errors.Join(old.Close(), syncDir(filepath.Dir(j.path)))
}
