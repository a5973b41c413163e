package mqttbridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxMarks is how many markers of commands are remembered as come back.
const maxMarks = 1024

// marks remember the last markers of commands that came back, in a file that
// is written without fsync: it outlives the process, and so does a command
// that waits for its answer. It is for one goroutine.
type marks struct {
	file *os.File
	all  [maxMarks]uint64 // hashes
	next int
}

func openMarks(path string) (*marks, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the memory of markers: %w", err)
	}
	m := &marks{file: f}
	b := make([]byte, 8*maxMarks)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		_ = f.Close()
		return nil, fmt.Errorf("read the memory of markers: %w", err)
	}
	for i := range n / 8 {
		m.all[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	m.next = n / 8 % maxMarks
	return m, nil
}

// came notes that a marker has come back. Without the file a command of an
// ended process is TIMED_OUT, and nothing worse.
func (m *marks) came(mark string) error {
	hash := messageHash(mark, nil)
	m.all[m.next] = hash
	_, err := m.file.WriteAt(binary.LittleEndian.AppendUint64(nil, hash), int64(8*m.next))
	m.next = (m.next + 1) % maxMarks
	return err
}

func (m *marks) has(mark string) bool {
	hash := messageHash(mark, nil)
	for _, h := range m.all {
		if h == hash {
			return true
		}
	}
	return false
}

func (m *marks) close() error { return m.file.Close() }
