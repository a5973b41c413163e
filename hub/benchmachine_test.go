package hub_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// diskTrip is a file on the disk that hubs write to.
type diskTrip struct{ file *os.File }

func newDiskTrip(b *testing.B) diskTrip {
	file, err := os.Create(filepath.Join(b.TempDir(), "appended"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() })
	return diskTrip{file}
}

func (d diskTrip) trip(b *testing.B) time.Duration {
	began := time.Now()
	if _, err := d.file.Write(make([]byte, 4<<10)); err != nil {
		b.Fatal(err)
	}
	if err := d.file.Sync(); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// cpuTime that a process has used, to 10 ms; 0 where there is no /proc.
func cpuTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may have spaces.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
