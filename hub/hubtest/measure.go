package hubtest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
)

// HeapEnv names a folder for a heap profile of each report of a process on its
// memory: heap-1.pprof, heap-2.pprof, …
const HeapEnv = "TETHERLINE_TEST_HEAPPROFILES"

// Memory of a process, in bytes, right after garbage was collected and free
// memory given back to the system.
type Memory struct {
	RSS    int64 // resident set
	Heap   int64 // live objects
	Stacks int64
	Spans  int64 // heap spans in use, which hold the objects
	System int64 // all that the Go runtime has from the system and has not given back
}

// memoryFile is where a process says what it takes, in the folder that it was
// given.
const memoryFile = "memory.json"

// reportMemory collects garbage and writes the Memory of this process.
func reportMemory(dir string) error {
	runtime.GC()
	debug.FreeOSMemory()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m := Memory{
		Heap: int64(s.HeapAlloc), Stacks: int64(s.StackInuse), Spans: int64(s.HeapInuse),
		System: int64(s.Sys - s.HeapReleased),
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(statm)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			m.RSS = pages * int64(os.Getpagesize())
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := profileHeap(); err != nil {
		return err
	}
	file := filepath.Join(dir, memoryFile)
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// profileHeap writes the next profile that HeapEnv asks for.
func profileHeap() error {
	dir := os.Getenv(HeapEnv)
	if dir == "" {
		return nil
	}
	for n := 1; ; n++ {
		file, err := os.OpenFile(filepath.Join(dir, "heap-"+strconv.Itoa(n)+".pprof"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		return errors.Join(pprof.WriteHeapProfile(file), file.Close())
	}
}

// readMemory has ask make a process report into dir, and returns its word.
func readMemory(t testing.TB, dir string, ask func()) (m Memory) {
	t.Helper()
	file := filepath.Join(dir, memoryFile)
	_ = os.Remove(file)
	ask()
	Eventually(t, "a process reports its memory", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(text, &m) == nil
	})
	return m
}
